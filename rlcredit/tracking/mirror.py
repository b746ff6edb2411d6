"""What mirrors a run's record cannot end the run, whatever happens in it."""

from collections.abc import Callable, Mapping, Sequence
from textwrap import shorten

from rlcredit.tracking.base import RunInfo, RunTracker, Tracker


class Mirror:
    """A tracker of a run; at its first error it is let go, which is said, and the run goes on."""

    def __init__(
        self,
        tracker: Tracker,
        run: RunInfo,
        *,
        last_step: int | None,
        say: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        """Open the tracker.

        Args:
            tracker: Its settings.
            run: What identifies the run to it.
            last_step: Step of the checkpoint that the run goes on from; None: the run starts.
            say: Hands on what the tracker tells the person.
            warn: Tells that the run goes on without the tracker, and why.
        """
        self._name = type(tracker).__name__
        self._warn = warn
        self._opened: RunTracker | None = None

        def start() -> None:
            self._opened = tracker.start(run, last_step=last_step, say=say)

        self._attempt(start)

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Hand on one step's metrics."""
        if (opened := self._opened) is not None:
            self._attempt(lambda: opened.log(metrics, step=step))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Hand on a table."""
        if (opened := self._opened) is not None:
            self._attempt(lambda: opened.table(name, columns, rows))

    def sync(self) -> None:
        """Let the tracker save what it was given."""
        if (opened := self._opened) is not None:
            self._attempt(opened.sync)

    def finish(self, summary: Mapping[str, float], *, failed: bool) -> None:
        """Close the tracker."""
        if (opened := self._opened) is not None:
            self._attempt(lambda: opened.finish(summary, failed=failed))

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (Exception, SystemExit) as error:  # wandb's teardown calls sys.exit
            self._opened = None
            why = shorten(str(error) or type(error).__name__, width=500, placeholder=" ...")
            self._warn(
                f"tracker {self._name} takes no more data: {why}. The run goes on without it, and "
                "metrics.jsonl holds everything; tracker=jsonl switches it off"
            )
