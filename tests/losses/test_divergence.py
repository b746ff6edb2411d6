"""Which divergence a loss descends on, summed over every action of a small categorical policy."""

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from rlcredit.credit.ratio import KL
from rlcredit.losses.surrogate import ClippedSurrogate
from rlcredit.types import UpdateBatch
from tests.strategies import DOUBLE

REFERENCE = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=DOUBLE)
START = torch.tensor([0.5, -1.0, 0.3, 0.0], dtype=DOUBLE)


def descended(loss, logits, sampler):
    """Value and gradient in the logits of the expected loss, for actions of the sampler."""
    logits = logits.clone().requires_grad_()
    logprobs, old = logits.log_softmax(-1), sampler.log_softmax(-1)
    total = torch.zeros((), dtype=DOUBLE)
    for action in range(len(logits)):
        batch = UpdateBatch(
            advantages=torch.zeros(1, 1, 1, dtype=DOUBLE),
            response_mask=torch.ones(1, 1, 1, dtype=torch.bool),
            old_logprobs=old[action].view(1, 1, 1),
            rollout_logprobs=old[action].view(1, 1, 1),
            ref_logprobs=REFERENCE[action].log().view(1, 1, 1),
            num_tokens=1,
            num_rollouts=1,
            num_prompts=1,
        )
        total = total + old[action].exp() * loss(logprobs[action].view(1, 1, 1), batch).value
    return total.item(), torch.autograd.grad(total, logits)[0]


def true(logits, *, forward):
    """KL(policy || reference), or with the two exchanged, and its gradient."""
    logits = logits.clone().requires_grad_()
    pair = Categorical(logits=logits), Categorical(probs=REFERENCE)
    value = kl_divergence(*(pair[::-1] if forward else pair))
    return value.item(), torch.autograd.grad(value, logits)[0]


def surrogate(kl, **settings):
    return ClippedSurrogate(kl_coef=1.0, kl=kl, **settings)


@pytest.mark.parametrize("kl", [KL.k2, KL.k3_plus])
def test_k2_and_k3_plus_descend_on_the_divergence_of_the_policy_from_the_reference(kl):
    found = descended(surrogate(kl), START, START)[1]
    torch.testing.assert_close(found, true(START, forward=False)[1])


def test_the_value_of_k3_plus_is_k3s():
    value = descended(surrogate(KL.k3_plus), START, START)[0]
    assert value == pytest.approx(true(START, forward=False)[0])
    assert value == descended(surrogate(KL.k3), START, START)[0]


def test_k3_has_the_value_of_one_divergence_and_the_gradient_of_the_other():
    value, gradient = descended(surrogate(KL.k3), START, START)
    assert value == pytest.approx(true(START, forward=False)[0])
    torch.testing.assert_close(gradient, true(START, forward=True)[1])
    assert (gradient - true(START, forward=False)[1]).abs().max() > 0.1


@pytest.mark.parametrize("kl", [KL.k1, KL.k3])
def test_weighted_by_the_ratio_k1_and_k3_are_exact_off_the_policy_too(kl):
    sampler = torch.tensor([-0.3, 0.4, 0.0, 0.9], dtype=DOUBLE)
    value, gradient = descended(surrogate(kl, kl_weighted=True), START, sampler)
    expected_value, expected = true(START, forward=False)
    assert value == pytest.approx(expected_value)
    torch.testing.assert_close(gradient, expected)


def test_k1_alone_is_refused_as_a_loss_since_it_holds_the_policy_to_nothing():
    with pytest.raises(ValueError, match=r"kl=k1 has an expected gradient of 0.*loss\.kl=k3_plus"):
        surrogate(KL.k1)
    logits = START.clone().requires_grad_()
    chances = logits.softmax(-1)
    estimate = chances.log() - REFERENCE.log()
    gradient = torch.autograd.grad((chances.detach() * estimate).sum(), logits)[0]
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("kl", [KL.k2, KL.k3_plus])
def test_a_weight_that_would_count_a_gradient_twice_is_refused(kl):
    with pytest.raises(ValueError, match=r"loss\.kl_weighted=false"):
        surrogate(kl, kl_weighted=True)
