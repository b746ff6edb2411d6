"""The reference of settings, from dataclasses and YAMLs: keys, types, defaults, sentences."""

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from itertools import takewhile
from typing import Any, get_args, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from rlcredit.commands.components import known_classes
from rlcredit.commands.schema import register
from rlcredit.trainer.settings import EvaluationSettings
from scripts.docs.methods import CONF, chosen, row, table

COMPONENT = "a component"


def group(name: str) -> str:
    """What ``<name>=`` chooses, and the settings of every class behind the choices."""
    classes: dict[type, list[str]] = {}
    for choice in chosen(name):
        classes.setdefault(_class_of(name, choice), []).append(choice)
    lines = [row(f"`{choice}`", _about(name, choice)) for choice in chosen(name)]
    parts = [table(f"`{name}=`", "what it is", rows=lines)]
    for cls, choices in classes.items():
        node = name.replace("/", ".") if name != "tracker" else f"tracker.{choices[0]}"
        rows = list(_rows(cls, node))
        if rows:
            heading = f"#### {', '.join(f'`{choice}`' for choice in choices)}"
            parts += [heading, table("key", "type", "default", "what it sets", rows=rows)]
    return "\n\n".join(parts)


def command(name: str) -> str:
    """The settings that ``rlcredit <name>`` takes at its root."""
    import_module(f"rlcredit.commands.{name.replace('-', '_')}")
    register()
    node = ConfigStore.instance().load(f"{name.replace('-', '_')}_schema.yaml").node
    cls = OmegaConf.get_type(node)
    if cls is None:
        raise TypeError(f"rlcredit {name} has no typed root; give its schema a dataclass")
    rows = list(_rows(cls, ""))
    return table("key", "type", "default", "what it sets", rows=rows)


def evaluation() -> str:
    """The settings of evaluations, which every run has."""
    rows = list(_rows(EvaluationSettings, "evaluation"))
    return table("key", "type", "default", "what it sets", rows=rows)


def sentences(cls: type) -> dict[str, str]:
    """The sentence below each field of a class, by field, its bases' included."""
    found: dict[str, str] = {}
    for base in reversed([base for base in cls.__mro__ if dataclasses.is_dataclass(base)]):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        if not isinstance(tree, ast.ClassDef):
            raise TypeError(f"the source of {base} is no class")
        for line, below in zip(tree.body, [*tree.body[1:], None], strict=True):
            if not (isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                found[line.target.id] = inspect.cleandoc(str(below.value.value))
    return found


def _rows(cls: type, node: str) -> Iterator[str]:
    """A line for each setting; those of a part that a class has by default follow its own."""
    hints, said = get_type_hints(cls), sentences(cls)
    for f in (f for f in dataclasses.fields(cls) if f.init):
        key, default = f"{node}.{f.name}".lstrip("."), _default(f)
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            yield from _rows(type(default), key)
            continue
        shown = "required" if default == MISSING else f"`{_plain(default)}`"
        yield row(
            f"`{key}`",
            _kind(hints[f.name]),
            shown,
            _cell(said.get(f.name) or _meant(hints[f.name])),
        )


def _meant(hint: Any) -> str:
    """What a closed choice is about, as its class says it; empty for other types."""
    kinds = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type)]
    return next((inspect.getdoc(kind) or "" for kind in kinds if issubclass(kind, Enum)), "")


def _default(f: dataclasses.Field[Any]) -> Any:
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    return MISSING if f.default is dataclasses.MISSING else f.default


def _kind(hint: Any) -> str:
    """A type as a person reads it."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " ".join(f"`{member.value}`" for member in hint)
    inner = [_kind(each) for each in get_args(hint) if each is not Ellipsis]
    if hint is type(None):
        return "`null`"
    if not inner and getattr(hint, "__module__", "") not in ("builtins", "pathlib"):
        return COMPONENT
    if "|" in str(hint) or "Union" in str(hint):
        return " or ".join(inner)
    name = getattr(hint, "__name__", str(hint))
    return f"{name} of {', '.join(inner)}" if inner else name


def _plain(value: Any) -> str:
    """A value as YAML writes it."""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def _cell(text: str) -> str:
    text = re.sub(r":[a-z]+:`~?([^`]+)`", r"`\1`", text.replace("``", "`"))
    return " ".join(text.split()).replace("|", r"\|")


def _class_of(group: str, choice: str) -> type:
    """The class that a choice builds: the schema of its file, or of the file it starts from."""
    text = (CONF / group / f"{choice}.yaml").read_text()
    schema = re.search(r"/schema/[\w/]+?/(\w+)(?:@|\b)", text)
    if schema is None:
        base = re.search(r"defaults:\s*(?:\[|\n\s*- )/?(?:[\w/]*/)?(\w+)", text)
        if base is None:
            raise ValueError(
                f"conf/{group}/{choice}.yaml names no schema and no file to start from"
            )
        return _class_of(group, base[1])
    names = {name.lower(): cls for name, cls in known_classes().items()}
    return next(cls for name, cls in names.items() if name.split(".")[-1] == schema[1])


def _about(group: str, choice: str) -> str:
    """The comment at the head of a choice's file, else its class's first line; what it sets."""
    path = CONF / group / f"{choice}.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# @")]
    head = [line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines)]
    said = " ".join(head) or (_class_of(group, choice).__doc__ or "").splitlines()[0]
    own = OmegaConf.to_container(OmegaConf.load(path))
    if head or not isinstance(own, dict):
        return _cell(said)
    parts = [part for part in own.pop("defaults", []) if isinstance(part, dict)]
    plain = {key: value for key, value in own.items() if not isinstance(value, dict | list)}
    words = [  # of "override /loss@_global_.loss" the group
        f"`{str(key).split('/')[-1].split('@')[0]}={_plain(value)}`"
        for each in (*parts, plain)
        for key, value in each.items()
    ]
    return _cell(" ".join([said, *words]))
