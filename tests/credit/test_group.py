import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from rlcredit.credit.group import Scale, equal_rewards, group_relative, leave_one_out
from tests.strategies import DOUBLE, reals

groups = st.lists(reals(), min_size=2, max_size=8).map(lambda r: torch.tensor([r], dtype=DOUBLE))


def test_grpo_by_hand():
    rewards = torch.tensor([[0.0, 0.0, 1.0], [2.0, 2.0, 2.0]], dtype=DOUBLE)
    std = (1 / 3) ** 0.5
    expected = [-1 / 3 / (std + 1e-4), -1 / 3 / (std + 1e-4), 2 / 3 / (std + 1e-4)]
    found = group_relative(rewards)
    torch.testing.assert_close(found[0], torch.tensor(expected, dtype=DOUBLE))
    assert found[1].tolist() == [0.0, 0.0, 0.0]


def test_dr_grpo_and_maxrl_by_hand():
    rewards = torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=DOUBLE)
    assert group_relative(rewards, scale=Scale.none).tolist() == [[-0.25, -0.25, -0.25, 0.75]]
    found = group_relative(rewards, scale=Scale.mean, eps=0.0)
    assert found.tolist() == [[-1.0, -1.0, -1.0, 3.0]]


def test_rloo_by_hand():
    rewards = torch.tensor([[1.0, 2.0, 6.0]], dtype=DOUBLE)
    torch.testing.assert_close(
        leave_one_out(rewards), torch.tensor([[-3.0, -1.5, 4.5]], dtype=DOUBLE)
    )


@given(groups)
def test_advantages_sum_to_zero_and_rloo_is_a_multiple_of_dr_grpo(rewards):
    size = rewards.shape[1]
    centred = group_relative(rewards, scale=Scale.none)
    assert abs(centred.sum().item()) < 1e-9
    torch.testing.assert_close(leave_one_out(rewards), centred * size / (size - 1))
    for g in range(size):
        siblings = torch.cat([rewards[0, :g], rewards[0, g + 1 :]]).mean()
        assert leave_one_out(rewards)[0, g].item() == pytest.approx(
            (rewards[0, g] - siblings).item(), abs=1e-9
        )


def test_equal_rewards_are_recognised_by_their_rounding_and_not_by_eps():
    tenth = torch.full((1, 3), 0.1, dtype=torch.float32)
    nearly = tenth + torch.tensor([[0.0, 0.0, 1e-6]])
    assert equal_rewards(tenth).tolist() == [True]
    assert equal_rewards(nearly).tolist() == [False]
    assert group_relative(tenth).tolist() == [[0.0, 0.0, 0.0]]
    assert leave_one_out(tenth).tolist() == [[0.0, 0.0, 0.0]]
    # The mean of three times 0.1 is not 0.1 in floating point: a centred reward would not be 0.
    assert group_relative(torch.full((1, 7), 0.1), scale=Scale.none).abs().max() == 0


@pytest.mark.parametrize("function", [group_relative, leave_one_out])
def test_a_single_rollout_and_rewards_that_are_no_numbers_are_refused(function):
    with pytest.raises(ValueError, match="not 1; set"):
        function(torch.ones(2, 1))
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="finite"):
            function(torch.tensor([[0.0, bad]]))


def test_maxrl_refuses_a_mean_that_is_not_positive_and_accepts_failures():
    assert group_relative(torch.zeros(1, 4), scale=Scale.mean).abs().max() == 0
    with pytest.raises(ValueError, match=r"-0\.5.*scale=std"):
        group_relative(torch.tensor([[-1.0, 0.0]]), scale=Scale.mean)
