"""Files that are whole or not there, and say in a sentence that they cannot be written.

A new file has the permissions that the process's umask leaves, whatever wrote it.
"""

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any

CHECK = "check"
"""Key of a record's checksum of all its other keys."""

_ROOM = "make room there, and give the same command again"
_RIGHTS = "let this user write there, or name another folder"
_FOLDER = "a file stands where a folder is needed; name another folder, or move the file"
_REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _ROOM,
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOTDIR: _FOLDER,
    errno.EEXIST: _FOLDER,
}


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A new file beside ``path`` to write to, which takes its place when the context ends well.

    Folders that it lies in are made. The new file has a name that nobody else uses, and no link is
    followed. Libraries may put another file in its place, as safetensors does with one that its
    user alone may read.

    Raises:
        OSError: If it cannot be written; the file that was at ``path`` stays.
    """
    new = path.with_name(f".{path.name[:64]}.{token_hex(8)}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    new.open("x").close()
    permissions = new.stat().st_mode & 0o7777
    try:
        yield new
        with new.open("rb+") as file:
            os.fchmod(file.fileno(), permissions)
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def replace_file(path: Path, text: str) -> None:
    """Write a whole file, or leave the old one: never half of it.

    Raises:
        OSError: If it cannot be written: which, why, and what to do.
    """
    with writing(path), whole_file(path) as new:
        new.write_text(text, encoding="utf-8")


def append(path: Path, text: str) -> None:
    """Add whole lines to a file, or leave it as it is.

    Raises:
        OSError: If they cannot be written: where, why, and what to do.
    """
    with writing(path), path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            left = memoryview(text.encode())
            while left:
                left = left[file.write(left) :]
        except BaseException:
            file.truncate(size)
            raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say what a failure to write a file, or into a folder, means.

    Raises:
        OSError: With path, cause and remedy.
    """
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({error.strerror or error}). Make room there, or let this "
            "user write there, and give the same command again: a run goes on from its last "
            "checkpoint"
        ) from error


def refused_by_disk(error: OSError) -> str | None:
    """A sentence about what a disk or its permissions refused; None for any other error.

    A full disk names no file; what else names none is no disk's error.
    """
    if error.filename is None and _REMEDIES.get(error.errno or 0) is not _ROOM:
        return None
    path = os.fsdecode(error.filename or "a file")
    if error.errno == errno.ENAMETOOLONG:
        longest = max(len(os.fsencode(part)) for part in Path(path).parts)
        return (
            f"{path} is too long: the longest name in it has {longest} bytes and the whole path "
            f"{len(os.fsencode(path))}, and a disk takes {os.pathconf('/', 'PC_NAME_MAX')} and "
            f"{os.pathconf('/', 'PC_PATH_MAX')} at most; give a shorter one"
        )
    remedy = _REMEDIES.get(error.errno or 0)
    return None if remedy is None else f"{path} cannot be used ({error.strerror}); {remedy}"


def with_check(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of plain values, and its checksum."""
    return {**record, CHECK: _checksum(record)}


def without_check(record: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`with_check` was given; older records have no checksum.

    Raises:
        ValueError: If the checksum is that of another record.
    """
    bare = {key: value for key, value in record.items() if key != CHECK}
    if record.get(CHECK) not in (None, _checksum(bare)):
        raise ValueError("it was changed after it was written")
    return bare


def _checksum(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
