"""Several trackers at once mirror one record, over a stop and a resume."""

import os
import signal

import pytest
import wandb

from rlcredit.tracking.mirror import Mirror
from tests.e2e.running import SMALL, metrics, run

pytest.importorskip("tensorboard", reason="pip install .[tensorboard]")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SHORT = (
    *(word for word in SMALL if not word.startswith("tracker=")),
    "tracker=[tensorboard,jsonl,wandb]",
    "trainer.steps=3",
    "trainer.checkpoint_every=1",
    "evaluation.every=0",
    "evaluation.max_prompts=1",
    "evaluation.samples=1",
)


@pytest.fixture
def _offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield
    wandb.teardown()  # and forgets the variable


@pytest.mark.usefixtures("_offline")
def test_all_trackers_of_a_list_are_written_and_a_resumed_run_shows_no_step_twice(
    tmp_path, cache, monkeypatch
):
    log, steps = Mirror.log, []

    def stopping(mirror, values, *, step):
        log(mirror, values, step=step)
        steps.append(step)
        if steps == [0, 0, 1]:  # the first of two mirrors
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Mirror, "log", stopping)
        with pytest.raises(SystemExit):
            run(tmp_path, f"cache={cache}", small=SHORT)
    said = run(tmp_path, f"cache={cache}", small=SHORT)
    assert "going on after step" in said
    assert f"tensorboard --logdir {tmp_path / 'tensorboard'}" in said
    assert "W&B is offline" in said
    record = metrics(tmp_path)
    assert [line["step"] for line in record] == [0, 1, 2, 3]
    shown = EventAccumulator(str(tmp_path / "tensorboard"))
    shown.Reload()
    curve = [(event.step, event.value) for event in shown.Scalars("reward/mean")]
    logged = [(line["step"], line["reward/mean"]) for line in record if "reward/mean" in line]
    assert [step for step, _ in curve] == [1, 2, 3]
    assert curve == [(step, pytest.approx(value)) for step, value in logged]
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
