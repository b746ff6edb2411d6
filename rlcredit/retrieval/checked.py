"""Large files that can be made again: written whole, with a checksum beside them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import xxhash

from rlcredit.files import whole_file

ReadT = TypeVar("ReadT")


def write_checked(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file that appears under its name when it is complete, its checksum in ``.json``.

    Args:
        path: The file.
        write: Writes the path that it is given.

    Raises:
        OSError: If the disk refuses it.
    """
    with whole_file(path) as new:
        write(new)
        path.with_suffix(".json").write_text(json.dumps({"checksum": _checksum(new)}))


def read_checked(path: Path, read: Callable[[Path], ReadT]) -> ReadT:
    """What ``read`` makes of a file that :func:`write_checked` wrote.

    Raises:
        ValueError: If the file is not the one that was written.
        OSError: If it or its checksum cannot be read.
    """
    if json.loads(path.with_suffix(".json").read_text()) != {"checksum": _checksum(path)}:
        raise ValueError("its checksum is wrong")
    return read(path)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
