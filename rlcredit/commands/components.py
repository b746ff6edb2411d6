"""Which classes a config may name, and how a component is built from its config.

A ``_target_`` names a component class of this package by its public name, wherever that lies, or a
dataclass of a package from outside that the command line allows. Nothing else is ever imported or
called.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, get_args, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from rlcredit import (
    estimators,
    losses,
    policy,
    retrieval,
    rewards,
    rollout,
    tables,
    tasks,
    text,
    tracking,
    trainer,
)
from rlcredit.bench.run import Settings
from rlcredit.identity import PACKAGE, TARGET, public_name
from rlcredit.trainer.settings import EvaluationSettings

COMPONENTS: dict[str, ModuleType] = {
    "estimator": estimators,
    "loss": losses,
    "segmenter": text,
    "retriever": retrieval,
    "encoder": retrieval,
    "reward": rewards,
    "dataset": tasks,
    "policy": policy,
    "rollout": rollout,
    "trainer": trainer,
    "tracker": tracking,
    "table": tables,
}
"""Config group -> the package whose public dataclasses are its components."""


def components(package: ModuleType) -> list[type]:
    """The public dataclasses of a package."""
    public = (getattr(package, name) for name in package.__all__)
    return [cls for cls in public if isinstance(cls, type) and dataclasses.is_dataclass(cls)]


@cache
def known_classes() -> Mapping[str, type]:
    """All component classes of this package, by public name; those in other components too."""
    found: dict[str, type] = {}
    roots = [cls for package in COMPONENTS.values() for cls in components(package)]
    for cls in (*roots, EvaluationSettings, Settings):
        for each in (cls, *_within(cls)):
            other = found.setdefault(public_name(each), each)
            if other is not each:
                raise TypeError(f"{each} and {other} have one public name; give one public_name")
    return found


def optional_component(hint: Any) -> type | None:
    """The component class of a setting that is one or None, by its annotation; else None."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    whole = len(kinds) == 1 and len(get_args(hint)) == 2 and dataclasses.is_dataclass(kinds[0])
    return kinds[0] if whole and isinstance(kinds[0], type) else None


def _within(cls: type) -> Iterator[type]:
    """The components that a class mounts by default or may hold instead of None, at every depth."""
    parts = [optional_component(hint) for hint in get_type_hints(cls).values()]
    for part in (part for part in parts if part is not None):
        yield part
        yield from _within(part)
    for f in (f for f in dataclasses.fields(cls) if f.init):
        default = f.default
        if f.default_factory is not dataclasses.MISSING:
            default = f.default_factory()
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            yield type(default)
            yield from _within(type(default))


def component_class(target: str, *, allow: Sequence[str] = ()) -> type:
    """The class that a ``_target_`` means.

    Args:
        target: ``rlcredit.<public name>``, or an import path. For classes of this package the
            last word alone counts, so that configs of before a module moved are read.
        allow: Packages from outside whose dataclasses may be named.

    Raises:
        ValueError: If it is no component of this package or of an allowed one.
    """
    module, _, name = target.rpartition(".")
    if target.partition(".")[0] == PACKAGE:
        if name not in known_classes():
            raise ValueError(f"{target} is no component of {PACKAGE}; a config may name no other")
        return known_classes()[name]
    _refuse_unallowed(target, allow)
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{target} cannot be imported ({error}); is it on PYTHONPATH?") from error
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise ValueError(f"{target} is no dataclass; a component is one")
    return found


def check_code(cls: type, settings: Mapping[Any, object], *, allow: Sequence[str]) -> None:
    """Refuse the settings of a component that name code which the command line does not allow.

    Args:
        cls: The component's class; its fields that name code are marked so (``identity.CODE``).
        settings: By name, as a config has them.
        allow: Packages from outside whose code may be named.

    Raises:
        ValueError: If the package of an import path is not allowed.
    """
    for f in dataclasses.fields(cls):
        if f.metadata.get("code") and f.name in settings:
            _refuse_unallowed(str(settings[f.name]), allow)


def _refuse_unallowed(path: str, allow: Sequence[str]) -> None:
    root = re.split("[.:]", path)[0]
    if root not in allow:
        raise ValueError(
            f"{path} lies outside {PACKAGE}. Its code would be run, so the command line must "
            f"allow it: allow=[{root}]"
        )


def allowed(overrides: Sequence[str]) -> tuple[str, ...]:
    """The packages that ``allow=[...]`` among the words of a command line names.

    Words alone can allow code, no file can.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    named = [each.value() for each in parsed if each.key_or_group == "allow"]
    last = named[-1] if named else []
    return tuple(map(str, last if isinstance(last, list) else [last]))


def build(node: Any, *, allow: Sequence[str] = ()) -> Any:
    """The component that a config describes, with those within it.

    Args:
        node: A config node, or plain containers; a mapping with ``_target_`` is a component.
        allow: Packages from outside whose components may stand in it.

    Raises:
        ValueError: If a component is of no declared package, has no such setting, or refuses one.
    """
    return _built(plain(node), tuple(allow))


def plain(node: Any) -> Any:
    """A config node as plain containers, interpolations resolved; enums stay enums."""
    if not OmegaConf.is_config(node):
        return node
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)


def _built(node: Any, allow: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_built(value, allow) for value in node]
    if not isinstance(node, dict):
        return node
    values = {key: _built(value, allow) for key, value in node.items() if key != TARGET}
    if TARGET not in node:
        return values
    cls = component_class(str(node[TARGET]), allow=allow)
    settings = [f for f in dataclasses.fields(cls) if f.init]
    unknown = [str(key) for key in values if key not in {f.name for f in settings}]
    if unknown:
        names = ", ".join(f.name for f in settings)
        raise ValueError(f"{public_name(cls)} has no setting {', '.join(unknown)}; it has {names}")
    needed = {f.name for f in settings if f.default is f.default_factory is dataclasses.MISSING}
    if needed - values.keys():
        raise ValueError(f"{public_name(cls)} lacks {', '.join(sorted(needed - values.keys()))}")
    check_code(cls, values, allow=allow)
    return cls(**values)
