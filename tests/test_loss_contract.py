"""The promises of every loss. A new one is found by its YAML file."""

import re
from dataclasses import fields, replace

import pytest
import torch

from rlcredit.losses.base import PolicyLoss
from tests.composing import built, names
from tests.strategies import make_batch

LOSSES = names("loss")


@pytest.fixture(params=LOSSES)
def loss(request):
    return built("loss", request.param)


def example(loss, **kwargs):
    return make_batch(constant=not loss.takes_tokens, **kwargs)


def prompts_of(batch, rows):
    """The batch of some prompts, with the counts of the whole one."""
    parts = {
        f.name: value[rows]
        for f in fields(batch)
        if isinstance(value := getattr(batch, f.name), torch.Tensor)
    }
    return replace(batch, **parts)


def gradient(loss, logprobs, batch):
    leaf = logprobs.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, batch).value, leaf)[0]


def test_it_is_a_loss(loss):
    assert isinstance(loss, PolicyLoss)


def test_the_value_is_a_finite_scalar_with_named_metrics(loss):
    result = loss(*example(loss))
    assert torch.isfinite(result.value)
    assert result.metrics
    for key, value in result.metrics.items():
        assert re.fullmatch(r"loss/[a-z0-9_]+", key), key
        assert value.shape == ()
        assert torch.isfinite(value)
        assert not value.requires_grad


def test_the_gradient_is_zero_on_masked_tokens_and_nowhere_lost(loss):
    logprobs, batch = example(loss)
    at_start = batch.old_logprobs
    found = gradient(loss, at_start, batch)
    assert (found[~batch.response_mask] == 0).all()
    counted = batch.response_mask
    if loss.needs.entropy_rank:  # some tokens are left out on purpose
        counted = counted & (batch.entropy_rank <= loss.top_entropy)
        assert counted.any()
    assert (found[counted] != 0).all()
    assert torch.isfinite(gradient(loss, logprobs, batch)).all()


def test_what_stands_on_masked_tokens_does_not_matter(loss):
    logprobs, batch = example(loss)
    mask = batch.response_mask
    dirty = {
        name: torch.where(mask, getattr(batch, name), torch.nan)
        for name in ("old_logprobs", "rollout_logprobs", "ref_logprobs")
    }
    expected = loss(logprobs, batch)
    wild = torch.where(mask, logprobs, torch.inf)
    result = loss(wild, replace(batch, **dirty))
    assert torch.equal(result.value, expected.value)
    found = gradient(loss, wild, replace(batch, **dirty))
    assert torch.equal(found, gradient(loss, logprobs, batch))


def test_micro_batches_of_whole_groups_add_up(loss):
    logprobs, batch = example(loss)
    whole = loss(logprobs, batch)
    rows = (slice(0, 1), slice(1, 3))
    parts = [loss(logprobs[r], prompts_of(batch, r)) for r in rows]
    torch.testing.assert_close(sum(p.value for p in parts), whole.value, rtol=0, atol=1e-12)
    for key, value in whole.metrics.items():
        total = sum(p.metrics[key] for p in parts)
        torch.testing.assert_close(total, value, rtol=0, atol=1e-6)


def test_couples_group_says_whether_siblings_matter(loss):
    logprobs, batch = example(loss)
    before = gradient(loss, logprobs, batch)
    moved = logprobs.clone()
    moved[0, 1] += 0.05
    after = gradient(loss, moved, batch)
    same_rollout = torch.equal(before[0, 0], after[0, 0])
    assert same_rollout == (not loss.couples_group)
    assert torch.equal(before[1:], after[1:])


def test_better_tokens_become_likelier(loss):
    _, batch = example(loss)
    found = gradient(loss, batch.old_logprobs, batch)
    ascent = -(found * batch.advantages).sum()
    assert ascent > 0


def test_a_batch_without_tokens_costs_nothing(loss):
    logprobs, batch = example(loss)
    empty = replace(batch, response_mask=torch.zeros_like(batch.response_mask), num_tokens=0)
    for none in (empty, replace(empty, num_rollouts=0, num_prompts=0)):
        assert loss(logprobs, none).value == 0
        assert (gradient(loss, logprobs, none) == 0).all()


def test_half_precision_is_left_at_the_door(loss):
    logprobs, batch = example(loss)
    single = {
        f.name: value.float()
        for f in fields(batch)
        if isinstance(value := getattr(batch, f.name), torch.Tensor) and value.is_floating_point()
    }
    result = loss(logprobs.bfloat16(), replace(batch, **single))
    assert result.value.dtype == torch.float32
