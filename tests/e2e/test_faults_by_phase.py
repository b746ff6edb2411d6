"""A process that dies or hangs in any phase of a job of two: named, ended in time, resumable."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from rlcredit.distributed.board import Board
from rlcredit.distributed.launcher import GRACE_S, HOST
from tests.e2e.running import ROOT, SMALL, metrics, run

TIMEOUT_S = 15
PHASES = {
    "loading": "loading",
    "rollout": "step 2, rollout",
    "reward": "step 2, reward",
    "update": "step 2, update",
    "checkpoint": "the checkpoint of step 2",
    "evaluation": "the evaluation after step 2",
}
SLACK_S = 15.0
"""For a machine that does other things too, and the word of the others."""
PHASE_S, END_S, RUN_S = 240, 120, 300
"""How long a job may take to come to a phase, its processes to end, and a whole job."""


def command(folder, cache, *overrides):
    words = [*SMALL, f"cache={cache}", f"hydra.run.dir={folder}", "trainer=ddp", *overrides]
    return [sys.executable, "train.py", *words]


def free_port():
    with socket.socket() as found:
        found.bind((HOST, 0))
        return found.getsockname()[1]


def ranks_of(job):
    """Process ids by rank: they are started in that order, by the job's fork server."""

    def children(parent):
        said = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True)
        return sorted(int(pid) for pid in said.stdout.split())

    return max((children(child) for child in children(job.pid)), key=len)


def hit(job, port, *, rank, phase, number):
    """Send a signal to a process as soon as it is in a phase; which that was, and all processes."""
    store = TCPStore(HOST, port, is_master=False, timeout=timedelta(seconds=180))
    board = Board(store=store, rank=-1, size=2)
    deadline, found = time.monotonic() + PHASE_S, None
    while job.poll() is None and time.monotonic() < deadline:
        said = board.read(rank).phase
        if found is None and said != "start":
            found = ranks_of(job)
        if found is not None and board.read(rank).phase == phase:
            os.kill(found[rank], number)
            return board.read(rank).phase, found
        time.sleep(0.0005)
    raise AssertionError(f"rank {rank} was never in {phase}: {job.communicate()[0]}")


@pytest.fixture(scope="module")
def straight(tmp_path_factory, cache):
    """Completions of a job that nothing happens to."""
    folder = tmp_path_factory.mktemp("straight")
    run(folder, f"cache={cache}", "trainer=ddp")
    return folder


@pytest.mark.faults
@pytest.mark.timeout(PHASE_S + 2 * END_S + 2 * RUN_S)  # the fixture's job, this one, and its rest
@pytest.mark.parametrize(
    ("number", "rank", "phase"),
    [
        *((signal.SIGKILL, 1, phase) for phase in PHASES),
        *((signal.SIGKILL, 0, phase) for phase in ("checkpoint", "evaluation")),
        *((signal.SIGSTOP, 1, phase) for phase in ("loading", "rollout", "checkpoint")),
        *((signal.SIGSTOP, 0, phase) for phase in ("checkpoint", "evaluation")),
    ],
)
def test_the_job_ends_in_time_and_the_same_command_goes_on(
    tmp_path, cache, straight, phase, number, rank
):
    port, folder = free_port(), tmp_path / "run"
    extra = (f"trainer.port={port}", f"trainer.timeout_s={TIMEOUT_S}")
    job = subprocess.Popen(
        command(folder, cache, *extra),
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    where, ranks = hit(job, port, rank=rank, phase=PHASES[phase], number=number)
    since = time.monotonic()
    while (
        any(Path(f"/proc/{each}").exists() for each in ranks) and time.monotonic() < since + END_S
    ):
        time.sleep(0.1)
    took = time.monotonic() - since
    said = job.communicate(timeout=END_S)[0]
    print(f"{phase}, rank {rank}, {number.name}: ended after {took:.1f} s\n{said}")
    allowed = GRACE_S + (0 if number == signal.SIGKILL else TIMEOUT_S)
    assert took < allowed + SLACK_S
    assert job.returncode == 1
    if number == signal.SIGKILL:
        assert re.search(rf"rank {rank} of 2 was killed by SIGKILL in {re.escape(where)}", said)
    else:
        assert re.search(rf"rank {rank} \(in {re.escape(where)}\) died, or is stuck", said)
    run(folder, f"cache={cache}", "trainer=ddp")
    assert metrics(folder)[-1]["step"] == 4
    got, want = (each / "completions.jsonl" for each in (folder, straight))
    assert got.read_text() == want.read_text()
