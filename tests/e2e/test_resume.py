"""However often a run is stopped, and wherever: it ends with the bits of one that never was.

Runs that are killed are processes forked from one that has imported everything, so a start costs
no import.
"""

import os
import random
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.running import metrics, run
from tests.forked import FORKED

STEPS = 10
RUN = (
    "estimator=ospo",
    f"trainer.steps={STEPS}",
    "trainer.prompts_per_step=2",
    "trainer.checkpoint_every=1",
    "evaluation.every=5",
    "evaluation.samples=1",
    "evaluation.max_prompts=2",
    "rollout.max_new_tokens=12",
)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("straight")
    run(folder, f"cache={cache}", *RUN)
    return folder


@pytest.fixture(scope="module")
def start(cache):
    """Start the run in a folder, in a process of its own."""

    def started(folder):
        process = FORKED.Process(target=run, args=(folder, f"cache={cache}", *RUN))
        process.start()
        return process

    return started


def last_tensors(folder):
    """Weights and moments of the last checkpoint."""
    (path,) = (folder / f"checkpoints/step-{STEPS:06d}").glob("*.safetensors")
    return load_file(path)


def assert_same(one, other):
    assert len(metrics(one)) == STEPS + 1
    assert metrics(one) == metrics(other)
    assert (one / "completions.jsonl").read_text() == (other / "completions.jsonl").read_text()
    mine, theirs = last_tensors(one), last_tensors(other)
    assert mine.keys() == theirs.keys()
    assert any(name.endswith("exp_avg_sq") for name in mine)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    kept = [sorted(p.name for p in (f / "checkpoints").iterdir()) for f in (one, other)]
    assert kept[0] == kept[1]


def lines(folder):
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def writing(folder):
    return list((folder / "checkpoints").glob(".writing-*"))


def until(process, condition):
    """Wait for it, or for the end of the process."""
    deadline = time.monotonic() + 120
    while process.is_alive() and not condition() and time.monotonic() < deadline:
        time.sleep(0.0005)


def stopped_by(process, number):
    """Its exit status once it is told to stop."""
    os.kill(process.pid, number)
    process.join(timeout=120)
    return process.exitcode


def test_ctrl_c_and_sigterm_save_and_the_run_goes_on_with_the_same_bits(
    tmp_path, cache, straight, start
):
    for number, count in [(signal.SIGINT, 3), (signal.SIGTERM, 6)]:
        process = start(tmp_path)
        until(process, lambda count=count: lines(tmp_path) >= count)
        assert stopped_by(process, number) == 128 + number
        done = metrics(tmp_path)[-1]["step"]
        assert count - 1 <= done < STEPS
        assert (tmp_path / f"checkpoints/step-{done:06d}/state.json").exists()
        assert not writing(tmp_path)
    assert f"going on after step {done}" in run(tmp_path, f"cache={cache}", *RUN)
    assert_same(tmp_path, straight)


def kill_at_random(start, folder, draw):
    """Kill a run somewhere in its next steps, every second time while a checkpoint is written."""
    process, before = start(folder), lines(folder)
    count = min(before + draw.randrange(1, 4), STEPS)
    until(process, lambda: lines(folder) >= count)
    if draw.random() < 0.5:
        until(process, lambda: writing(folder))
    else:
        time.sleep(draw.uniform(0, 0.2))
    process.kill()
    process.join(timeout=120)
    assert process.exitcode in (-signal.SIGKILL, 0)
    return bool(writing(folder)), process.exitcode


def kills(start, folder, cache, *, count, seed):
    """Kill a run so often, then let it end; how many kills met a checkpoint half written."""
    draw, halves = random.Random(seed), 0
    for _ in range(count):
        half, _ = kill_at_random(start, folder, draw)
        halves += half
    run(folder, f"cache={cache}", *RUN)
    return halves


def test_a_run_killed_twice_ends_with_the_same_bits(tmp_path, cache, straight, start):
    kills(start, tmp_path, cache, count=2, seed=0)
    assert_same(tmp_path, straight)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_twenty_kills_leave_the_same_bits(tmp_path, cache, straight, start, record_property):
    halves = 0
    for seed in range(1, 6):
        folder = tmp_path / str(seed)
        folder.mkdir()
        halves += kills(start, folder, cache, count=4, seed=seed)
        assert_same(folder, straight)
    record_property("kills while a checkpoint was half written", halves)
    print(f"{halves} of 20 kills met a checkpoint half written")
    assert halves > 0


def test_another_config_in_the_same_folder_is_refused(tmp_path, cache, straight):
    before = {p: p.stat().st_mtime_ns for p in straight.rglob("*")}
    with pytest.raises(ValueError, match=r"(?s)another config.*seed: 0 .*, 1 here.*resume=never"):
        run(straight, f"cache={cache}", *RUN, "seed=1")
    assert {p: p.stat().st_mtime_ns for p in straight.rglob("*")} == before


def test_a_damaged_checkpoint_is_passed_over_on_request_with_the_same_bits(
    tmp_path, cache, straight, start
):
    process = start(tmp_path)
    until(process, lambda: lines(tmp_path) >= 6)
    assert stopped_by(process, signal.SIGTERM) == 143
    newest = sorted((tmp_path / "checkpoints").glob("step-*"))[-1]
    (tensors,) = newest.glob("*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(RuntimeError, match=rf"{newest.name} is damaged: {tensors.name}"):
        run(tmp_path, f"cache={cache}", *RUN)
    printed = run(tmp_path, f"cache={cache}", *RUN, "resume=previous")
    assert f"{newest.name} is damaged" in printed
    aside = tmp_path / "checkpoints" / f"damaged-{newest.name}"
    assert aside.exists()
    aside.rename(tmp_path / "aside")
    assert_same(tmp_path, straight)


def test_resume_never_starts_anew(tmp_path, cache):
    short = (*RUN, "trainer.steps=1", "evaluation.every=0")
    run(tmp_path, f"cache={cache}", *short)
    first = (tmp_path / "run_id").read_text()
    printed = run(tmp_path, f"cache={cache}", *short, "resume=never")
    assert "going on" not in printed
    assert (tmp_path / "run_id").read_text() != first
    assert metrics(tmp_path)[-1]["step"] == 1
