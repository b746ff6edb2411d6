"""Checkpoints written by one rank are read by two, theirs by four, and those by one."""

import resource
import signal
import traceback
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard

from rlcredit.checkpoint.folders import CheckpointError, latest
from rlcredit.checkpoint.state import full_weights, restore
from rlcredit.checkpoint.writer import CheckpointWriter
from tests.checkpoint.test_checkpoint import fresh, keep, train, weights
from tests.forked import FORKED

MODES = ("sharded", "replicated")


def double(seed=0, *, sharded=False):
    model, _ = fresh(seed, width=5)  # 5 rows do not split evenly
    model.double()
    if sharded:
        fully_shard(model)
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def go_on(rank, size, folder):
    """What each rank does: two steps from what is there, saved; then it fails to save another."""
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous-{size}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=60),
    )
    for mode in MODES:
        model, optimizer = double(seed=rank + 1, sharded=mode == "sharded")
        found = latest(folder / mode)
        restore(found, model, optimizer)
        train(model, optimizer, 2, start=found.step)
        writer = CheckpointWriter(parent=folder / mode, digest="d", identity={}, keep=3)
        state = {"model": model, "optimizer": optimizer, "carry": {"x": 0.5}}
        writer.start(step=found.step + 2, **state)
        train(model, optimizer, 1, start=found.step + 2)
        writer.wait()
        if mode == "sharded":
            assert_told_of_rank_one(rank, found.step + 3, writer, state)
    dist.destroy_process_group()


def assert_told_of_rank_one(rank, step, writer, state):
    if rank == 1:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
    writer.start(step=step, **state)
    expected = rf"step {step}.*rank 1: .*File too large.*step-00000{step - 1}"
    with pytest.raises(CheckpointError, match=expected):
        writer.wait()
    if rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def reported(rank, size, folder):
    try:
        go_on(rank, size, folder)
    except BaseException:
        (folder / f"error-{rank}.txt").write_text(traceback.format_exc())
        raise


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    model, optimizer = double()
    train(model, optimizer, 2)
    for mode in MODES:
        keep(folder / mode, 2, model, optimizer, keep=3)
    for size in (2, 4):
        ranks = [FORKED.Process(target=reported, args=(r, size, folder)) for r in range(size)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(timeout=120)
        errors = [path.read_text() for path in folder.glob("error-*.txt")]
        assert [process.exitcode for process in ranks] == [0] * size, "\n".join(errors)
    return folder


@pytest.mark.parametrize("mode", MODES)
def test_one_rank_goes_on_from_what_four_wrote_who_went_on_from_two(folder, mode):
    straight, optimizer = double()
    train(straight, optimizer, 8)
    model, optimizer = double(seed=3)
    found = latest(folder / mode)
    assert (found.step, found.carry) == (6, {"x": 0.5})
    restore(found, model, optimizer)
    train(model, optimizer, 2, start=6)
    assert torch.allclose(weights(model), weights(straight), rtol=0, atol=1e-12)


def test_shards_together_are_the_whole_and_copies_are_written_once(folder):
    sharded, replicated = (full_weights(latest(folder / mode).folder) for mode in MODES)
    assert all(torch.equal(value, replicated[name]) for name, value in sharded.items())
    sizes = [
        sum(path.stat().st_size for path in latest(folder / mode).folder.glob("*.safetensors"))
        for mode in MODES
    ]
    assert len(list(latest(folder / "sharded").folder.glob("shard-0000[1-4]-*"))) == 4
    assert sizes[1] < 1.5 * sizes[0]
