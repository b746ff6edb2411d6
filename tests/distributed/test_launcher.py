import os
import signal
import socket
import time
from multiprocessing import forkserver
from pathlib import Path

import pytest

from rlcredit.distributed import launcher
from rlcredit.distributed.board import RankError
from rlcredit.distributed.world import World
from tests.distributed.worlds import die, end_in, freeze_in_an_exchange, get_stuck, give_up, start
from tests.forked import FORKED


@pytest.mark.parametrize(
    ("part", "phase"), [("rollout", "rollout"), ("scorer", "reward"), ("training_loss", "update")]
)
def test_a_killed_process_ends_the_run_and_is_named_with_its_phase(cache, part, phase):
    began = time.monotonic()
    with pytest.raises(RankError, match=f"rank 1 of 2 was killed by SIGKILL in step 2, {phase}"):
        start(end_in, cache, part, die, processes=2)
    assert time.monotonic() - began < 40


def test_a_stuck_process_ends_the_run_within_the_timeout_and_is_named(cache):
    sentence = (
        r"rank 1 \(in step 2, reward\) died, or is stuck for more than trainer.timeout_s=3 seconds,"
        r" while rank 0 of 2, in step 2, reward, waited"
    )
    with pytest.raises(RankError, match=sentence):
        start(end_in, cache, "scorer", get_stuck, processes=2, timeout_s=3.0)


def test_a_process_that_stops_within_an_exchange_is_named_too(cache, monkeypatch):
    monkeypatch.setattr(launcher, "GRACE_S", 1.0)
    with pytest.raises(RankError, match=r"rank 1 \(in step 7, update\) died, or is stuck"):
        start(freeze_in_an_exchange, cache, processes=2, timeout_s=2.0)


def test_an_error_of_one_process_ends_the_run_with_its_sentence(cache):
    with pytest.raises(RankError, match=r"rank 1 of 2 failed in step 2, reward: .*index is broken"):
        start(end_in, cache, "scorer", give_up, processes=2)


def test_a_port_in_use_is_refused(cache):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RankError, match=rf"trainer.port={port}: the port is in use"):
            start(end_in, cache, "scorer", die, processes=2, port=port)


def test_shares_are_whole_in_order_and_never_empty():
    for size in (1, 2, 3, 5):
        parts = World(size=size).parts(5)
        assert [item for part in parts for item in range(5)[part]] == list(range(5))
        assert all(range(5)[part] for part in parts)
    with pytest.raises(ValueError, match="6 processes share 5 prompts"):
        World(size=6).part(5)


def blocked(pid, *, masks=("SigBlk",)):
    """Signals that a process does not take now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = [int(line.split()[1], 16) for line in lines if line.startswith(masks)]
    return {number for number in signal.Signals for mask in found if mask >> (number - 1) & 1}


STOPPING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def start_a_server_of_its_own():
    server = forkserver._forkserver
    server.__init__()
    server.set_forkserver_preload([])
    launcher._start_forkserver()
    # under nohup it ignores a hangup, and need not block it
    assert blocked(server._forkserver_pid, masks=("SigBlk", "SigIgn")) >= STOPPING
    assert not blocked(os.getpid()) & STOPPING
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    pid = os.fork()
    if pid == 0:
        os._exit(len(blocked(os.getpid()) & STOPPING))  # what a server forks hears again
    assert os.waitpid(pid, 0)[1] == 0


def test_a_closed_terminal_does_not_end_what_tells_how_the_processes_end():
    process = FORKED.Process(target=start_a_server_of_its_own)
    process.start()
    process.join(timeout=60)
    assert process.exitcode == 0


def test_a_hangup_is_handed_on_unless_it_is_ignored():
    number = signal.SIGHUP
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with launcher._handing_on_signals([]) as got:
            signal.raise_signal(number)
        assert got == [number]
        signal.signal(number, signal.SIG_IGN)  # as under nohup
        with launcher._handing_on_signals([]) as got:
            signal.raise_signal(number)
        assert got == []
    finally:
        signal.signal(number, before)
