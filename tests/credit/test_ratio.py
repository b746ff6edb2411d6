import math

import pytest
import torch

from rlcredit.credit.ratio import (
    KL,
    Cut,
    Unit,
    cispo_weight,
    clipped_surrogate,
    dual_clip,
    effective_share,
    kl_estimate,
    sampler_weights,
    sequence_ratio,
    token_ratio,
)

OLD = torch.tensor([[-1.0, -2.0, torch.nan], [-1.0, -1.0, -1.0]], dtype=torch.float64)
NEW = torch.tensor([[-0.5, -2.5, torch.inf], [-0.7, -1.0, -0.7]], dtype=torch.float64)
MASK = torch.tensor([[True, True, False], [True, True, True]])


def test_ratios_by_hand():
    half = math.exp(0.5)
    expected = [[half, 1 / half, 1.0], [math.exp(0.3), 1.0, math.exp(0.3)]]
    torch.testing.assert_close(token_ratio(NEW, OLD, MASK), torch.tensor(expected).double())
    expected = [[1.0, 1.0, 1.0], [math.exp(0.2)] * 3]
    torch.testing.assert_close(sequence_ratio(NEW, OLD, MASK), torch.tensor(expected).double())


def test_masked_tokens_pass_no_gradient_whatever_they_hold():
    for ratio in (token_ratio, sequence_ratio):
        new = NEW.clone().requires_grad_()
        ratio(new, OLD, MASK).sum().backward()
        assert new.grad is not None
        assert torch.isfinite(new.grad).all()
        assert new.grad[0, 2] == 0


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.1, 2.0, -2.2, -2.0),
        (1.5, 2.0, -2.6, 0.0),
        (0.5, 2.0, -1.0, -2.0),
        (1.5, -2.0, 3.0, 2.0),
        (0.5, -2.0, 1.6, 0.0),
    ],
)
def test_the_surrogate_is_pessimistic_with_its_own_clip_on_each_side(ratio, advantage, loss, slope):
    leaf = torch.tensor([ratio], dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([advantage], dtype=torch.float64)
    found = clipped_surrogate(leaf, advantages, clip_low=0.2, clip_high=0.3)
    assert found.item() == pytest.approx(loss)
    assert torch.autograd.grad(found.sum(), leaf)[0].item() == pytest.approx(slope)


def test_dual_clip_bounds_what_bad_tokens_are_charged_and_nothing_else():
    advantages = torch.tensor([-1.0, -1.0, 1.0])
    losses = torch.tensor([9.0, 2.0, -9.0])
    assert dual_clip(losses, advantages, bound=3.0).tolist() == [3.0, 2.0, -9.0]


def test_cispo_weights_are_clipped_and_detached():
    ratio = torch.tensor([0.1, 1.0, 9.0], requires_grad=True)
    weight = cispo_weight(ratio, clip_high=4.0)
    assert not weight.requires_grad
    assert weight.tolist() == pytest.approx([0.1, 1.0, 5.0])
    assert cispo_weight(ratio, clip_high=4.0, clip_low=0.5).tolist() == [0.5, 1.0, 5.0]


def test_divergences_by_hand():
    new, ref = torch.tensor([-1.0]).double(), torch.tensor([-1.5]).double()
    assert kl_estimate(new, ref, kind=KL.k1).item() == pytest.approx(0.5)
    assert kl_estimate(new, ref, kind=KL.k2).item() == pytest.approx(0.125)
    assert kl_estimate(new, ref, kind=KL.k3).item() == pytest.approx(math.exp(-0.5) - 0.5)


def test_k1_and_k3_average_to_the_divergence_itself():
    generator = torch.Generator().manual_seed(0)
    policy = torch.rand(6, generator=generator).double().log_softmax(0)
    reference = torch.rand(6, generator=generator).double().log_softmax(0)
    exact = (policy.exp() * (policy - reference)).sum()
    for kind in (KL.k1, KL.k3):
        mean = (policy.exp() * kl_estimate(policy, reference, kind=kind)).sum()
        torch.testing.assert_close(mean, exact)
    assert (kl_estimate(policy, reference, kind=KL.k3) >= 0).all()


@pytest.mark.parametrize(
    ("cut", "unit", "expected"),
    [
        (Cut.truncate, Unit.token, [[1.5, 0.5, 1.0], [1.0, 1.2, 0.5]]),
        (Cut.mask, Unit.token, [[0.0, 0.5, 1.0], [1.0, 1.2, 0.5]]),
        (Cut.truncate, Unit.sequence, [[1.5, 1.5, 1.0], [0.6, 0.6, 0.6]]),
        (Cut.mask, Unit.sequence, [[0.0, 0.0, 1.0], [0.6, 0.6, 0.6]]),
    ],
)
def test_sampler_weights_by_hand(cut, unit, expected):
    ratios = torch.tensor([[4.0, 0.5, torch.nan], [1.0, 1.2, 0.5]], dtype=torch.float64)
    rollout = torch.tensor([[-3.0, -2.0, torch.inf], [-1.0, -1.0, -1.0]], dtype=torch.float64)
    found = sampler_weights(rollout + ratios.log(), rollout, MASK, cut=cut, unit=unit, limit=1.5)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_sampler_weights_of_the_policy_s_own_samples_are_one_and_never_overflow():
    for cut in Cut:
        for unit in Unit:
            same = sampler_weights(OLD, OLD, MASK, cut=cut, unit=unit, limit=1.0)
            assert same.tolist() == [[1.0] * 3] * 2
            far = sampler_weights(OLD + 1e4, OLD, MASK, cut=cut, unit=unit, limit=2.0)
            assert far[1].tolist() == [2.0 if cut == Cut.truncate else 0.0] * 3


def test_the_effective_share_by_hand_and_whatever_the_scale():
    weights = torch.tensor([[3.0, 1.0, torch.nan], [1.0, 1.0, 2.0]], dtype=torch.float64)
    rollout = torch.full((2, 3), -1.0, dtype=torch.float64)
    expected = 8.0**2 / (5 * (9 + 1 + 1 + 1 + 4))
    for shift in (0.0, 2000.0):
        found = effective_share(rollout + weights.log() + shift, rollout, MASK)
        assert found.item() == pytest.approx(expected)
    assert effective_share(rollout, rollout, MASK).item() == 1
    assert effective_share(rollout, rollout, torch.zeros_like(MASK)).item() == 1
