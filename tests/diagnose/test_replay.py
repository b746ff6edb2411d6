"""A refused batch comes back from disk as it was, and computing it again names what is at fault."""

from dataclasses import dataclass, fields, replace

import pytest
import torch
from torch import Tensor

from rlcredit.checkpoint.folders import CheckpointError
from rlcredit.checkpoint.state import restore_weights
from rlcredit.diagnose.recompute import replay
from rlcredit.diagnose.refused_batch import load_batch, save_batch
from rlcredit.errors import raised_here
from rlcredit.losses.lpo import LPO
from rlcredit.losses.surrogate import ClippedSurrogate
from rlcredit.trainer.refused import MismatchError, NonFiniteError, Refused
from tests.distributed.worlds import ADAPTED, pretrained
from tests.full_disk import full_disk
from tests.trainer.test_loop import Exploding, fresh_policy, trainer, weights
from tests.trainer.test_mismatch import stale

__all__ = ["fresh_policy"]  # a fixture
CPU = torch.device("cpu")


def refused_by(made):
    with pytest.raises(NonFiniteError) as stopped:
        made.step(1)
    return stopped.value


def batch_of(made):
    """The batch of a step that computes, as a refusal would hold it."""
    result = made.step(1)
    batch = made.update_batch(result.rollouts, result.advantages)
    return Refused(batch=batch, rollouts=result.rollouts, step=1, update=0)


def assert_same(one, other):
    for each in fields(one):
        mine, theirs = getattr(one, each.name), getattr(other, each.name)
        if isinstance(mine, Tensor):
            assert mine.dtype == theirs.dtype
            assert torch.equal(mine, theirs), each.name
        else:
            assert mine == theirs, each.name


def test_a_saved_batch_comes_back_with_the_weights_it_met(fresh_policy, tmp_path):
    policy = fresh_policy()
    error = refused_by(trainer(policy, loss=Exploding()))
    folder = save_batch(tmp_path / "failed", error, policy.model)
    before = weights(policy)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.zero_()
    why, refused = load_batch(folder, device=CPU)
    restore_weights(folder / "weights", policy.model)
    assert why == str(error)
    assert_same(refused.batch, error.refused.batch)
    assert_same(refused.rollouts, error.refused.rollouts)
    assert (refused.step, refused.update) == (1, 0)
    assert torch.equal(weights(policy), before)


def test_a_second_batch_replaces_the_first_and_its_weights(fresh_policy, tmp_path):
    policy = fresh_policy()
    for _ in range(2):
        error = refused_by(trainer(policy, loss=Exploding()))
        save_batch(tmp_path / "failed", error, policy.model)
    assert len(list((tmp_path / "failed" / "weights").iterdir())) == 1


def test_a_loss_that_overflows_is_named_with_all_rows(fresh_policy):
    policy = fresh_policy()
    made = trainer(policy, loss=Exploding())
    shown = replay(policy, made.training_loss, refused_by(made).refused, tokens=64)
    (finding,) = [each for each in shown.first if "infinite" in each.what]
    assert finding.where == "the loss"
    assert not shown.finite
    assert shown.given == ()
    assert all(parameter.grad is None for parameter in policy.model.parameters())


@dataclass(frozen=True, kw_only=True)
class SteepRoot(ClippedSurrogate):
    """Adds the root of a zero that moves with the log-probs: finite, its gradient 0 * infinity."""

    def __call__(self, logprobs, batch):
        out = super().__call__(logprobs, batch)
        root = ((logprobs - logprobs.detach()) * batch.advantages).square().sum().sqrt()
        return replace(out, value=out.value + root)


def test_a_gradient_that_is_no_number_is_found_behind_a_finite_loss(fresh_policy):
    policy = fresh_policy()
    made = trainer(policy, loss=SteepRoot())
    error = refused_by(made)
    shown = replay(policy, made.training_loss, error.refused, tokens=10**6)
    assert torch.isfinite(torch.tensor(shown.loss))
    (finding,) = shown.first
    assert finding.where == "gradient at the log-probabilities"
    assert "NaN" in finding.what
    assert finding.rows == tuple(range(12))


def test_an_advantage_that_is_infinite_is_named_by_row(fresh_policy):
    policy = fresh_policy()
    made = trainer(policy)
    refused = batch_of(made)
    advantages = refused.batch.advantages.clone()
    advantages[1, 2, 0] = torch.inf
    refused = replace(refused, batch=replace(refused.batch, advantages=advantages))
    shown = replay(policy, made.training_loss, refused, tokens=64)
    (given,) = shown.given
    assert (given.where, given.rows) == ("advantages", (6,))
    assert {row for finding in shown.first for row in finding.rows} == {6}
    assert shown.first[0].where == "the loss"


def test_a_weight_that_is_no_number_is_named_and_so_is_what_it_reaches_first(fresh_policy):
    policy = fresh_policy()
    made = trainer(policy)
    refused = batch_of(made)
    name = "model.layers.0.mlp.up_proj"
    with torch.no_grad():
        policy.model.get_submodule(name).weight[0, 0] = torch.nan
    shown = replay(policy, made.training_loss, refused, tokens=64)
    assert [each.where for each in shown.given] == [f"parameter {name}.weight"]
    assert [(each.where, len(each.rows)) for each in shown.first] == [(f"output of {name}", 12)]


