"""Files of one JSON object a line: the run's record, which survives a kill at any moment."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from rlcredit.files import append, replace_file, writing


def dump(record: Mapping[str, object]) -> str:
    """One line of JSON, ``step`` first and the other keys sorted; floats read back exactly.

    Raises:
        ValueError: If a number is not finite, which JSON cannot say.
    """
    head = {"step": record["step"]} if "step" in record else {}
    rest = {key: record[key] for key in sorted(record) if key != "step"}
    for key, value in rest.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(
                f"{key}={value} at step {record.get('step')}: a logged number must be finite; "
                "leave a measure out of the step in which it is not defined"
            )
    return json.dumps(head | rest, ensure_ascii=False, allow_nan=False)


def read_lines(path: Path) -> list[dict[str, object]]:
    """The whole lines of a file, in order; a half-written last one is left out.

    Raises:
        ValueError: If a line before the last is not a JSON object.
    """
    records: list[dict[str, object]] = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if number == len(lines):
            break  # what follows the last line break was never finished
        try:
            records.append(msgspec.json.decode(line, type=dict[str, object]))
        except ValueError as error:
            raise ValueError(
                f"{path}, line {number}: every line must be one JSON object ({error}). Repair or "
                "remove the line, or start the run anew with resume=never"
            ) from error
    return records


class LineFile:
    """Appends records that have a ``step``; every line is with the operating system at once.

    Opening it with ``last_step`` forgets what lies beyond that step, and a half-written last line;
    with None it starts empty.
    """

    def __init__(self, path: Path, *, last_step: int | None) -> None:
        kept: list[dict[str, object]] = []
        if last_step is not None and path.exists():
            records = read_lines(path)
            kept = [record for record in records if _step(path, record) <= last_step]
        replace_file(path, "".join(f"{dump(record)}\n" for record in kept))
        self.path = path
        self.last_step = _step(path, kept[-1]) if kept else None

    def append(self, records: Sequence[Mapping[str, object]]) -> None:
        """Add records, each with its ``step``, all or none.

        Raises:
            ValueError: If a number is not finite.
            OSError: If they cannot be written.
        """
        append(self.path, "".join(f"{dump(record)}\n" for record in records))

    def sync(self) -> None:
        """Wait until the disk holds every line; called before a checkpoint relies on them."""
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            os.fsync(file.fileno())


def _step(path: Path, record: Mapping[str, object]) -> int:
    step = record.get("step")
    if not isinstance(step, int):
        raise ValueError(f"{path}: every line must have a whole number as its step, not {step!r}")
    return step
