"""Typed configs: every component's class is its own Hydra schema.

YAML chooses and sets; classes declare and check. ``schema`` turns a frozen dataclass into a mutable
twin (OmegaConf makes frozen ones read-only) whose ``_target_`` names the class, so a typo or a
wrong type fails while composing, and an empty config builds the class's own defaults.
"""

import dataclasses
from copy import copy
from dataclasses import dataclass, field, make_dataclass
from functools import cache, partial
from typing import Any, get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from rlcredit.commands.components import COMPONENTS, components, optional_component
from rlcredit.commands.digests import run_folder, run_subfolder
from rlcredit.identity import TARGET, public_name, target
from rlcredit.tasks.settings import Source
from rlcredit.trainer.settings import EvaluationSettings, Resume


@dataclass
class TrainConfig:
    """The root of ``conf/train.yaml``: scalars, and components by their groups."""

    seed: int = 0
    """What all random draws of the run follow from."""
    resume: Resume = Resume.auto
    cache: str = "outputs/cache"
    """Folder for what can be made again: tokenizers, warm starts, document embeddings."""
    allow: list[str] = field(default_factory=list)
    """Packages from outside whose components are used; given on the command line alone."""
    policy: Any = MISSING
    """The model that is trained."""
    estimator: Any = MISSING
    """How rewards become an advantage for each token."""
    loss: Any = MISSING
    """How advantages and log-probs become what is minimised."""
    dataset: Any = MISSING
    """Prompts, and documents where the task searches."""
    retriever: Any = MISSING
    """What ranks documents for the reward."""
    reward: Any = MISSING
    """What a response earns."""
    segmenter: Any = MISSING
    """What cuts a response into segments."""
    encoder: Any = MISSING
    """What makes the embeddings that SetPO compares."""
    rollout: Any = MISSING
    """What samples responses."""
    trainer: Any = MISSING
    """How many of what, how large, and where."""
    tracker: Any = field(default_factory=dict)
    """Each tracker at its name, so that several go together."""
    evaluation: Any = MISSING
    """What is scored before, during and after training."""
    table: Any = None
    """Declared by conf/experiment/table_*.yaml alone; ``rlcredit tables`` reads it."""


@cache
def schema(cls: type) -> type:
    """The fields of a component with their defaults, and its public name as ``_target_``.

    A field without a default becomes mandatory and untyped: another component is mounted there.
    """
    hints = get_type_hints(cls)
    columns: list[Any] = [(TARGET, str, field(default=target(cls)))]
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
            part = optional_component(hints[f.name])
            hint = hints[f.name] if part is None else schema(part) | None
            columns.append((f.name, hint, field(default=default)))
    return make_dataclass(f"{cls.__name__}Schema", columns)


def by_source(source: Source | str, generated: Any, real: Any) -> Any:
    """The value that a data set's YAML has for its generated source, or for its real ones."""
    return generated if Source(source) is Source.generated else real


def _twins(hint: Any) -> Any:
    """``dict[str, Component]`` with the component's schema in its place; other hints unchanged."""
    key, value = (*get_args(hint), None, None)[:2]
    if get_origin(hint) is dict and dataclasses.is_dataclass(value) and isinstance(value, type):
        return dict[key, schema(value)]  # pyright: ignore[reportInvalidTypeForm]
    return hint


@cache
def stored_schema(path: str) -> DictConfig | None:
    """The schema that ``schema/<group>/<classname>`` names; None for any other path."""
    for group, package in COMPONENTS.items():
        for cls in components(package):
            if path == f"schema/{group}/{public_name(cls).lower()}":
                return OmegaConf.structured(schema(cls))
    return None


def register() -> None:
    """Store the roots and the resolvers; ``hydra_plugins/component_schemas.py`` has the rest.

    The root ``parts`` is empty; what is composed without the rest of a run is mounted there.
    """
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig(evaluation=schema(EvaluationSettings)()))
    store.store(name="parts", node={})
    for resolver in (run_folder, run_subfolder, by_source):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
