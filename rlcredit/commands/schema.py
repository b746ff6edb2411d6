"""Typed configs: every component's class is its own Hydra schema.

YAML chooses and sets; classes declare and check. ``schema`` turns a frozen dataclass into a mutable
twin (OmegaConf makes frozen ones read-only) whose ``_target_`` is the class itself, so a typo or a
wrong type fails while composing, and an empty config builds the class's own defaults.
"""

import dataclasses
import json
from copy import copy
from dataclasses import dataclass, field, make_dataclass
from functools import partial
from hashlib import blake2b
from types import ModuleType
from typing import Any, get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf

from rlcredit import (
    data,
    estimators,
    losses,
    policy,
    retrieval,
    rewards,
    rollout,
    tables,
    text,
    tracking,
    trainer,
)
from rlcredit.trainer.settings import EvaluationSettings, Resume

COMPONENTS: dict[str, ModuleType] = {
    "estimator": estimators,
    "loss": losses,
    "segmenter": text,
    "retriever": retrieval,
    "encoder": retrieval,
    "reward": rewards,
    "dataset": data,
    "policy": policy,
    "rollout": rollout,
    "trainer": trainer,
    "tracker": tracking,
    "table": tables,
}
"""Config group -> the package whose public dataclasses are its components."""


@dataclass
class TrainConfig:
    """The root of ``conf/train.yaml``. Every node but the scalars is one component."""

    seed: int = 0
    resume: Resume = Resume.auto
    cache: str = "outputs/cache"
    """Folder for what can be made again: tokenizers, warm starts, document embeddings."""
    policy: Any = MISSING
    estimator: Any = MISSING
    loss: Any = MISSING
    dataset: Any = MISSING
    retriever: Any = MISSING
    reward: Any = MISSING
    segmenter: Any = MISSING
    encoder: Any = MISSING
    rollout: Any = MISSING
    trainer: Any = MISSING
    tracker: Any = MISSING
    evaluation: Any = MISSING
    table: Any = None
    """Declared by conf/experiment/table_*.yaml alone; ``rlcredit tables`` reads it."""


def schema(cls: type) -> type:
    """The fields of a component with their defaults, and its import path as ``_target_``.

    A field without a default becomes mandatory and untyped: another component is mounted there.
    """
    hints = get_type_hints(cls)
    columns: list[Any] = [("_target_", str, field(default=f"{cls.__module__}.{cls.__qualname__}"))]
    for f in (f for f in dataclasses.fields(cls) if f.init):
        default = f.default
        if f.default_factory is not dataclasses.MISSING:
            default = f.default_factory()
        if default is dataclasses.MISSING:
            columns.append((f.name, Any, field(default=MISSING)))
        elif dataclasses.is_dataclass(default) and not isinstance(default, type):
            twin, values = schema(type(default)), vars(default)
            columns.append((f.name, twin, field(default_factory=partial(twin, **values))))
        elif isinstance(default, list | dict):
            hint = _twins(hints[f.name])
            columns.append((f.name, hint, field(default_factory=partial(copy, default))))
        else:
            columns.append((f.name, hints[f.name], field(default=default)))
    return make_dataclass(f"{cls.__name__}Schema", columns)


def _twins(hint: Any) -> Any:
    """``dict[str, Component]`` with the component's schema in its place; other hints unchanged."""
    key, value = (*get_args(hint), None, None)[:2]
    if get_origin(hint) is dict and dataclasses.is_dataclass(value) and isinstance(value, type):
        return dict[key, schema(value)]  # pyright: ignore[reportInvalidTypeForm]
    return hint


def components(package: ModuleType) -> list[type]:
    """The public dataclasses of a package."""
    public = (getattr(package, name) for name in package.__all__)
    return [cls for cls in public if isinstance(cls, type) and dataclasses.is_dataclass(cls)]


def register() -> None:
    """Store the root schema, ``schema/<group>/<classname>`` for every component, the resolvers."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig(evaluation=schema(EvaluationSettings)()))
    for group, package in COMPONENTS.items():
        for cls in components(package):
            store.store(group=f"schema/{group}", name=cls.__name__.lower(), node=schema(cls))
    for resolver in (run_folder, run_subfolder):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)


IDENTITY = (
    "seed",
    "policy",
    "estimator",
    "loss",
    "retriever",
    "reward",
    "segmenter",
    "encoder",
    "rollout",
)
"""Nodes that enter a run's digest whole."""
IDENTITY_OF_TRAINER = (
    "steps",
    "prompts_per_step",
    "group_size",
    "updates_per_batch",
    "max_advantage",
    "optimizer",
)
"""Of the trainer, what changes the numbers; not devices, micro-batches, checkpoints."""


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def run_identity(cfg: DictConfig) -> dict[str, Any]:
    """Everything that a run's numbers depend on, as plain values.

    The data enter by what they contain (``Dataset.fingerprint``), not by where they lie; trackers,
    paths, process layout, micro-batches, caches and evaluations stay out.
    """
    return _settings(cfg) | {"data": instantiate(cfg.dataset, _convert_="all").fingerprint()}


def run_digest(cfg: DictConfig) -> str:
    """Hash of a run's identity; two runs of one digest are the same run."""
    return _hash(run_identity(cfg))


def settings_digest(cfg: DictConfig) -> str:
    """Hash of what a run's numbers depend on besides its seed, retriever and data."""
    settings = _settings(cfg)
    return _hash({name: settings[name] for name in settings if name not in ("seed", "retriever")})


def _settings(cfg: DictConfig) -> dict[str, Any]:
    """A run's identity without its data."""
    chosen = {name: _plain(cfg[name]) for name in IDENTITY}
    chosen["reward"] = {key: value for key, value in chosen["reward"].items() if key != "cache"}
    if chosen["reward"].get("shortcut") is None:  # later than the digests without it, which stay
        chosen["reward"].pop("shortcut", None)
    chosen["trainer"] = {name: _plain(cfg.trainer[name]) for name in IDENTITY_OF_TRAINER}
    if cfg.trainer.autocast:  # later than the digests of runs without it, which stay as they were
        chosen["trainer"]["autocast"] = True
    if cfg.trainer.mismatch.correction is not None:  # the same
        chosen["trainer"]["mismatch"] = _plain(cfg.trainer.mismatch)
    if cfg.trainer.compute_dtype is not None:  # the same
        chosen["trainer"]["compute_dtype"] = _plain(cfg.trainer.compute_dtype)
    return chosen


def evaluation_digest(cfg: DictConfig) -> str:
    """Hash of how a run is evaluated, apart from the run itself."""
    return _hash(_plain(cfg.evaluation))


def run_subfolder(*, _root_: DictConfig) -> str:
    """``<dataset>/<estimator>/seed<k>-<digest8>``: where a run lies under ``outputs/``."""
    choices = _root_.hydra.runtime.choices
    return f"{choices.dataset}/{choices.estimator}/seed{_root_.seed}-{run_digest(_root_)[:8]}"


def run_folder(*, _root_: DictConfig) -> str:
    """The default of ``hydra.run.dir``."""
    return f"outputs/{run_subfolder(_root_=_root_)}"


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
