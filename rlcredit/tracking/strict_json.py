"""What JSON holds, read strictly into the classes that it was written from."""

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


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
