"""TensorBoard mirrors the record, in event files inside the run's folder."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlcredit.text.markdown import fenced, inline
from rlcredit.tracking.base import RunInfo, plain_cell, refuse_without

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


@dataclass(frozen=True, kw_only=True)
class TensorBoard:
    """Mirrors each run to ``<run>/tensorboard``; ``tensorboard --logdir outputs`` shows all runs.

    A resumed run goes on there; what lies beyond its checkpoint is hidden by TensorBoard's mark of
    a restart. Numbers have single precision.

    Raises:
        ValueError: If tensorboard is not installed.
    """

    def __post_init__(self) -> None:
        """Look for the package before a run begins."""
        refuse_without("tensorboard")

    def start(
        self, run: RunInfo, *, last_step: int | None, say: Callable[[str], None]
    ) -> "TensorBoardRun":
        """Open an event file, with the run's config as a text.

        Raises:
            OSError: If it cannot be written.
        """
        from torch.utils.tensorboard import SummaryWriter

        folder = run.folder / FOLDER
        first = 0 if last_step is None else last_step + 1
        writer = SummaryWriter(str(folder), purge_step=first)
        if last_step is None:
            writer.add_text("run", inline(", ".join((run.name, run.group, *run.tags))), 0)
            writer.add_text("config", fenced(json.dumps(run.config, indent=1), "json"), 0)
        say(f"TensorBoard: {shlex.join(['tensorboard', '--logdir', str(folder)])}")
        return TensorBoardRun(writer, last_step=last_step or 0)


class TensorBoardRun:
    """An open event file. What the disk does not take raises an OSError."""

    def __init__(self, writer: "SummaryWriter", *, last_step: int) -> None:
        self._writer = writer
        self._step = last_step

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Add one step's metrics."""
        self._step = step
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Show a table as text, each piece of a response with its credit."""
        lines = [list(columns), ["---"] * len(columns)]
        lines += [[inline(str(plain_cell(value))) for value in row] for row in rows]
        text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        self._writer.add_text(name, text, self._step)

    def sync(self) -> None:
        """Hand every event to the operating system."""
        self._writer.flush()

    def finish(self, summary: Mapping[str, float], *, failed: bool) -> None:
        """Add the final measures at the last step, and close; TensorBoard knows no failed runs."""
        self.log(summary, step=self._step)
        self._writer.close()
