from dataclasses import replace

import pytest
import torch

from rlcredit.credit.ratio import KL
from rlcredit.losses.surrogate import Aggregation, ClippedSurrogate, Objective, Ratio
from tests.strategies import make_batch


def by_hand(logprobs, batch, loss):
    """The same loss, token by token."""
    total = 0.0
    mask = batch.response_mask
    for p in range(mask.shape[0]):
        for g in range(mask.shape[1]):
            length = int(mask[p, g].sum())
            delta = (logprobs - batch.old_logprobs)[p, g, :length]
            ratio = delta.exp() if loss.ratio == Ratio.token else delta.mean().exp().expand(length)
            tokens = 0.0
            for t in range(length):
                a = batch.advantages[p, g, t].item()
                rho = ratio[t].item()
                low, high = 1 - loss.clip_low, 1 + loss.clip_high
                token = -min(rho * a, min(max(rho, low), high) * a)
                if loss.dual_clip and a < 0:
                    token = min(token, -loss.dual_clip * a)
                if loss.kl_coef:
                    d = (batch.ref_logprobs - logprobs)[p, g, t]
                    token += loss.kl_coef * (d.exp() - d - 1).item()
                tokens += token
            weight = {
                Aggregation.token_mean: 1 / batch.num_tokens,
                Aggregation.sequence_mean: 1 / (length * batch.num_rollouts),
                Aggregation.constant: 1 / (batch.num_rollouts * (loss.max_tokens or 1)),
            }[loss.aggregation]
            total += weight * tokens
    return total


@pytest.mark.parametrize(
    "loss",
    [
        ClippedSurrogate(),
        ClippedSurrogate(aggregation=Aggregation.sequence_mean, clip_high=0.28),
        ClippedSurrogate(aggregation=Aggregation.constant, max_tokens=9),
        ClippedSurrogate(ratio=Ratio.sequence, clip_low=0.01, clip_high=0.02),
        ClippedSurrogate(dual_clip=1.3, kl_coef=0.1),
    ],
    ids=str,
)
def test_the_loss_is_the_sum_over_tokens_that_its_name_says(loss):
    logprobs, batch = make_batch(constant=not loss.takes_tokens)
    assert loss(logprobs, batch).value.item() == pytest.approx(by_hand(logprobs, batch, loss))


def test_on_policy_every_preset_has_the_policy_gradient():
    _, batch = make_batch(constant=True)
    for loss in (
        ClippedSurrogate(),
        ClippedSurrogate(objective=Objective.cispo, clip_low=None, clip_high=4.0),
    ):
        leaf = batch.old_logprobs.clone().requires_grad_()
        grad = torch.autograd.grad(loss(leaf, batch).value, leaf)[0]
        torch.testing.assert_close(grad, -batch.advantages / batch.num_tokens)


def test_gspo_gives_each_token_the_gradient_of_its_response():
    _, batch = make_batch(constant=True)
    loss = ClippedSurrogate(ratio=Ratio.sequence, aggregation=Aggregation.sequence_mean)
    leaf = batch.old_logprobs.clone().requires_grad_()
    grad = torch.autograd.grad(loss(leaf, batch).value, leaf)[0]
    lengths = batch.response_mask.sum(-1, keepdim=True)
    torch.testing.assert_close(grad, -batch.advantages / lengths / batch.num_rollouts)


def test_a_sequence_ratio_refuses_credit_that_varies_within_a_rollout():
    logprobs, batch = make_batch(constant=False)
    with pytest.raises(ValueError, match="vary within one; use a rollout-level estimator"):
        ClippedSurrogate(ratio=Ratio.sequence)(logprobs, batch)


def test_cispo_keeps_a_gradient_where_the_surrogate_has_none():
    logprobs, batch = make_batch()
    logprobs = batch.old_logprobs + 2.0
    grads = {}
    for loss in (
        ClippedSurrogate(),
        ClippedSurrogate(objective=Objective.cispo, clip_low=None, clip_high=0.5),
    ):
        leaf = logprobs.clone().requires_grad_()
        grads[loss.objective] = torch.autograd.grad(loss(leaf, batch).value, leaf)[0]
    good = batch.response_mask & (batch.advantages > 0)
    assert (grads[Objective.clipped][good] == 0).all()
    expected = -1.5 * batch.advantages[good] / batch.num_tokens
    torch.testing.assert_close(grads[Objective.cispo][good], expected)


def test_the_clip_fraction_counts_tokens_whose_gradient_is_cut():
    logprobs, batch = make_batch()
    loss = ClippedSurrogate()
    leaf = logprobs.clone().requires_grad_()
    result = loss(leaf, batch)
    grad = torch.autograd.grad(result.value, leaf)[0]
    cut = (grad == 0) & batch.response_mask
    expected = cut.sum().item() / batch.num_tokens
    assert result.metrics["loss/clip_fraction"].item() == pytest.approx(expected)
    assert 0 < expected < 1


def test_the_divergence_is_asked_for_read_and_reported():
    logprobs, batch = make_batch()
    loss = ClippedSurrogate(kl_coef=0.5, kl=KL.k2)
    assert loss.needs.ref_logprobs
    assert not ClippedSurrogate().needs.ref_logprobs
    result = loss(logprobs, batch)
    assert batch.ref_logprobs is not None
    squares = (logprobs - batch.ref_logprobs).square() / 2 * batch.response_mask
    expected = squares.sum().item() / batch.num_tokens
    assert result.metrics["loss/kl"].item() == pytest.approx(expected)
    plain = ClippedSurrogate()(logprobs, batch).value.item()
    assert result.value.item() == pytest.approx(plain + 0.5 * expected)
    with pytest.raises(ValueError, match="ref_logprobs is None"):
        loss(logprobs, replace(batch, ref_logprobs=None))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"aggregation": Aggregation.constant}, "max_tokens"),
        ({"clip_low": None}, "clip_low is null"),
        ({"dual_clip": 0.5}, "dual_clip is 0.5"),
        ({"dual_clip": 3.0, "objective": Objective.cispo}, "leave it null"),
        ({"kl_coef": -1.0}, "kl_coef is -1"),
    ],
)
def test_contradictory_settings_are_refused(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        ClippedSurrogate(**settings)


def test_small_credit_within_a_rollout_is_refused_and_rounding_is_not():
    logprobs, batch = make_batch(constant=True)
    loss = ClippedSurrogate(ratio=Ratio.sequence)
    up = batch.advantages.nextafter(torch.full_like(batch.advantages, 9))
    odd = torch.arange(batch.advantages.shape[-1]) % 2 == 1
    rounded = torch.where(odd & batch.response_mask, up, batch.advantages)
    assert torch.isfinite(loss(logprobs, replace(batch, advantages=rounded)).value)
    small = 1e-8 * torch.where(odd, 1.5 * batch.advantages, batch.advantages)
    with pytest.raises(ValueError, match="vary within one"):
        loss(logprobs, replace(batch, advantages=small))
