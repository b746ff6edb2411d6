import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from rlcredit.trainer.training_state import full_weights
from tests.e2e.running import ROOT, SMALL, metrics, run

OSPO = ("estimator=ospo", "trainer.steps=6")


def weights(folder):
    return full_weights(folder / "checkpoints" / "step-000006")


def assert_same(one, other):
    assert metrics(one) == metrics(other)
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)
    assert (one / "completions.jsonl").read_text() == (other / "completions.jsonl").read_text()


@pytest.fixture(scope="module")
def straight(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("straight")
    run(folder, f"cache={cache}", *OSPO)
    return folder


def at_line(path, count, act):
    """Once a file holds so many lines, act; in a thread of its own."""

    def wait():
        for _ in range(6000):
            if path.exists() and path.read_bytes().count(b"\n") >= count:
                return act()
            time.sleep(0.01)
        return None

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_ctrl_c_saves_and_the_run_goes_on_with_the_same_bits(tmp_path, cache, straight):
    thread = at_line(tmp_path / "metrics.jsonl", 4, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, f"cache={cache}", *OSPO)
    thread.join()
    assert stopped.value.code == 130
    assert 3 <= metrics(tmp_path)[-1]["step"] < 6
    assert "going on after step" in run(tmp_path, f"cache={cache}", *OSPO)
    assert_same(tmp_path, straight)


def test_a_killed_run_goes_on_with_the_same_bits(tmp_path, cache, straight):
    words = [*SMALL, *OSPO, f"cache={cache}", f"hydra.run.dir={tmp_path / 'run'}"]
    command = [sys.executable, "train.py", *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    at_line(tmp_path / "run" / "metrics.jsonl", 5, process.kill).join()
    assert process.wait(timeout=120) == -signal.SIGKILL
    run(tmp_path / "run", f"cache={cache}", *OSPO)
    assert_same(tmp_path / "run", straight)


def test_another_config_in_the_same_folder_is_refused(tmp_path, cache, straight):
    before = {p: p.stat().st_mtime_ns for p in straight.rglob("*")}
    with pytest.raises(RuntimeError, match=r"(?s)another config.*seed: 0 .*, 1 here.*resume=never"):
        run(straight, f"cache={cache}", *OSPO, "seed=1")
    assert {p: p.stat().st_mtime_ns for p in straight.rglob("*")} == before


def test_resume_never_starts_anew(tmp_path, cache):
    run(tmp_path, f"cache={cache}")
    first = (tmp_path / "run_id").read_text()
    printed = run(tmp_path, f"cache={cache}", "resume=never")
    assert "going on" not in printed
    assert (tmp_path / "run_id").read_text() != first
    assert metrics(tmp_path)[-1]["step"] == 4
