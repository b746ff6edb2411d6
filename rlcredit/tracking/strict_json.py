"""What JSON holds, read strictly into the classes that it was written from."""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
CHECK = "check"
"""Key of a file's checksum of all its other keys."""


def checked_text(record: Mapping[str, Any], *, indent: int | None = None) -> str:
    """A record as JSON, with its checksum."""
    whole = {**record, CHECK: _checksum(record)}
    return json.dumps(whole, indent=indent, ensure_ascii=False, allow_nan=False)


def read_checked(path: Path) -> dict[str, Any]:
    """What :func:`checked_text` wrote, without the checksum; older files have none.

    Raises:
        ValueError: If the file is no JSON object, or its checksum is that of another.
    """
    record = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    if record.pop(CHECK, None) not in (None, _checksum(record)):
        raise ValueError("it was changed after it was written")
    return record


def _checksum(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


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
