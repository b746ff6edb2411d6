from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlcredit.credit.simplex import (
    Divergence,
    divergence,
    listwise_target,
    projection_coefficients,
)
from tests.strategies import DOUBLE

KINDS = list(Divergence)


@st.composite
def logit_pairs(draw, size=None):
    n = size or draw(st.integers(2, 7))
    rows = st.lists(st.floats(-3, 3), min_size=n, max_size=n)
    return tuple(torch.tensor([draw(rows)], dtype=DOUBLE) for _ in range(2))


@pytest.mark.parametrize("kind", KINDS)
@given(pair=logit_pairs())
def test_coefficients_are_the_gradient_of_the_divergence(kind, pair):
    logits, target = pair
    leaf = logits.clone().requires_grad_()
    value = divergence(leaf, target_logits=target, kind=kind)
    (expected,) = torch.autograd.grad(value.sum(), leaf)
    found = projection_coefficients(logits, target_logits=target, divergence=kind)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@given(pair=logit_pairs())
def test_divergences_are_what_their_names_say(pair):
    p, w = (x.softmax(-1) for x in pair)
    m = (p + w) / 2

    def kl(a, b):
        return (a * (a / b).log()).sum(-1)

    expected = [kl(w, p), kl(p, w), (kl(p, m) + kl(w, m)) / 2]
    for kind, value in zip(KINDS, expected, strict=True):
        found = divergence(pair[0], target_logits=pair[1], kind=kind)
        torch.testing.assert_close(found, value, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@given(pair=logit_pairs(), shift=st.floats(-5, 5))
def test_coefficients_sum_to_zero_and_ignore_shifts(kind, pair, shift):
    logits, target = pair
    found = projection_coefficients(logits, target_logits=target, divergence=kind)
    assert abs(found.sum().item()) < 1e-12
    for moved in ((logits + shift, target), (logits, target + shift)):
        again = projection_coefficients(moved[0], target_logits=moved[1], divergence=kind)
        torch.testing.assert_close(again, found, rtol=0, atol=1e-12)
    at_target = projection_coefficients(target + shift, target_logits=target, divergence=kind)
    assert at_target.abs().max() < 1e-12


@given(pair=logit_pairs())
def test_forward_coefficients_are_bounded(pair):
    found = projection_coefficients(pair[0], target_logits=pair[1])
    assert found.abs().max() <= 1
    assert found.abs().sum() <= 2


@given(pair=logit_pairs())
def test_on_policy_reverse_is_the_paired_baseline_and_forward_a_softmax(pair):
    advantages = pair[0]
    size = advantages.shape[1]
    target = listwise_target(advantages, anchor_logits=torch.zeros_like(advantages)).log()
    start = torch.zeros_like(advantages)
    reverse = projection_coefficients(start, target_logits=target, divergence=Divergence.reverse_kl)
    centred = advantages - advantages.mean()
    torch.testing.assert_close(-size * reverse, centred, rtol=0, atol=1e-12)
    forward = projection_coefficients(start, target_logits=target)
    expected = size * advantages.softmax(-1) - 1
    torch.testing.assert_close(-size * forward, expected, rtol=0, atol=1e-12)


GOLDEN = {
    1: [(2.6457, -0.3780, 4.9686, -0.7098), (1.2377, -0.1768), (6.9813, -0.9973)],
    2: [(1.7320, -0.5773, 2.0818, -0.6939), (0.9015, -0.3005), (2.7917, -0.9306)],
    3: [(1.2910, -0.7746, 1.2016, -0.7210), (0.6531, -0.3919), (1.3899, -0.8339)],
    4: [(1.0000, -1.0000, 0.7616, -0.7616), (0.4621, -0.4621), (0.7616, -0.7616)],
    5: [(0.7746, -1.2910, 0.4869, -0.8115), (0.3107, -0.5178), (0.4271, -0.7119)],
    6: [(0.5773, -1.7320, 0.2906, -0.8718), (0.1877, -0.5631), (0.2256, -0.6769)],
    7: [(0.3780, -2.6457, 0.1350, -0.9448), (0.0858, -0.6006), (0.0931, -0.6514)],
}


@pytest.mark.parametrize("correct", range(9))
def test_the_golden_table_of_eight_binary_rewards(correct):
    rewards = torch.zeros(1, 8, dtype=DOUBLE)
    rewards[0, :correct] = 1
    start = torch.zeros_like(rewards)

    def forward(tau):
        return -8 * projection_coefficients(start, target_logits=rewards / tau)[0]

    std, mean = rewards.std(correction=0).item(), rewards.mean().item()
    if correct in (0, 8):
        assert forward(1e-6).abs().max() == 0
        return
    by_std, plain, by_mean = GOLDEN[correct]
    advantages = (rewards[0] - mean) / std
    for found, expected in (
        (advantages, by_std[:2]),
        (forward(std), by_std[2:]),
        (forward(1.0), plain),
        (forward(mean), by_mean),
    ):
        assert found[0].item() == pytest.approx(expected[0], abs=1e-4)
        assert found[-1].item() == pytest.approx(expected[1], abs=1e-4)


def test_graded_rewards_by_hand():
    rewards = torch.tensor([[1.0, 0.1, 0.1, 0.1, 0, 0, 0, 0]], dtype=DOUBLE)
    std = rewards.std(correction=0)
    found = -8 * projection_coefficients(torch.zeros_like(rewards), target_logits=rewards / std)
    assert found[0, [0, 1, 7]].tolist() == pytest.approx([4.901, -0.646, -0.741], abs=6e-4)


@given(pair=logit_pairs(size=4), other=st.lists(st.floats(-3, 3), min_size=4, max_size=4))
def test_the_target_maximises_reward_at_a_price_for_leaving_the_anchor(pair, other):
    rewards, anchor = pair
    start = anchor.softmax(-1)

    def objective(w):
        return (w * rewards).sum() - (w * (w / start).log()).sum()

    target = listwise_target(rewards, anchor_logits=anchor)
    rival = torch.tensor([other], dtype=DOUBLE).softmax(-1)
    assert objective(target) >= objective(rival) - 1e-12
    # The gain over the anchor is the Jeffreys divergence, in reward alone.
    gain = ((target - start) * rewards).sum()
    jeffreys = ((target - start) * (target / start).log()).sum()
    assert gain.item() == pytest.approx(jeffreys.item(), abs=1e-9)


@given(pair=logit_pairs())
def test_forward_projection_leaves_no_good_rollout_behind(pair):
    p, w = pair[0].softmax(-1), pair[1].softmax(-1)
    distance = divergence(pair[0], target_logits=pair[1], kind=Divergence.forward_kl).item()
    for k in range(p.shape[1]):
        alpha = w[0, k].item()
        bound = alpha * torch.exp(torch.tensor(-distance / alpha - 1)).item()
        assert p[0, k].item() >= bound


@pytest.mark.parametrize("kind", KINDS)
def test_descending_reaches_the_target_and_the_reward_rises(kind):
    rewards = torch.tensor([[1.0, 0.3, 0.0, 0.0]], dtype=DOUBLE)
    logits = torch.zeros_like(rewards)
    earned = []
    for _ in range(1500):
        earned.append((logits.softmax(-1) * rewards).sum().item())
        logits = logits - 0.5 * projection_coefficients(
            logits, target_logits=rewards, divergence=kind
        )
    assert divergence(logits, target_logits=rewards, kind=kind).item() < 1e-6
    assert all(after > before - 1e-12 for before, after in pairwise(earned))
    assert earned[-1] > earned[0] + 0.1


def test_far_logits_stay_finite():
    far = torch.tensor([[0.0, -300.0, 300.0]])
    for kind in KINDS:
        found = projection_coefficients(far, target_logits=-far, divergence=kind)
        assert torch.isfinite(found).all()


@given(st.floats(0.2, 5), st.floats(-2, 2))
def test_two_rollouts_are_soft_label_logistic_regression(tau, difference):
    win = torch.sigmoid(torch.tensor(1 / tau)).double()
    logits = torch.tensor([[difference, 0.0]], dtype=DOUBLE)
    rewards = torch.tensor([[1.0, 0.0]], dtype=DOUBLE) / tau
    found = projection_coefficients(logits, target_logits=rewards)[0, 0].item()
    chance = torch.sigmoid(torch.tensor(difference)).item()
    assert found == pytest.approx(chance - win.item(), abs=1e-6)


def test_the_policy_gradient_is_the_reverse_projection_up_to_the_drift():
    generator = torch.Generator().manual_seed(0)
    advantages = torch.randn(1, 8, generator=generator, dtype=DOUBLE)
    advantages = advantages - advantages.mean()
    direction = torch.randn(1, 8, generator=generator, dtype=DOUBLE)
    gaps = []
    for size in (0.1, 0.01, 0.001):
        drift = size * direction
        exact = projection_coefficients(
            drift, target_logits=advantages, divergence=Divergence.reverse_kl
        )
        gaps.append((drift.exp() * advantages / 8 + exact).abs().max().item())
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.3)
    assert gaps[1] / gaps[2] == pytest.approx(10, rel=0.1)
