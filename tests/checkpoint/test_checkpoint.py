"""Checkpoints on one process: the same bits, whole or not there, and refused when not right."""

import json
import os
import signal
import threading

import pytest
import torch

from rlcredit.checkpoint import writer as checkpoint_writer
from rlcredit.checkpoint.folders import (
    CheckpointError,
    checksum,
    differences,
    folders,
    latest,
    latest_whole,
)
from rlcredit.checkpoint.state import full_weights, restore, training_state
from rlcredit.checkpoint.writer import CheckpointWriter
from tests.forked import FORKED
from tests.full_disk import full_disk


def fresh(seed=0, width=4):
    torch.random.manual_seed(seed)
    layers = (torch.nn.Linear(3, width), torch.nn.Tanh(), torch.nn.Linear(width, 2))
    model = torch.nn.Sequential(*layers)
    return model, torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)


def train(model, optimizer, steps, start=0):
    for step in range(start, start + steps):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
        x = x.to(next(model.parameters()).dtype)
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def writer(parent, **settings):
    given = {"digest": "d", "identity": {"seed": 0}, "keep": 2} | settings
    return CheckpointWriter(parent=parent, **given)


def keep(parent, step, model, optimizer, *, carry=None, score=None, **settings):
    """Write one and wait for it; its folder."""
    made = writer(parent, **settings)
    write(made, step, model, optimizer, carry=carry or {"x": 0.1}, score=score)
    return parent / f"step-{step:06d}"


def write(made, step, model, optimizer, **settings):
    made.start(step=step, model=model, optimizer=optimizer, **({"carry": {}} | settings))
    made.wait()


@pytest.fixture
def trained():
    model, optimizer = fresh()
    train(model, optimizer, 1)
    return model, optimizer


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


def test_what_is_written_is_a_copy_of_the_moment_it_was_asked_for(tmp_path, trained):
    model, optimizer = trained
    before = {name: t.clone() for name, t in training_state(model, optimizer).items()}
    made = writer(tmp_path)
    made.start(step=1, model=model, optimizer=optimizer, carry={})
    train(model, optimizer, 20, start=1)
    made.wait()
    other, its = fresh(seed=1)
    restore(latest(tmp_path), other, its)
    after = training_state(other, its)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_training_goes_on_while_files_are_written_and_only_one_is_under_way(
    tmp_path, trained, monkeypatch
):
    model, optimizer = trained
    go_on, order = threading.Event(), []
    real = checkpoint_writer.sums

    def slow(folder):
        order.append(f"writing {folder.name}")
        assert go_on.wait(timeout=30)
        return real(folder)

    monkeypatch.setattr(checkpoint_writer, "sums", slow)
    made = writer(tmp_path)
    made.start(step=1, model=model, optimizer=optimizer, carry={})
    train(model, optimizer, 1, start=1)
    assert folders(tmp_path) == []
    threading.Timer(0.2, lambda: (order.append("let go"), go_on.set())).start()
    made.start(step=2, model=model, optimizer=optimizer, carry={})
    made.wait()
    assert order.index("let go") < order.index("writing .writing-000002")
    assert [folder.name for folder in folders(tmp_path)] == ["step-000001", "step-000002"]


def test_an_error_in_the_run_waits_for_the_files_and_is_the_one_that_is_raised(tmp_path, trained):
    model, optimizer = trained
    made = writer(tmp_path)

    def a_run(settings):
        with made.waited_for():
            made.start(step=1, model=model, optimizer=optimizer, carry={})
            return settings["absent"]

    with pytest.raises(KeyError, match="absent"):
        a_run({})
    assert latest(tmp_path).step == 1


def test_a_failed_write_reaches_the_run_beside_its_own_error(tmp_path, trained):
    model, optimizer = trained
    made = writer(tmp_path)

    def a_run(settings):
        with made.waited_for():
            made.start(step=1, model=model, optimizer=optimizer, carry={})
            return settings["absent"]

    with full_disk(64), pytest.raises(KeyError) as raised:
        a_run({})
    assert "step 1 could not be written" in raised.value.__notes__[0]
    with full_disk(64), pytest.raises(CheckpointError, match="step 1 could not be written"):
        a_run({"absent": None})


