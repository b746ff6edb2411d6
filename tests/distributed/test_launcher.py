import socket
import time

import pytest

from rlcredit.distributed import launcher
from rlcredit.distributed.board import RankError
from rlcredit.distributed.world import World
from tests.distributed.worlds import die, end_in, freeze_in_an_exchange, get_stuck, give_up, start


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
