"""Typed configs: every component's class is its own Hydra schema.

YAML chooses and sets; classes declare and check. ``schema`` turns a frozen dataclass into a mutable
twin (OmegaConf makes frozen ones read-only) whose ``_target_`` is the class itself, so a typo or a
wrong type fails while composing, and an empty config builds the class's own defaults.
"""

import dataclasses
from copy import copy
from dataclasses import dataclass, field, make_dataclass
from enum import StrEnum
from functools import partial
from types import ModuleType
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from rlcredit import (
    data,
    estimators,
    losses,
    policy,
    retrieval,
    rewards,
    rollout,
    text,
    tracking,
    trainer,
)

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
}
"""Config group -> the package whose public dataclasses are its components."""


class Resume(StrEnum):
    """Whether a run folder that holds an unfinished run is continued."""

    auto = "auto"
    never = "never"


@dataclass
class EvaluationConfig:
    """What is scored before, during and after training."""

    retrievers: list[str] = field(default_factory=lambda: ["bm25", "tfidf", "lsa", "minilm"])
    """Names in conf/retriever; the training retriever is always among those that score."""
    samples: int = 4
    """Sampled responses (T = rollout.temperature) per held-out prompt."""
    every: int = 10
    """Steps between two scores of the validation split; 0: never."""
    max_prompts: int | None = None
    """At most so many held-out prompts per split; None: all of them."""


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
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


def schema(cls: type) -> type:
    """The fields of a component with their defaults, and its import path as ``_target_``.

    A field without a default becomes mandatory and untyped: another component is mounted there.
    """
    hints = get_type_hints(cls)
    columns: list[Any] = [("_target_", str, field(default=f"{cls.__module__}.{cls.__qualname__}"))]
    for f in dataclasses.fields(cls):
        default = f.default
        if f.default_factory is not dataclasses.MISSING:
            default = f.default_factory()
        if default is dataclasses.MISSING:
            columns.append((f.name, Any, field(default=MISSING)))
        elif dataclasses.is_dataclass(default) and not isinstance(default, type):
            twin, values = schema(type(default)), vars(default)
            columns.append((f.name, twin, field(default_factory=partial(twin, **values))))
        elif isinstance(default, list | dict):
            columns.append((f.name, hints[f.name], field(default_factory=partial(copy, default))))
        else:
            columns.append((f.name, hints[f.name], field(default=default)))
    return make_dataclass(f"{cls.__name__}Schema", columns)


def components(package: ModuleType) -> list[type]:
    """The public dataclasses of a package."""
    public = (getattr(package, name) for name in package.__all__)
    return [cls for cls in public if isinstance(cls, type) and dataclasses.is_dataclass(cls)]


def register() -> None:
    """Store the root schema, and ``schema/<group>/<classname>`` for every component."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    for group, package in COMPONENTS.items():
        for cls in components(package):
            store.store(group=f"schema/{group}", name=cls.__name__.lower(), node=schema(cls))
