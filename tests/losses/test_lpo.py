import math
from dataclasses import replace

import pytest
import torch

from rlcredit.credit.simplex import Divergence, projection_coefficients
from rlcredit.losses.lpo import LPO, Logit, lpo_advantages
from rlcredit.losses.surrogate import Aggregation, ClippedSurrogate
from tests.strategies import make_batch


def gradient(loss, logprobs, batch):
    leaf = logprobs.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, batch).value, leaf)[0]


def close(found, expected, atol=1e-12):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def centred(batch):
    advantages = batch.advantages[:, :, :1]
    kept = advantages - advantages.mean(dim=1, keepdim=True)
    return replace(batch, advantages=torch.where(batch.response_mask, kept, 0))


def test_on_policy_reverse_is_the_paired_baseline_with_sequence_means():
    batch = centred(make_batch(constant=True)[1])
    grpo = ClippedSurrogate(aggregation=Aggregation.sequence_mean)
    found = gradient(LPO(divergence=Divergence.reverse_kl), batch.old_logprobs, batch)
    close(found, gradient(grpo, batch.old_logprobs, batch))


def test_on_policy_forward_is_the_policy_gradient_of_a_softmax():
    batch = centred(make_batch(constant=True)[1])
    size = batch.advantages.shape[1]
    softmax = size * batch.advantages[:, :, :1].softmax(dim=1) - 1
    equivalent = replace(batch, advantages=torch.where(batch.response_mask, softmax, 0))
    grpo = ClippedSurrogate(aggregation=Aggregation.sequence_mean)
    close(
        gradient(LPO(), batch.old_logprobs, batch),
        gradient(grpo, equivalent.old_logprobs, equivalent),
    )


@pytest.mark.parametrize("kind", list(Divergence))
@pytest.mark.parametrize("absent", [False, True])
def test_its_advantages_give_a_plain_loss_its_gradient_on_policy(kind, absent):
    batch = make_batch(constant=True)[1]
    if absent:
        mask = batch.response_mask.clone()
        mask[0, 1] = False
        batch = replace(
            batch, response_mask=mask, advantages=batch.advantages.masked_fill(~mask, 0)
        )
    there = batch.response_mask.any(dim=-1)
    found = lpo_advantages(batch.advantages[:, :, 0], divergence=kind, present=there)
    given = torch.where(batch.response_mask, found.unsqueeze(-1), 0)
    grpo = ClippedSurrogate(aggregation=Aggregation.sequence_mean)
    close(
        gradient(grpo, batch.old_logprobs, replace(batch, advantages=given)),
        gradient(LPO(divergence=kind), batch.old_logprobs, batch),
    )
    assert not found[~there].any()


def test_advantages_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="an advantage is nan"):
        lpo_advantages(torch.tensor([[0.0, float("nan")]]))


@pytest.mark.parametrize("kind", list(Divergence))
@pytest.mark.parametrize("logit", list(Logit))
def test_inside_the_band_the_gradient_is_that_of_the_divergence(kind, logit):
    logprobs, batch = make_batch(constant=True)
    logprobs = batch.old_logprobs + (logprobs - batch.old_logprobs).clamp(-0.17, 0.17)
    loss = LPO(divergence=kind, logit=logit)
    leaf = logprobs.clone().requires_grad_()
    delta = torch.where(batch.response_mask, leaf - batch.old_logprobs, 0)
    s = delta.sum(-1)
    if logit == Logit.mean:
        s = s / batch.response_mask.sum(-1)
    p, w = s.log_softmax(-1), batch.advantages[:, :, 0].log_softmax(-1)
    m = torch.logaddexp(p, w) - math.log(2)
    kl = {
        Divergence.forward_kl: (w.exp() * (w - p)).sum(-1),
        Divergence.reverse_kl: (p.exp() * (p - w)).sum(-1),
        Divergence.jensen_shannon: (p.exp() * (p - m) + w.exp() * (w - m)).sum(-1) / 2,
    }[kind]
    (expected,) = torch.autograd.grad(kl.mean(), leaf)
    close(gradient(loss, logprobs, batch), expected)
    assert loss(logprobs, batch).metrics["loss/divergence"].item() == pytest.approx(
        kl.mean().item()
    )


def test_outside_the_band_a_token_has_no_gradient_whatever_the_sign():
    _, batch = make_batch(constant=True)
    for step in (0.3, -0.3):
        moved = batch.old_logprobs + step
        assert (gradient(LPO(), moved, batch) == 0).all()
        fraction = LPO()(moved, batch).metrics["loss/clip_fraction"]
        assert fraction.item() == pytest.approx(1.0)


