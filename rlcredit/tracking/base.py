"""What a tracker is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What identifies a run to a tracker."""

    folder: Path
    run_id: str
    """The same across resumes."""
    group: str
    """Jobs of one sweep share it."""
    name: str
    config: Mapping[str, object]
    """Resolved, plain values."""
    tags: tuple[str, ...] = ()
    """``data: generated`` among them where the data are."""


@dataclass(frozen=True, kw_only=True)
class CreditedText:
    """A cell of a table: a text in pieces, each with the credit it got (None: no credit)."""

    pieces: tuple[tuple[str, float | None], ...]
    """Pieces in text order; joined they are the text."""

    @property
    def text(self) -> str:
        """The text alone."""
        return "".join(piece for piece, _ in self.pieces)

    @property
    def with_credit(self) -> str:
        """The text with each piece's credit behind it: ``tent (+0.500), red (-0.250)``."""
        return "".join(
            piece if credit is None else f"{piece} ({credit:+.3f})" for piece, credit in self.pieces
        )


def plain_cell(value: object) -> object:
    """A cell of a table for a tracker that knows no credit."""
    return value.with_credit if isinstance(value, CreditedText) else value


@runtime_checkable
class RunTracker(Protocol):
    """An open run. Metrics are plain floats by now."""

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """One step's metrics, called once a step in order."""
        ...

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table to be shown beside the curves: plain values and ``CreditedText``.

        A later table of the same name takes the place of an earlier one.
        """
        ...

    def sync(self) -> None:
        """Called at each checkpoint: what was logged must survive what the checkpoint survives."""
        ...

    def finish(self, summary: Mapping[str, float], *, failed: bool) -> None:
        """Close the run."""
        ...


@runtime_checkable
class Tracker(Protocol):
    """A tracker's settings."""

    def start(
        self, run: RunInfo, *, last_step: int | None, say: Callable[[str], None]
    ) -> RunTracker | None:
        """Open a run, or continue it after ``last_step`` and forget what lies beyond.

        ``say`` tells the person what they must know, once. None: the environment switches the
        tracker off. An error costs the tracker and not the run (``rlcredit.tracking.mirror``), so a
        setting that can only be wrong is refused when the settings are made.
        """
        ...


def refuse_without(package: str) -> None:
    """Refuse a tracker whose package, of its own name and its extra's, is not installed.

    Raises:
        ValueError: With the extra.
    """
    if find_spec(package) is None:
        raise ValueError(
            f"tracker={package} needs the package {package}, which is not installed here: "
            f"pip install 'rlcredit[{package}]'; tracker=jsonl needs none"
        )
