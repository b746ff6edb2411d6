"""Baselines of tokens: RLOO at equal weights, least variance, and the released arithmetic."""

import pytest
import torch

from rlcredit.bench.worlds import worlds
from rlcredit.credit.group import leave_one_out
from rlcredit.credit.token_baseline import (
    logit_gradients,
    released_token_advantages,
    token_advantages,
)
from tests.strategies import DOUBLE


def example(lengths, *, seed=0, prompts=3):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([lengths] * prompts)
    mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(-1)
    rewards = torch.rand(lengths.shape, generator=generator, dtype=DOUBLE)
    weights = torch.rand(mask.shape, generator=generator, dtype=DOUBLE)
    return rewards, weights, mask


def test_a_token_s_gradient_in_the_logits_is_as_long_as_autograd_says():
    logits = torch.tensor([0.3, -1.0, 0.7, 2.0], dtype=DOUBLE, requires_grad=True)
    for token in range(4):
        log_p = logits.log_softmax(0)
        (slope,) = torch.autograd.grad(log_p[token], logits)
        squares = log_p.exp().square().sum().detach()
        found = logit_gradients(log_p[token].detach()[None], squares[None])
        torch.testing.assert_close(found[0], slope.square().sum())


def test_with_equal_weights_and_lengths_it_is_rloo():
    rewards, _, mask = example([5, 5, 5, 5])
    found = token_advantages(rewards, torch.full(mask.shape, 0.3, dtype=DOUBLE), mask)
    expected = leave_one_out(rewards).unsqueeze(-1).expand(mask.shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_by_hand_siblings_count_by_what_they_gathered_and_at_last_by_their_ends():
    rewards = torch.tensor([[1.0, 0.0, 0.5]], dtype=DOUBLE)
    weights = torch.tensor([[[1.0, 1.0, 1.0], [2.0, 4.0, 9.0], [1.0, 9.0, 9.0]]], dtype=DOUBLE)
    mask = torch.tensor([[[1, 1, 1], [1, 1, 0], [1, 0, 0]]]).bool()
    found = token_advantages(rewards, weights, mask)[0]
    # The first: beside 2 and 1; then the second alone, W = 6; then nobody: their ends, 6 and 1.
    assert found[0].tolist() == pytest.approx([1 - 0.5 / 3, 1 - 0.0, 1 - 0.5 / 7])
    assert found[1].tolist() == pytest.approx([0 - 1.5 / 2, 0 - 1.0, 0])
    assert found[2].tolist() == pytest.approx([0.5 - 1 / 3, 0, 0])


def test_where_no_sibling_has_a_gradient_they_count_alike():
    rewards, _, mask = example([3, 2, 4])
    found = token_advantages(rewards, torch.zeros(mask.shape, dtype=DOUBLE), mask)
    expected = torch.where(mask, leave_one_out(rewards).unsqueeze(-1), 0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def verl(rewards, weights, mask):
    """The released function, rollout by rollout: one group, a reward at the last token."""
    found = torch.zeros_like(weights)
    lengths = mask.sum(-1)
    second = int(lengths.sort().values[-2])
    for t in range(mask.shape[1]):
        reached = [g for g in range(len(rewards)) if mask[g, t]]
        gathered = {g: sum(weights[g, s] for s in range(t + 1)) for g in reached}
        baseline = sum(rewards[g] * gathered[g] for g in reached)
        baseline = baseline / (sum(gathered.values()) + 1e-8) if t < second else 0.0
        for g in reached:
            found[g, t] = rewards[g] - baseline
    return found


def test_the_released_form_is_the_released_arithmetic():
    for seed, lengths in enumerate(([5, 2, 3, 4], [4, 4, 1], [1, 6])):
        rewards, weights, mask = example(lengths, seed=seed)
        found = released_token_advantages(rewards, weights, mask)
        for p in range(len(rewards)):
            expected = verl(rewards[p], weights[p], mask[p])
            torch.testing.assert_close(found[p], expected, rtol=0, atol=1e-12)


def test_its_baseline_has_the_least_variance_of_all_where_a_response_is_one_token():
    """Over every baseline on a grid, in the bench's bandit; the group's mean is not the best."""
    world = next(world for world in worlds() if world.name == "arms")
    with torch.no_grad():
        logprobs = world.logprobs(world.parameters)[..., 0]
    chance, rewards = logprobs.exp(), world.rewards
    for question in range(world.questions):
        p, r = chance[question], rewards[question]
        scores = torch.eye(len(p), dtype=DOUBLE) - p  # in the logits

        def variance(baseline, p=p, r=r, scores=scores):
            gradients = (r - baseline).unsqueeze(-1) * scores
            mean = (p.unsqueeze(-1) * gradients).sum(0)
            return (p * (gradients - mean).square().sum(-1)).sum().item()

        weights = logit_gradients(logprobs[question], p.square().sum().expand(len(p)))
        best = ((p * r * weights).sum() / (p * weights).sum()).item()
        grid = torch.linspace(-0.5, 1.5, 401, dtype=DOUBLE).tolist()
        assert variance(best) <= min(map(variance, grid)) + 1e-12
        assert variance(best) < variance((p * r).sum().item())
        # A large group's baseline is that ratio.
        counts = (p * 4000).round().long()
        picks = torch.arange(len(p)).repeat_interleave(counts)
        mask = torch.ones(1, len(picks), 1, dtype=torch.bool)
        found = token_advantages(r[picks][None], weights[picks][None, :, None], mask)
        assert (r[picks] - found[0, :, 0]).mean().item() == pytest.approx(best, abs=5e-3)
