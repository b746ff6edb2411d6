"""The seal of a run's record: which bytes every file held, so that a changed digit is seen.

A checkpoint holds the seal of the record as it was then, and the summary that of the whole record.
Files of lines grow after a checkpoint; their seal covers what was written before it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20
PATTERNS = (
    "run_id",
    ".hydra/*.yaml",
    "metrics.jsonl",
    "completions.jsonl",
    "test_touches.jsonl",
    "evaluations/*.json",
    "trec/*",
    "trec/*/*",
    "solutions/*",
)
"""The files of a record, within a run's folder."""
EXPORTED = ("policy/*.json", "policy/*.jinja", "policy/*.txt", "policy/*.model")
"""What says how the exported policy reads and writes; its weights, which no reader needs, aside."""
LINES = ".jsonl"
"""Files that grow while a run goes on."""
TOUCHES = "test_touches.jsonl"
"""Grows whenever a finished run is scored again."""

Seal = dict[str, list[Any]]
"""File within the run's folder -> [bytes, SHA-256 of them in hexadecimal]."""


class RecordError(ValueError):
    """A file of a run's record is not what the run wrote; the message names it."""


def record_files(folder: Path, patterns: Sequence[str] = PATTERNS) -> Iterator[Path]:
    """Every file of a run's record (or of other patterns), in a fixed order."""
    for pattern in patterns:
        yield from sorted(path for path in folder.glob(pattern) if path.is_file())


@dataclass(kw_only=True)
class _Progress:
    """How far a file has been read."""

    size: int = 0
    changed: int = 0
    """When it was last written, in nanoseconds."""
    state: Any = field(default_factory=sha256)


@dataclass(kw_only=True)
class Sealer:
    """Seals a record again and again while its files of lines grow; each byte is read once."""

    folder: Path
    _read: dict[Path, _Progress] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, patterns: Sequence[str] = PATTERNS) -> Seal:
        """The seal of what is on disk now."""
        return {
            str(path.relative_to(self.folder)): self._sealed(path)
            for path in record_files(self.folder, patterns)
        }

    def _sealed(self, path: Path) -> list[Any]:
        at, now = self._read.get(path, _Progress()), path.stat()
        if now.st_mtime_ns != at.changed or now.st_size != at.size:
            grows = path.suffix == LINES and now.st_size > at.size
            at = self._read[path] = (
                _Progress(size=at.size, state=at.state) if grows else _Progress()
            )
            at.changed = now.st_mtime_ns
            with path.open("rb") as file:
                file.seek(at.size)
                while block := file.read(_BLOCK):
                    at.state.update(block)
                    at.size += len(block)
        return [at.size, at.state.hexdigest()]


def verify(folder: Path, seal: Mapping[str, Sequence[Any]], *, finished: bool) -> None:
    """Check that a record is what was sealed.

    Args:
        folder: Of the run.
        seal: Of its record.
        finished: Whether the run is over: then the count of looks at the test split alone may
            have grown, else every file of lines.

    Raises:
        RecordError: If a file is missing, shorter, longer or changed: which, and what to do.
    """
    faults = [
        fault
        for name, sealed in seal.items()
        if (fault := _fault(folder, name, sealed, grown=_grows(name, finished=finished)))
    ]
    if faults:
        raise RecordError(
            f"the record of {folder} is damaged: {'; '.join(faults)}. Restore it, or start the run "
            "anew with resume=never"
        )


def _grows(name: str, *, finished: bool) -> bool:
    return name == TOUCHES or (not finished and name.endswith(LINES))


def _fault(folder: Path, name: str, sealed: Sequence[Any], *, grown: bool) -> str | None:
    size, digest = sealed
    path = folder / name
    if not path.is_file():
        return f"{name} is missing"
    found = path.stat().st_size
    if found < size or (found > size and not grown):
        return f"{name} has {found} bytes, and {size} were written"
    state, left = sha256(), size
    with path.open("rb") as file:
        while left and (block := file.read(min(_BLOCK, left))):
            state.update(block)
            left -= len(block)
    return None if state.hexdigest() == digest else f"{name} is not what was written"
