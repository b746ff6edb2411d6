"""What JSON holds, read strictly into the classes that it was written from."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from rlcredit.files import with_check, without_check

T = TypeVar("T")


def checked_text(record: Mapping[str, Any], *, indent: int | None = None) -> str:
    """A record as JSON, with its checksum."""
    return json.dumps(with_check(record), indent=indent, ensure_ascii=False, allow_nan=False)


def read_checked(path: Path) -> dict[str, Any]:
    """What :func:`checked_text` wrote, without the checksum; older files have none.

    Raises:
        ValueError: If the file is no JSON object, or its checksum is that of another.
    """
    return without_check(msgspec.json.decode(path.read_bytes(), type=dict[str, Any]))


def convert(plain: Any, kind: type[T]) -> T:
    """Make a dataclass, or a type of dataclasses, from decoded JSON.

    Raises:
        ValueError: If a key is missing or unknown, or a value has another type; names the key.
    """
    made = msgspec.convert(plain, kind)
    unknown = sorted({*_keys(plain)} - {*_keys(msgspec.to_builtins(made))})
    if unknown:
        raise ValueError(f"Object has the unknown field `{unknown[0]}`")
    return made


def _keys(plain: Any, at: str = "$") -> Iterator[str]:
    if isinstance(plain, dict):
        for key, value in plain.items():
            yield f"{at}.{key}"
            yield from _keys(value, f"{at}.{key}")
    elif isinstance(plain, list | tuple):
        for number, value in enumerate(plain):
            yield from _keys(value, f"{at}[{number}]")
