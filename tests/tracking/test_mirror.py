"""A mirror costs a warning at most, whatever happens in it."""

import pytest

from rlcredit.tracking.base import RunInfo, RunTracker
from rlcredit.tracking.mirror import Mirror

CALLS = ("start", "log", "table", "sync", "finish")


class Tracker:
    """Writes down what it is asked for, and breaks at one call."""

    def __init__(self, breaks_at="", error=None):
        self.breaks_at, self.error, self.asked = breaks_at, error, []

    def _note(self, call):
        self.asked.append(call)
        if call == self.breaks_at:
            raise self.error

    def start(self, run, *, last_step, say):
        self._note("start")
        return self

    def log(self, metrics, *, step):
        self._note("log")

    def table(self, name, columns, rows):
        self._note("table")

    def sync(self):
        self._note("sync")

    def finish(self, summary, *, failed):
        self._note("finish")


def mirrored(tracker, folder):
    """All calls of a run, twice where a run makes them often; the warnings."""
    warnings = []
    info = RunInfo(folder=folder, run_id="r", group="g", name="n", config={})
    mirror = Mirror(tracker, info, last_step=None, say=print, warn=warnings.append)
    assert isinstance(mirror, RunTracker)
    for step in (1, 2):
        mirror.log({"a": 1.0}, step=step)
        mirror.table("t", ["c"], [[1]])
        mirror.sync()
    mirror.finish({}, failed=False)
    return warnings


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("error", [OSError("no room"), ZeroDivisionError("no room"), SystemExit(3)])
def test_an_error_at_any_call_is_said_once_and_the_tracker_let_go(tmp_path, call, error):
    tracker = Tracker(call, error)
    (warning,) = mirrored(tracker, tmp_path)
    assert f"tracker Tracker takes no more data: {error}" in warning
    assert "metrics.jsonl holds everything; tracker=jsonl switches it off" in warning
    assert tracker.asked[-1] == call
    assert tracker.asked.count(call) == 1


def test_a_whole_mirror_gets_every_call_and_says_nothing(tmp_path):
    tracker = Tracker()
    assert mirrored(tracker, tmp_path) == []
    assert tracker.asked == ["start", *("log", "table", "sync") * 2, "finish"]


def test_ctrl_c_is_nobodys_error(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        mirrored(Tracker("log", KeyboardInterrupt()), tmp_path)
