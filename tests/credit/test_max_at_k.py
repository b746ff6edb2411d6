"""Weights of the best of k: the definition over subsets, centring, and the exact gradient."""

from itertools import combinations, product

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from rlcredit.credit.group import leave_one_out
from rlcredit.credit.max_at_k import max_at_k
from tests.strategies import DOUBLE, reals

groups = st.lists(reals(), min_size=2, max_size=7).map(lambda r: torch.tensor([r], dtype=DOUBLE))


def by_subsets(rewards, k):
    """k times the mean maximum of the k-sets with each rollout, less that of those without it."""
    found = []
    for i in range(len(rewards)):
        sets = [list(s) for s in combinations(range(len(rewards)), k)]
        inside = [max(rewards[j] for j in s) for s in sets if i in s]
        outside = [max(rewards[j] for j in s) for s in sets if i not in s]
        found.append(k * (sum(inside) / len(inside) - sum(outside) / len(outside)))
    return found


@given(groups)
def test_it_is_the_difference_of_means_over_subsets_with_and_without(rewards):
    for k in range(1, rewards.shape[1]):
        expected = torch.tensor([by_subsets(rewards[0].tolist(), k)], dtype=DOUBLE)
        torch.testing.assert_close(max_at_k(rewards, k=k), expected, rtol=0, atol=1e-9)


@given(groups)
def test_groups_are_centred_and_one_rollout_alone_is_rloo(rewards):
    for k in range(1, rewards.shape[1]):
        assert abs(max_at_k(rewards, k=k).sum().item()) < 1e-9
    torch.testing.assert_close(max_at_k(rewards, k=1), leave_one_out(rewards), rtol=0, atol=1e-9)


def test_of_one_success_and_the_widest_k_only_the_success_is_positive():
    rewards = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]], dtype=DOUBLE)
    found = max_at_k(rewards, k=4)[0]
    assert found.tolist() == pytest.approx([-1.0, -1.0, 4.0, -1.0, -1.0])
    assert (found > 0).sum() == 1


def test_a_group_of_equal_rewards_gets_nothing():
    assert max_at_k(torch.full((2, 7), 0.1), k=3).abs().max() == 0


@pytest.mark.parametrize(("size", "k"), [(2, 1), (3, 2), (4, 2), (5, 3)])
def test_its_expected_gradient_is_that_of_the_best_of_k(size, k):
    """All groups of a softmax over three answers, by enumeration."""
    worth = torch.tensor([0.2, 1.0, 0.5], dtype=DOUBLE)
    logits = torch.tensor([0.3, -0.9, 0.4], dtype=DOUBLE, requires_grad=True)
    log_p = logits.log_softmax(0)
    chance = log_p.exp()
    best = sum(
        chance[list(answers)].prod() * worth[list(answers)].max()
        for answers in product(range(3), repeat=k)
    )
    (true,) = torch.autograd.grad(best, logits, retain_graph=True)
    drawn = torch.tensor(list(product(range(3), repeat=size)))
    advantages = max_at_k(worth[drawn], k=k)
    surrogate = (advantages * log_p[drawn]).mean(dim=-1)
    (found,) = torch.autograd.grad((chance[drawn].prod(dim=-1).detach() * surrogate).sum(), logits)
    torch.testing.assert_close(found, true, rtol=0, atol=1e-12)


def test_groups_that_are_too_small_and_a_k_of_nothing_are_refused():
    with pytest.raises(ValueError, match=r"trainer\.group_size >= 5"):
        max_at_k(torch.rand(1, 4), k=4)
    with pytest.raises(ValueError, match="k >= 1"):
        max_at_k(torch.rand(1, 4), k=0)
