import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from rlcredit.distributed.world import World
from rlcredit.policy.sharded import Sharded
from tests.distributed.worlds import METHODS, policy, shard, start, train


@pytest.fixture(scope="module")
def by_several(cache, tmp_path_factory):
    """By number of processes, the same folder."""
    folders = {size: tmp_path_factory.mktemp(f"world-{size}") for size in (2, 4)}
    for size, folder in folders.items():
        assert start(train, cache, folder, list(METHODS), processes=size) == size
    return folders


@pytest.fixture(scope="module")
def in_parts(cache, tmp_path_factory):
    """The same folder of two processes with a part of the weights each, and a weight's change."""
    folder = tmp_path_factory.mktemp("parts")
    return folder, start(shard, cache, folder, processes=2)


def assert_same(folder, by_one, method):
    want, got = (load_file(each / method) for each in (by_one, folder))
    assert got.keys() == want.keys()
    for name, value in want.items():
        torch.testing.assert_close(got[name], value, rtol=1e-9, atol=1e-9, msg=name)
    assert {name.split(".")[0] for name in want} == {"1", "2", "weights"}


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("method", METHODS)
def test_several_processes_give_what_one_gives(by_several, by_one, method, size):
    assert_same(by_several[size], by_one, method)


@pytest.mark.parametrize("method", METHODS)
def test_weights_in_parts_give_what_whole_ones_give(in_parts, by_one, method):
    assert_same(in_parts[0], by_one, method)


@pytest.mark.slow
def test_weights_in_four_parts_give_what_whole_ones_give(cache, by_one, tmp_path):
    assert start(train, cache, tmp_path, list(METHODS), True, processes=4) == 4
    for method in METHODS:
        assert_same(tmp_path, by_one, method)


def test_weights_in_parts_are_kept_wide_and_used_coarsely(in_parts):
    assert 1e-4 < in_parts[1] < 0.1


def test_the_export_of_weights_in_parts_is_the_whole_model(in_parts, cache):
    exported = AutoModelForCausalLM.from_pretrained(in_parts[0] / "exported", dtype="auto")
    want = dict(policy(cache).model.named_parameters())
    for name, value in exported.named_parameters():
        assert torch.equal(value.double(), want[name])


def test_weights_in_parts_need_several_processes(cache):
    with pytest.raises(ValueError, match=r"set trainer\.processes=2 or more"):
        Sharded.of(policy(cache), World(), dtype=None)
