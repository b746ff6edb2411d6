"""Figures of the shortcut's bench, from games written by hand."""

from math import isnan

import pytest
import torch

from rlcredit.rewards.engine import Counts
from rlcredit.types import CoalitionGame, Signals
from scripts.bench_shortcut import Scored, agreement


def scored(credit, coalitions):
    """One prompt, two responses of three segments; each is left out once."""
    players = torch.ones(1, 2, 3, dtype=torch.bool)
    members = torch.cat([torch.zeros(1, 3), torch.ones(1, 3), 1 - torch.eye(3)]).bool()
    rewards = torch.zeros(1, 2, 5)
    rewards[0, :, 2:] = torch.tensor(coalitions)
    game = CoalitionGame(
        players=players,
        members=members.expand(1, 2, 5, 3),
        rewards=rewards,
        evaluated=torch.ones(1, 2, 5, dtype=torch.bool),
        sampled=torch.zeros(1, 2, dtype=torch.bool),
    )
    return Scored(
        signals=Signals(
            rewards=torch.zeros(1, 2), response_mask=torch.ones(1, 2, 1).bool(), game=game
        ),
        credit=torch.tensor([credit]),
        truth=(),
        seconds=1.0,
        counts=Counts(),
    )


def test_credit_is_compared_within_responses_and_rewards_over_coalitions():
    exact = scored([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]], [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    other = scored([[9.0, 5.0, 1.0], [3.0, 2.0, 1.0]], [[0.1, 0.2, 0.3], [0.4, 0.8, 0.5]])
    same, found = agreement([exact], [exact]), agreement([exact], [other])
    assert same.rho == pytest.approx((1, 1))
    assert (same.same_best, same.difference, same.changed) == (1, 0, 0)
    assert found.rho == pytest.approx((1, -1))
    assert found.same_best == 0.5
    assert found.difference == pytest.approx(0.4 / 6)
    assert found.bias == pytest.approx(0.2 / 6)
    assert found.changed == pytest.approx(2 / 6)


def test_responses_whose_credit_says_nothing_are_left_out():
    flat = scored([[2.0, 2.0, 2.0], [1.0, 2.0, 2.0]], [[0.0] * 3] * 2)
    found = agreement([flat], [flat])
    assert found.rho == pytest.approx((1,))
    assert isnan(found.same_best)
    both = scored([[2.0, 2.0, 2.0], [1.0, 2.0, 3.0]], [[0.0] * 3] * 2)
    assert agreement([both], [both]).same_best == 1