def test_adapters_and_recomputed_layers_are_watched_too(fresh_policy, tmp_path):
    fresh_policy().export(tmp_path)
    policy = pretrained(tmp_path, **ADAPTED)
    made = trainer(policy)
    refused = batch_of(made)
    name = "model.layers.0.mlp.down_proj.lora_A.default"
    with torch.no_grad():
        policy.model.get_submodule(name).weight[0, 0] = torch.nan
    shown = replay(policy, made.training_loss, refused, tokens=64)
    assert [(each.where, len(each.rows)) for each in shown.first] == [(f"output of {name}", 12)]


def test_a_loss_that_couples_a_group_is_followed_group_by_group(fresh_policy):
    policy = fresh_policy()
    made = trainer(policy, loss=LPO())
    refused = batch_of(made)
    whole = replay(policy, made.training_loss, refused, tokens=30)
    assert whole.finite
    assert whole.first == ()
    advantages = refused.batch.advantages.clone()
    advantages[2] = torch.nan
    refused = replace(refused, batch=replace(refused.batch, advantages=advantages))
    shown = replay(policy, made.training_loss, refused, tokens=30)
    assert [each.rows for each in shown.first] == [(8, 9, 10, 11)]


def test_the_loss_and_gradient_are_those_of_the_run(fresh_policy):
    policy = fresh_policy()
    made = trainer(policy)
    before = weights(policy)
    result = made.step(1)
    with torch.no_grad():
        torch.nn.utils.vector_to_parameters(before, policy.model.parameters())
    batch = made.update_batch(result.rollouts, result.advantages)
    refused = Refused(batch=batch, rollouts=result.rollouts, step=1, update=0)
    shown = replay(policy, made.training_loss, refused, tokens=made.settings.tokens_per_microbatch)
    assert shown.loss == result.metrics["train/loss"]
    assert shown.grad_norm == pytest.approx(result.metrics["train/grad_norm"], rel=1e-6)


def test_a_stale_sampler_is_saved_and_its_furthest_responses_are_named(fresh_policy, tmp_path):
    policy = fresh_policy()
    made = trainer(policy)
    made.rollout = stale(policy, 0.3)
    with pytest.raises(MismatchError, match="batch is saved") as stopped:
        made.step(3)
    folder = save_batch(tmp_path / "failed", stopped.value, policy.model)
    _, refused = load_batch(folder, device=CPU)
    shown = replay(policy, made.training_loss, refused, tokens=64)
    assert shown.finite
    assert shown.kl_nats > 0.1
    ours = policy.logprobs(refused.rollouts).logprobs.detach()
    gap = (ours - refused.batch.rollout_logprobs.flatten(0, 1)).abs()
    worst = shown.furthest[0]
    assert worst.max_abs_logprob == pytest.approx(float(gap.max()), rel=1e-4)
    assert float(gap[worst.row, worst.token]) == pytest.approx(worst.max_abs_logprob, rel=1e-4)


def test_a_folder_without_a_whole_batch_is_refused(fresh_policy, tmp_path):
    with pytest.raises(ValueError, match=r"holds no batch.*failed_batch"):
        load_batch(tmp_path, device=CPU)
    policy = fresh_policy()
    error = refused_by(trainer(policy, loss=Exploding()))
    folder = save_batch(tmp_path / "failed", error, policy.model)
    tensors = folder / "batch.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"holds no batch.*failed_batch"):
        load_batch(folder, device=CPU)
    with pytest.raises(CheckpointError, match=r"another model:\n  .*absent"):
        restore_weights(folder / "weights", torch.nn.Linear(2, 2))


def test_a_batch_that_was_sampled_for_its_texts_alone_comes_back(fresh_policy, tmp_path):
    policy = fresh_policy()
    error = refused_by(trainer(policy, loss=Exploding()))
    texts = replace(error.refused.rollouts, char_spans=None)
    error.refused = replace(error.refused, rollouts=texts)
    save_batch(tmp_path / "failed", error, policy.model)
    _, refused = load_batch(tmp_path / "failed", device=CPU)
    assert_same(refused.rollouts, texts)


def test_a_disk_that_does_not_take_a_batch_is_named_and_its_files_are_ordinary(
    fresh_policy, tmp_path
):
    policy = fresh_policy()
    error = refused_by(trainer(policy, loss=Exploding()))
    folder = save_batch(tmp_path / "failed", error, policy.model)
    (tmp_path / "ordinary").touch()
    modes = {path.stat().st_mode for path in folder.rglob("*") if path.is_file()}
    assert modes == {(tmp_path / "ordinary").stat().st_mode}
    size = (folder / "batch.safetensors").stat().st_size
    with (
        full_disk(size - 1),
        pytest.raises((OSError, CheckpointError), match=r"could not|cannot be") as full,
    ):
        save_batch(tmp_path / "failed", error, policy.model)
    assert raised_here(full.value)
