"""``metrics.jsonl``: the record of a run, which every other tracker mirrors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlcredit.files import replace_file
from rlcredit.tracking.base import CreditedText, RunInfo
from rlcredit.tracking.lines import LineFile, dump

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class JSONL:
    """One JSON object a step in ``metrics.jsonl``; floats read back bit for bit.

    Wall-clock figures live under ``time/`` and ``perf/``; every other value is the same in each run
    of the same config on the same CPU.
    """

    def start(
        self, run: RunInfo, *, last_step: int | None, say: Callable[[str], None]
    ) -> "JSONLRun":
        """Open ``metrics.jsonl``; what lies beyond ``last_step`` is removed.

        Raises:
            OSError: If it cannot be written.
            ValueError: If the file ends before ``last_step``, so that the curve would have a hole.
        """
        path = run.folder / METRICS_FILE
        lines = LineFile(path, last_step=last_step)
        if last_step and (lines.last_step or 0) < last_step:
            raise ValueError(
                f"{path} ends at step {lines.last_step}, but the checkpoint is of step {last_step}"
                ": the record would have a hole. Restore the file, or start anew with resume=never"
            )
        return JSONLRun(run.folder, lines)


class JSONLRun:
    """An open ``metrics.jsonl``, and a ``<name>.jsonl`` for each table.

    What cannot be written raises an OSError that says so, since a run without its record is none.
    """

    def __init__(self, folder: Path, lines: LineFile) -> None:
        self._folder = folder
        self._lines = lines
        self._last = lines.last_step

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Add a line.

        Raises:
            ValueError: If a value is not finite, or the step does not come after the last one.
        """
        if self._last is not None and step <= self._last:
            raise ValueError(
                f"step {step} is logged after step {self._last}: each step has one line, in order"
            )
        if "step" in metrics:
            raise ValueError("a metric may not be named 'step': that is the line's own key")
        self._lines.append([{"step": step, **metrics}])
        self._last = step

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Write ``<name>.jsonl``, one object a row; a text with credit as a list of pairs."""
        records = [dict(zip(columns, map(_plain, row), strict=True)) for row in rows]
        text = "".join(f"{dump(record)}\n" for record in records)
        replace_file(self._folder / f"{name}.jsonl", text)

    def sync(self) -> None:
        """Wait until the disk holds every line."""
        self._lines.sync()

    def finish(self, summary: Mapping[str, float], *, failed: bool) -> None:
        """Nothing but a last look at the disk; the summary has a file of its own."""
        self.sync()


def _plain(value: object) -> object:
    return [list(piece) for piece in value.pieces] if isinstance(value, CreditedText) else value
