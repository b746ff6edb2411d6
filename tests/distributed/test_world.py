import pytest
import torch
from safetensors.torch import load_file

from tests.distributed.worlds import METHODS, alone, start, train


@pytest.fixture(scope="module")
def runs(cache, tmp_path_factory):
    """By number of processes: the folder of what came of every method."""
    folders = {size: tmp_path_factory.mktemp(f"world-{size}") for size in (1, 2, 4)}
    start(alone, cache, folders[1], list(METHODS), processes=1)
    for size in (2, 4):
        assert start(train, cache, folders[size], list(METHODS), processes=size) == size
    return folders


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("method", METHODS)
def test_several_processes_give_what_one_gives(runs, method, size):
    want, got = (load_file(runs[n] / method) for n in (1, size))
    assert got.keys() == want.keys()
    for name, value in want.items():
        torch.testing.assert_close(got[name], value, rtol=1e-9, atol=1e-9, msg=name)
    assert len({name.split(".")[0] for name in want}) == 3