def test_coefficients_see_the_raw_drift_and_turn_when_the_target_is_passed():
    _, batch = make_batch(num_prompts=1, group_size=2, num_tokens=1, constant=True)
    wish = torch.tensor([[[0.5], [-0.5]]], dtype=torch.float64)
    batch = replace(batch, advantages=wish, response_mask=torch.ones_like(wish).bool())
    # Rollout 0 drifted far beyond the target (log-ratio 3 > 1); only rollout 1 has a gradient left.
    far = batch.old_logprobs + torch.tensor([[[3.0], [0.0]]]).double()
    near = batch.old_logprobs + torch.tensor([[[0.25], [0.0]]]).double()
    assert gradient(LPO(), near, batch)[0, 1, 0] > 0
    assert gradient(LPO(), far, batch)[0, 1, 0] < 0
    expected = projection_coefficients(
        torch.tensor([[3.0, 0.0]]).double(), target_logits=wish[:, :, 0]
    )
    assert gradient(LPO(), far, batch)[0, 1, 0].item() == pytest.approx(expected[0, 1].item())


def test_equal_rewards_have_a_uniform_target_and_no_gradient():
    _, batch = make_batch(constant=True)
    zero = replace(batch, advantages=torch.zeros_like(batch.advantages))
    for kind in Divergence:
        assert (gradient(LPO(divergence=kind), batch.old_logprobs, zero) == 0).all()


def test_a_part_of_a_group_is_another_problem():
    logprobs, batch = make_batch(num_prompts=1, constant=True)
    whole = gradient(LPO(), logprobs, batch)
    half = replace(
        batch,
        **{
            name: getattr(batch, name)[:, :2]
            for name in (
                "advantages",
                "response_mask",
                "old_logprobs",
                "rollout_logprobs",
                "ref_logprobs",
                "entropy_rank",
            )
        },
    )
    assert (gradient(LPO(), logprobs[:, :2], half) - whole[:, :2]).abs().max() > 1e-3


def test_a_rollout_without_tokens_takes_no_part():
    logprobs, batch = make_batch(num_prompts=1, constant=True)
    mask = batch.response_mask.clone()
    mask[0, 3] = False
    gone = replace(batch, response_mask=mask, advantages=torch.where(mask, batch.advantages, 0))
    three = replace(
        gone,
        **{
            name: getattr(gone, name)[:, :3]
            for name in (
                "advantages",
                "response_mask",
                "old_logprobs",
                "rollout_logprobs",
                "ref_logprobs",
                "entropy_rank",
            )
        },
    )
    for kind in Divergence:
        found = gradient(LPO(divergence=kind), logprobs, gone)
        assert (found[0, 3] == 0).all()
        close(found[:, :3], gradient(LPO(divergence=kind), logprobs[:, :3], three))


def test_drift_is_how_far_the_listwise_distribution_is_from_uniform():
    logprobs, batch = make_batch(constant=True)
    assert LPO()(batch.old_logprobs, batch).metrics["loss/drift"].item() == pytest.approx(0)
    delta = torch.where(batch.response_mask, logprobs - batch.old_logprobs, 0)
    p = (delta.sum(-1) / batch.response_mask.sum(-1)).softmax(-1)
    expected = (4 * p - 1).abs().amax(-1).mean().item()
    assert LPO()(logprobs, batch).metrics["loss/drift"].item() == pytest.approx(expected)


def test_credit_within_a_rollout_is_refused_with_the_remedy():
    logprobs, batch = make_batch(constant=False)
    with pytest.raises(ValueError, match="vary within one; use a rollout-level estimator"):
        LPO()(logprobs, batch)


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_band_without_an_inside_is_refused(clip):
    with pytest.raises(ValueError, match="clip is"):
        LPO(clip=clip)


def test_small_credit_within_a_rollout_is_refused_and_rounding_is_not():
    logprobs, batch = make_batch(constant=True)
    loss = LPO()
    up = batch.advantages.nextafter(torch.full_like(batch.advantages, 9))
    odd = torch.arange(batch.advantages.shape[-1]) % 2 == 1
    rounded = torch.where(odd & batch.response_mask, up, batch.advantages)
    assert torch.isfinite(loss(logprobs, replace(batch, advantages=rounded)).value)
    small = 1e-8 * torch.where(odd, 1.5 * batch.advantages, batch.advantages)
    with pytest.raises(ValueError, match="vary within one"):
        loss(logprobs, replace(batch, advantages=small))
