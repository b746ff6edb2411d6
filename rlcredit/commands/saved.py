"""The config that a run folder holds, read strictly: it names components and values, no code."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rlcredit.checkpoint.folders import latest
from rlcredit.commands.components import check_code, component_class
from rlcredit.commands.schema import schema
from rlcredit.identity import BEFORE, PACKAGE, TARGET, public_name
from rlcredit.run.folder import RunSummary
from rlcredit.run.seal import verify

RESOLVER = re.compile(r"\$\{(?:(?!\$\{)[^}])*:")
"""An interpolation that calls something, such as ``${oc.env:HOME}``."""


def saved_config(run: Path, *, allow: Sequence[str] = ()) -> DictConfig:
    """What a run folder says the run was made of.

    Args:
        run: The folder.
        allow: Packages from outside whose components may stand in it.

    Raises:
        ValueError: If it is no run folder, its record is damaged, or its config names anything but
            components.
    """
    path = run / ".hydra" / "config.yaml"
    if not path.exists():
        raise ValueError(f"{run} is no run folder: it has no .hydra/config.yaml; give run=<folder>")
    summary = RunSummary.read(run)
    if summary is not None:
        verify(run, summary.record, finished=True)
    elif (checkpoint := latest(run / "checkpoints")) is not None:
        verify(run, checkpoint.record, finished=False)
    return read_config(path, allow=allow)


def read_config(path: Path, *, allow: Sequence[str] = ()) -> DictConfig:
    """The config in a file, in which every ``_target_`` is a component of a declared package.

    Raises:
        ValueError: If the file cannot be read, or would have something called or imported.
    """
    try:
        saved = OmegaConf.load(path)
    except (OSError, YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(saved, DictConfig) or not saved:
        raise ValueError(f"{path} holds no mapping, so it is no config")
    for place, fault in _faults(OmegaConf.to_container(saved), "", tuple(allow)):
        raise ValueError(f"{path}: {place}: {fault}")
    return saved


def _faults(node: Any, place: str, allow: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """What no saved config may hold, with where it stands."""
    children: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(node, dict):
        children = iter(node.items())
    elif isinstance(node, list):
        children = iter(enumerate(node))
    elif isinstance(node, str) and RESOLVER.search(node):
        yield place, f"{node!r} would call a resolver; write the value"
    for key, value in children:
        here = f"{place}.{key}".lstrip(".")
        if isinstance(node, dict) and key == TARGET:
            try:
                check_code(component_class(str(value), allow=allow), node, allow=allow)
            except ValueError as error:
                yield here, str(error)
        elif isinstance(key, str) and re.fullmatch(r"_\w+_", key):
            yield here, "a saved config has no such word; remove it"
        else:
            yield from _faults(value, here, allow)


def typed(node: DictConfig, *, allow: Sequence[str] = ()) -> DictConfig:
    """A component's node read back from a file, with the types of its schema (enums above all).

    A setting that is younger than the file has the value that it had before it existed; one that
    is gone may stand in the file at that value.

    Raises:
        ValueError: If it is no component of a declared package, or has a setting that is gone.
    """
    cls = component_class(str(node[TARGET]), allow=allow)
    known = BEFORE.get(public_name(cls), {}) if cls.__module__.startswith(PACKAGE) else {}
    settings = {f.name for f in dataclasses.fields(cls)}
    gone = [name for name in known if name not in settings and name in node]
    for name in gone:
        if node[name] != known[name]:
            raise ValueError(
                f"{public_name(cls)}.{name}={node[name]}: this setting is gone since the run was "
                "made; use the version that made it (code_revision in its summary.json)"
            )
    younger = {
        name: value
        for name, value in known.items()
        if name in settings and not isinstance(value, dict)
    }
    read = OmegaConf.masked_copy(node, [str(key) for key in node if key not in gone])
    inner = _typed_within(node, allow)
    merged = OmegaConf.merge(OmegaConf.structured(schema(cls)), younger, read, inner)
    assert isinstance(merged, DictConfig), "a component is a mapping"
    merged._set_parent(node._get_parent())
    return merged


def _typed_within(node: DictConfig, allow: Sequence[str]) -> dict[str, Any]:
    """The components within a node, in mappings too."""
    found: dict[str, Any] = {}
    for key, value in node.items_ex(resolve=False):
        if not isinstance(value, DictConfig) or OmegaConf.is_interpolation(node, str(key)):
            continue
        part = typed(value, allow=allow) if TARGET in value else _typed_within(value, allow)
        if part:
            found[str(key)] = part
    return found
