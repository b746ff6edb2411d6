import json
import resource
import signal
from contextlib import contextmanager

import pytest
import torch

from rlcredit.trainer.checkpoint import CheckpointError, latest, restore, save


def fresh(seed=0):
    torch.random.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    return model, torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)


def train(model, optimizer, steps, start=0):
    for step in range(start, start + steps):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def keep(parent, step, model, optimizer, **kwargs):
    settings = {"digest": "d", "carry": {"x": 0.1}, "keep": 2} | kwargs
    return save(parent, step=step, model=model, optimizer=optimizer, **settings)


def test_training_goes_on_with_the_same_bits(tmp_path):
    straight, optimizer = fresh()
    train(straight, optimizer, 10)
    first, optimizer = fresh()
    train(first, optimizer, 5)
    keep(tmp_path, 5, first, optimizer)
    second, optimizer = fresh(seed=1)
    restore(latest(tmp_path), second, optimizer)
    train(second, optimizer, 5, start=5)
    assert torch.equal(weights(second), weights(straight))


def test_the_last_ones_are_kept_with_what_the_run_carries(tmp_path):
    model, optimizer = fresh()
    train(model, optimizer, 1)
    for step in (1, 2, 3):
        keep(tmp_path, step, model, optimizer, carry={"x": step / 10})
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-000002", "step-000003"]
    newest = latest(tmp_path)
    assert (newest.step, newest.digest, newest.carry) == (3, "d", {"x": 0.3})


def test_a_folder_without_checkpoints_has_no_latest(tmp_path):
    assert latest(tmp_path / "none") is None


@contextmanager
def files_of_at_most(size):
    """The system refuses to write more than so many bytes to a file, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_is_full_loses_nothing(tmp_path):
    model, optimizer = fresh()
    train(model, optimizer, 1)
    keep(tmp_path, 1, model, optimizer)
    with files_of_at_most(64), pytest.raises(CheckpointError, match=r"step 2.*step-000001.*room"):
        keep(tmp_path, 2, model, optimizer)
    assert [p.name for p in tmp_path.iterdir()] == ["step-000001"]
    assert latest(tmp_path).step == 1


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json"])
def test_a_truncated_file_is_refused_by_name(tmp_path, name):
    model, optimizer = fresh()
    train(model, optimizer, 1)
    file = keep(tmp_path, 1, model, optimizer).folder / name
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match=r"step-000001 is damaged.*resume=never"):
        latest(tmp_path)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    model, optimizer = fresh()
    train(model, optimizer, 1)
    checkpoint = keep(tmp_path, 1, model, optimizer)
    other = torch.nn.Linear(3, 4)
    with pytest.raises(CheckpointError, match="another model"):
        restore(checkpoint, other, torch.optim.AdamW(other.parameters()))


def test_nothing_is_pickled(tmp_path):
    model, optimizer = fresh()
    train(model, optimizer, 1)
    folder = keep(tmp_path, 1, model, optimizer).folder
    assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".safetensors", ".safetensors"]
    assert json.loads((folder / "state.json").read_text())["step"] == 1
