import pytest
import torch

from rlcredit.credit.group import Scale, equal_rewards, group_relative, leave_one_out
from rlcredit.credit.rounding import all_equal, settled, tolerance
from rlcredit.credit.shapley import shapley_value
from tests.strategies import DOUBLE


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_tolerance_by_hand(dtype):
    rewards = torch.tensor([[0.5, -2.0, 1.0], [0.0, 0.0, 0.0]], dtype=dtype)
    eps = torch.finfo(dtype).eps
    assert tolerance(rewards).tolist() == [8 * eps, 0.0]
    counts = torch.tensor([9, 4])
    assert tolerance(rewards, num_added=counts).tolist() == [24 * eps, 0.0]


@pytest.mark.parametrize("num_players", [2, 5, 8])
def test_rounding_stays_below_the_tolerance_and_real_differences_above(num_players):
    """Games in which all players but one, of another reward, are alike."""
    generator = torch.Generator().manual_seed(num_players)
    size = torch.tensor([s.bit_count() for s in range(2**num_players)])
    curve = torch.rand(400, num_players + 1, generator=generator, dtype=DOUBLE)
    curve[:, 0] = 0
    symmetric = curve[:, size].float()
    credit = shapley_value(symmetric)
    noise = credit.amax(dim=-1) - credit.amin(dim=-1)
    within = tolerance(symmetric, num_added=2**num_players)
    if num_players > 2:
        assert noise.max() > 1e-8  # what the rule is for
    assert (noise <= within / 2).all()
    first = torch.arange(2**num_players) % 2 == 1
    better = shapley_value(symmetric + 1e-4 * first)
    assert (better[:, 0] - better[:, 1:].amax(dim=-1) > within).all()


def test_credits_within_the_tolerance_become_one_and_the_others_keep_their_bits():
    credit = torch.tensor([[0.3 + 4e-8, 0.1, 0.3, 3e-8, 0.2, -2e-8, 0.0]])
    found = settled(credit, torch.tensor([1e-7]))
    assert found.tolist() == torch.tensor([[0.3, 0.1, 0.3, 0.0, 0.2, 0.0, 0.0]]).tolist()
    assert torch.equal(settled(credit, torch.tensor([0.0])), credit)


def test_equal_is_transitive_whatever_stands_between():
    chain = torch.tensor([[0.5, 0.5 + 0.8e-6, 0.5 + 1.6e-6, 0.5 + 9e-6]], dtype=DOUBLE)
    expected = torch.tensor([[0.5, 0.5, 0.5, 0.5 + 9e-6]], dtype=DOUBLE)
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        found = settled(chain[:, order], torch.tensor([1e-6], dtype=DOUBLE))
        assert torch.equal(found, expected[:, order])


def test_rows_have_their_own_tolerance_and_games_without_players_none():
    credit = torch.tensor([[1.0, 1.5], [1.0, 1.5]])
    assert settled(credit, torch.tensor([1.0, 0.1])).tolist() == [[0.0, 0.0], [1.0, 1.5]]
    assert settled(torch.zeros(2, 0), torch.zeros(2)).shape == (2, 0)


def noisy(rewards):
    """The same rewards a unit in the last place up and down."""
    up, down = torch.tensor(9.0), torch.tensor(-9.0)
    return torch.stack([rewards, rewards.nextafter(up), rewards.nextafter(down)], dim=1)


def test_rewards_that_differ_by_rounding_are_equal_and_give_no_advantage():
    group = noisy(torch.tensor([0.7, 1e-3, 40.0]))
    assert equal_rewards(group).all()
    for scale in Scale:
        assert (group_relative(group, scale=scale) == 0).all()
    assert (leave_one_out(group) == 0).all()
    real = torch.tensor([[0.7, 0.7 + 1e-5], [1e-6, 2e-6], [0.0, 1e-12]])
    assert not equal_rewards(real).any()


def test_maxrl_takes_groups_of_negative_rewards_that_differ_by_rounding():
    assert (group_relative(noisy(torch.tensor([-0.7])), scale=Scale.mean) == 0).all()
    with pytest.raises(ValueError, match="must be positive"):
        group_relative(torch.tensor([[-0.7, -0.71]]), scale=Scale.mean)


def test_only_what_counts_is_compared():
    values = torch.tensor([[0.5, 9.0], [0.5, 0.5], [1.0, 2.0]])
    mask = torch.tensor([[True, False], [True, True], [False, False]])
    assert all_equal(values, mask).tolist() == [True, True, True]
    assert all_equal(values).tolist() == [False, True, False]
