"""A run that nobody reads and whose mirror breaks is whole, and what it said lies beside it."""

import os
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace

import pytest

from rlcredit.checkpoint.writer import CheckpointWriter
from rlcredit.run.launch import launch
from tests.e2e.running import SMALL, composed, metrics

SHORT = (
    "trainer.steps=2",
    "trainer.checkpoint_every=1",
    "evaluation.every=0",
    "evaluation.max_prompts=1",
    "evaluation.samples=1",
)


@dataclass(frozen=True)
class Breaking:
    """A tracker that breaks at the end, having written down what it was asked for."""

    calls: list[str] = field(default_factory=list)

    def start(self, run, *, last_step, say):
        self.calls.append("start")
        return self

    def log(self, metrics, *, step):
        self.calls.append(f"log {step}")

    def table(self, name, columns, rows):
        self.calls.append(f"table of {len(rows)}")

    def sync(self):
        self.calls.append("sync")

    def finish(self, summary, *, failed):
        self.calls.append("finish")
        raise ZeroDivisionError("no room")


@pytest.fixture
def unread():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        yield stream


def test_a_run_with_a_closed_pipe_and_a_broken_mirror_ends_well(
    tmp_path, cache, monkeypatch, unread
):
    mirror = Breaking()
    start = CheckpointWriter.start

    def noted(self, **state):
        mirror.calls.append(f"checkpoint {state['step']}")
        start(self, **state)

    monkeypatch.setattr(CheckpointWriter, "start", noted)
    job = replace(composed(*SMALL, *SHORT, f"cache={cache}"), trackers=(mirror,))
    with redirect_stdout(unread):
        assert launch(job, tmp_path) is None  # no validation split was scored
    assert mirror.calls == [
        "start",
        "log 0",
        *("checkpoint 1", "log 1", "table of 12", "sync"),
        *("checkpoint 2", "log 2", "table of 12", "sync"),
        "finish",
    ]
    assert [line["step"] for line in metrics(tmp_path)] == [0, 1, 2]
    kept = (tmp_path / "train.log").read_text()
    assert "data: generated" in kept
    assert "step 2/2" in kept
    assert "warning: tracker Breaking takes no more data: no room" in kept