def test_the_last_ones_are_kept_with_what_the_run_carries(tmp_path, trained):
    for step in (1, 2, 3):
        keep(tmp_path, step, *trained, carry={"x": step / 10})
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-000002", "step-000003"]
    newest = latest(tmp_path)
    assert (newest.step, newest.digest, newest.carry) == (3, "d", {"x": 0.3})


def test_the_best_one_is_kept_in_this_sitting_and_the_next(tmp_path, trained):
    made = writer(tmp_path, keep=1)
    assert not made.improves(None)
    for step, score in [(1, 0.2), (2, 0.5), (3, None), (4, 0.5), (5, 0.4)]:
        assert made.improves(score) == (step <= 2)
        made.start(step=step, model=trained[0], optimizer=trained[1], carry={}, score=score)
    made.wait()
    assert [folder.name for folder in folders(tmp_path)] == ["step-000002", "step-000005"]
    again = writer(tmp_path, keep=1)
    assert not again.improves(0.5)
    assert again.improves(0.6)


def test_a_folder_without_checkpoints_has_no_latest(tmp_path):
    assert latest(tmp_path / "none") is None
    assert latest_whole(tmp_path / "none", say=print) is None


def test_a_disk_that_is_full_loses_nothing(tmp_path, trained):
    keep(tmp_path, 1, *trained)
    made = writer(tmp_path)
    with full_disk(64), pytest.raises(CheckpointError, match=r"step 2.*step-000001.*room"):
        write(made, 2, *trained)
    assert [p.name for p in tmp_path.iterdir()] == ["step-000001"]
    assert latest(tmp_path).step == 1
    keep(tmp_path, 3, *trained)
    assert latest(tmp_path).step == 3


