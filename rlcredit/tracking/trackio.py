"""Trackio mirrors the record, on this machine or in a Space of the Hugging Face hub."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from typing import Any

from rlcredit.tracking.base import RunInfo, plain_cell, refuse_without


@dataclass(frozen=True, kw_only=True)
class Trackio:
    """Mirrors each run to Trackio, where its own variables say: TRACKIO_DIR, TRACKIO_SPACE_ID.

    The run keeps its name across resumes. Trackio cannot take back a step: what a resumed run
    repeats after its checkpoint is dropped there, while ``metrics.jsonl`` holds the repetition.
    What Trackio cannot write it warns of, and raises no error.

    Raises:
        ValueError: If trackio is not installed.
    """

    project: str = "rlcredit"
    """Project that the run is shown in."""

    def __post_init__(self) -> None:
        """Look for the package before a run begins."""
        refuse_without("trackio")

    def start(
        self, run: RunInfo, *, last_step: int | None, say: Callable[[str], None]
    ) -> "TrackioRun":
        """Open the run, or continue it; a Space that is made for it is private.

        Raises:
            ValueError: If Trackio does not take the project's name.
        """
        trackio: Any = import_module("trackio")
        with redirect_stdout(StringIO()):
            opened = trackio.init(
                project=self.project,
                name=f"{run.name.replace('/', '-')}-{run.run_id}",
                group=run.group,
                config={**run.config, "tags": list(run.tags)},
                resume="never" if last_step is None else "allow",
                private=True,
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        say(f"Trackio: trackio show --project {self.project}")
        return TrackioRun(opened, last_step=last_step or 0, package=trackio)


class TrackioRun:
    """An open Trackio run."""

    def __init__(self, run: Any, *, last_step: int, package: Any) -> None:
        self._run = run
        self._package = package
        self._first_new = run._next_step  # no public name says how far a run has come
        self._step = last_step

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Mirror one step's metrics."""
        self._step = step
        if step >= self._first_new:
            self._run.log(dict(metrics), step=step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Show a table, each piece of a response with its credit."""
        data = [[plain_cell(value) for value in row] for row in rows]
        if self._step >= self._first_new:
            shown = self._package.Table(columns=list(columns), data=data)
            self._run.log({name: shown}, step=self._step)

    def sync(self) -> None:
        """Nothing: the mirror may lag behind the record."""

    def finish(self, summary: Mapping[str, float], *, failed: bool) -> None:
        """Add the final measures at the last step, and close; Trackio knows no failed runs."""
        if summary:
            self._run.log(dict(summary), step=self._step)
        with redirect_stdout(StringIO()):
            self._package.finish()