def write_and_die(parent, stage):
    """Write step 2, killed where the writer calls a function for the first time."""

    def die(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

    module, _, name = stage.rpartition(".")
    setattr(checkpoint_writer.os if module else checkpoint_writer, name, die)
    model, optimizer = fresh()
    train(model, optimizer, 2)
    keep(parent, 2, model, optimizer, keep=1)


@pytest.mark.parametrize(
    ("stage", "newest"), [("sums", 1), ("_flush", 1), ("os.replace", 1), ("superseded", 2)]
)
def test_a_kill_within_the_write_leaves_the_last_whole_one(tmp_path, trained, stage, newest):
    keep(tmp_path, 1, *trained)
    process = FORKED.Process(target=write_and_die, args=(tmp_path, stage))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL
    assert [p.name for p in tmp_path.glob(".writing-*")] == [".writing-000002"] * (newest == 1)
    assert latest(tmp_path).step == newest
    restore(latest(tmp_path), *fresh(seed=1))
    keep(tmp_path, 3, *trained, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["step-000003"]


def test_every_file_and_folder_is_on_disk_before_the_checkpoint_has_its_name(
    tmp_path, trained, monkeypatch
):
    parent, order = tmp_path / "run" / "checkpoints", []
    fsync, replace = os.fsync, os.replace

    def flush(handle):
        order.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    def rename(source, target):
        order.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    folder = keep(parent, 1, *trained)
    before, after = order[: order.index("rename")], order[order.index("rename") + 1 :]
    temporary = parent / ".writing-000001"
    assert set(before) == {str(temporary), *(str(temporary / p.name) for p in folder.iterdir())}
    assert before[-1] == str(temporary)
    assert after == [str(parent), str(parent.parent)]


def tensor_file(folder):
    (path,) = folder.glob("*.safetensors")
    return path


def damage(folder, how):
    """Names the file that an error must name."""
    file = tensor_file(folder)
    if how == "state":
        file = folder / "state.json"
    if how == "missing":
        file.unlink()
    elif how == "bit":
        content = bytearray(file.read_bytes())
        content[-3] ^= 1
        file.write_bytes(content)
    elif how == "edited":
        file = folder / "state.json"
        file.write_text(file.read_text().replace('"step": 2', '"step": 9'))
    elif how == "another":
        (folder / "more.safetensors").write_bytes(b"")
        file = folder / "more.safetensors"
    else:
        file.write_bytes(file.read_bytes()[:-7])
    return file.name


@pytest.mark.parametrize("how", ["tensors", "state", "missing", "bit", "edited", "another"])
def test_a_damaged_checkpoint_is_refused_by_file_and_passed_over_on_request(tmp_path, trained, how):
    keep(tmp_path, 1, *trained)
    name = damage(keep(tmp_path, 2, *trained), how)
    with pytest.raises(CheckpointError, match=rf"step-000002 is damaged.*{name}.*resume=previous"):
        latest(tmp_path)
    said = []
    assert latest_whole(tmp_path, say=said.append).step == 1
    assert len(said) == 1
    assert "step-000002 is damaged; it was renamed damaged-step-000002" in said[0]
    assert latest(tmp_path).step == 1
    assert (tmp_path / "damaged-step-000002").exists()


def test_where_no_checkpoint_is_whole_all_are_named_and_left(tmp_path, trained):
    for step in (1, 2):
        damage(keep(tmp_path, step, *trained), "tensors")
    with pytest.raises(CheckpointError, match=r"(?s)none.*step-000002.*step-000001.*resume=never"):
        latest_whole(tmp_path, say=print)
    assert [folder.name for folder in folders(tmp_path)] == ["step-000001", "step-000002"]


def test_another_model_is_refused_with_names_and_shapes(tmp_path, trained):
    keep(tmp_path, 1, *trained)
    other, optimizer = fresh(width=5)
    other.append(torch.nn.Linear(2, 1))
    before = weights(other)
    with pytest.raises(CheckpointError, match="another model") as refused:
        restore(latest(tmp_path), other, optimizer)
    said = str(refused.value)
    assert "0.weight: [4, 3] float32 in the checkpoint, [5, 3] float32 here" in said
    assert "3.bias: absent in the checkpoint, [1] float32 here" in said
    assert "2.bias" not in said
    assert torch.equal(weights(other), before)


def test_another_config_is_refused_with_both_values_of_every_key(tmp_path, trained):
    identity = {"seed": 0, "trainer": {"lr": 0.1, "steps": 3}, "loss": {"clip": None}}
    keep(tmp_path, 1, *trained, identity=identity)
    found = latest(tmp_path)
    found.refuse_other("d", {})
    ours = {"seed": 1, "trainer": {"lr": 0.1, "steps": 4}, "data": "x"}
    with pytest.raises(CheckpointError, match="another config") as refused:
        found.refuse_other("e", ours)
    said = str(refused.value)
    assert "seed: 0 in the checkpoint, 1 here" in said
    assert "trainer.steps: 3 in the checkpoint, 4 here" in said
    assert "loss.clip: None in the checkpoint, not set here" in said
    assert "trainer.lr" not in said
    assert differences(identity, identity) == []


@pytest.mark.parametrize("found", [1, 2, 3, 5])
def test_another_version_is_refused_by_number(tmp_path, trained, found):
    folder = keep(tmp_path, 1, *trained)
    state = json.loads((folder / "state.json").read_text())
    del state["check"]
    state["format"] = found
    state["check"] = checksum(state)
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match=rf"format {found}.*reads format 4.*resume=never"):
        latest_whole(tmp_path, say=print)


def test_frozen_and_tied_parameters_are_not_written_twice(tmp_path):
    model = torch.nn.ModuleDict({name: torch.nn.Linear(3, 3, bias=False) for name in "abc"})
    model["b"].weight = model["a"].weight
    model["c"].weight.requires_grad_(False)
    optimizer = torch.optim.AdamW([model["a"].weight], fused=True)
    (model["a"].weight * model["c"].weight).sum().backward()
    optimizer.step()
    keep(tmp_path, 1, model, optimizer)
    assert list(full_weights(latest(tmp_path).folder)) == ["a.weight"]
    before = model["a"].weight.detach().clone()
    with torch.no_grad():
        model["a"].weight.zero_()
    restore(latest(tmp_path), model, optimizer)
    assert torch.equal(model["b"].weight, before)


def test_nothing_is_pickled(tmp_path, trained):
    folder = keep(tmp_path, 1, *trained)
    assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".safetensors"]
    assert json.loads((folder / "state.json").read_text())["step"] == 1
