from dataclasses import replace

import pytest
import torch

from rlcredit.credit.shapley import shapley_of_max
from rlcredit.estimators import (
    GRPO,
    AnySuccess,
    Coverage,
    LeaveOneOutShare,
    Max,
    ShapE,
    ShapleyShare,
    Sum,
    Top,
    WinnerShare,
)
from rlcredit.estimators.shap_e import Norm
from rlcredit.types import CandidateRewards, Signals
from tests.strategies import DOUBLE, make_layout

SHAPE = ShapE(utility=Max(), share=ShapleyShare())
REWARDS = torch.tensor([[[0.5, 0.3, 0.1], [0.2, 0.2, 0.9], [0.0, 0.4, 0.1]]], dtype=DOUBLE)


def signals_of(rewards=REWARDS, *, lengths=None, mask=None, **fields):
    """One prompt; each candidate two tokens long unless said, with a separator after it."""
    num_candidates = rewards.shape[-1]
    ids, response_mask = make_layout(lengths or [[2] * num_candidates] * rewards.shape[1])
    if mask is None:
        mask = torch.ones_like(rewards, dtype=torch.bool)
    fields = {"num_asked": min(num_candidates, 3)} | fields
    candidates = CandidateRewards(rewards=rewards, mask=mask, candidate_ids=ids, **fields)
    best = torch.where(mask, rewards, 0).amax(-1)
    return Signals(rewards=best, response_mask=response_mask, candidates=candidates)


def test_pooled_advantages_by_hand():
    values = SHAPE(signals_of()).values
    credit = 3 * shapley_of_max(REWARDS)
    pool = credit.flatten()
    expected = (credit - pool.mean()) / (pool.std() + 1e-4)
    assert values[0, :, [0, 3, 6]].tolist() == [pytest.approx(row) for row in expected[0].tolist()]
    assert pool.mean().item() == pytest.approx((0.5 + 0.9 + 0.4) / 3)
    sets = torch.tensor([[0.5, 0.9, 0.4]], dtype=DOUBLE)
    plain = (sets - sets.mean()) / (sets.std() + 1e-4)
    # Separators and the end keep the set's own advantage.
    for place in (2, 5, 8):
        torch.testing.assert_close(values[0, :, place], plain[0])


def test_with_the_groups_norm_equal_lengths_keep_each_responses_total():
    shape = replace(SHAPE, norm=Norm.group)
    signals = signals_of()
    total = shape(signals).values.sum(-1)
    torch.testing.assert_close(total, GRPO()(signals).values.sum(-1))


def test_with_the_groups_norm_equal_candidates_are_grpo():
    rewards = torch.tensor([[[0.2] * 3, [0.7] * 3, [0.4] * 3]], dtype=DOUBLE)
    signals = signals_of(rewards)
    found = replace(SHAPE, norm=Norm.group)(signals).values
    torch.testing.assert_close(found, GRPO()(signals).values)


def test_one_candidate_is_grpo_bit_for_bit():
    rewards = torch.tensor([[[0.2], [0.7], [0.4]]], dtype=DOUBLE)
    signals = signals_of(rewards)
    for norm in Norm:
        shape = replace(SHAPE, norm=norm)
        assert torch.equal(shape(signals).values, GRPO()(signals).values)


LENGTHS = [[1, 4, 2], [3, 3, 1], [2, 2, 5]]


def test_length_weights_keep_the_total_for_unequal_lengths_and_are_capped():
    signals = signals_of(lengths=LENGTHS)
    ids = signals.candidates.candidate_ids
    listed = ids >= 0
    weighted = replace(SHAPE, length_weighted=True)(signals).credit
    sets = torch.tensor([[0.5, 0.9, 0.4]], dtype=DOUBLE)
    torch.testing.assert_close(weighted.sum(-1), sets * listed.sum(-1))
    plain = SHAPE(signals).credit.sum(-1)
    lengths = torch.tensor(LENGTHS, dtype=DOUBLE)
    phi = shapley_of_max(REWARDS)[0]
    gap = ((lengths - lengths.mean(-1, keepdim=True)) * 3 * phi).sum(-1)
    torch.testing.assert_close(plain[0] - weighted.sum(-1)[0], gap)
    long = signals_of(lengths=[[1, 40, 1], [3, 3, 1], [2, 2, 5]])
    capped = replace(SHAPE, length_weighted=True)(long).credit[0, 0, 0]
    torch.testing.assert_close(capped, 4 * 3 * shapley_of_max(REWARDS)[0, 0, 0])


def test_lengths_are_those_of_candidates_in_a_group_smaller_than_its_sets():
    signals = signals_of(REWARDS[:, :2], lengths=LENGTHS[:2])
    weighted = replace(SHAPE, length_weighted=True)(signals).credit[0, :, 0]
    phi = 3 * shapley_of_max(REWARDS)[0, :2, 0]
    torch.testing.assert_close(weighted, phi * torch.tensor([7 / 3, 7 / 9], dtype=DOUBLE))


def test_a_response_without_exactly_k_candidates_counts_as_k_zeros_and_gets_the_plain_advantage():
    mask = torch.ones_like(REWARDS, dtype=torch.bool)
    mask[0, 1, 1] = False
    values = SHAPE(signals_of(mask=mask)).values
    sets = torch.tensor([[0.5, 0.0, 0.4]], dtype=DOUBLE)
    plain = (sets - sets.mean()) / (sets.std() + 1e-4)
    torch.testing.assert_close(values[0, 1], plain[0, 1].expand(9))
    credit = 3 * shapley_of_max(REWARDS)
    credit[0, 1] = 0
    pool = credit.flatten()
    expected = (credit[0, 0, 0] - pool.mean()) / (pool.std() + 1e-4)
    torch.testing.assert_close(values[0, 0, 0], expected)
    # A fourth candidate is one too many.
    four = torch.cat([REWARDS, REWARDS[..., :1]], dim=-1)
    shape = SHAPE(signals_of(four)).values
    assert (shape == 0).all()


def test_listing_one_candidate_does_not_pay():
    best_alone = torch.tensor([[[0.9, 0.0, 0.0], [0.5, 0.3, 0.1], [0.2, 0.4, 0.1]]], dtype=DOUBLE)
    mask = torch.ones_like(best_alone, dtype=torch.bool)
    mask[0, 0, 1:] = False
    values = SHAPE(signals_of(best_alone, mask=mask)).values
    assert values[0, 0].max() < 0


def test_groups_of_equal_set_rewards_stay_finite_and_pooled_ones_still_teach():
    rewards = torch.tensor([[[0.9, 0.1, 0.1], [0.9, 0.8, 0.7], [0.9, 0.9, 0.0]]], dtype=DOUBLE)
    pooled = SHAPE(signals_of(rewards)).values
    assert pooled.abs().max() < 3
    assert pooled[0, 0, 0] > 1
    assert (pooled[0, :, [2, 5, 8]] == 0).all()
    assert (replace(SHAPE, norm=Norm.group)(signals_of(rewards)).values == 0).all()


def test_a_shift_of_all_rewards_changes_nothing():
    for norm in Norm:
        shape = replace(SHAPE, norm=norm)
        found = shape(signals_of(REWARDS + 0.7)).values
        torch.testing.assert_close(found, shape(signals_of()).values, rtol=0, atol=1e-12)


def test_the_winner_takes_all_and_ties_share():
    rewards = torch.tensor([[[0.5, 0.5, 0.1], [0.2, 0.3, 0.1]]], dtype=DOUBLE)
    arm = replace(SHAPE, share=WinnerShare())
    credit = arm(signals_of(rewards)).credit[0, :, [0, 3, 6]]
    assert credit.tolist() == [
        pytest.approx([0.75, 0.75, 0.0]),
        pytest.approx([0.0, 0.9, 0.0]),
    ]


def test_winners_that_differ_by_rounding_share():
    best = torch.tensor(0.5)
    rewards = torch.tensor([[[0.5, best.nextafter(torch.ones(())), 0.1], [0.2, 0.20001, 0.1]]])
    credit = replace(SHAPE, share=WinnerShare())(signals_of(rewards)).credit[0, :, [0, 3, 6]]
    assert credit[0].tolist() == pytest.approx([0.75, 0.75, 0.0])
    assert credit[1].tolist() == pytest.approx([0.0, 0.60003, 0.0])


def test_leave_one_out_pays_the_winner_its_lead():
    arm = replace(SHAPE, share=LeaveOneOutShare())
    credit = arm(signals_of()).credit[0, :, [0, 3, 6]] / 3
    assert credit.tolist() == [
        pytest.approx([0.2, 0.0, 0.0]),
        pytest.approx([0.0, 0.0, 0.7]),
        pytest.approx([0.0, 0.3, 0.0]),
    ]


@pytest.mark.parametrize(
    ("utility", "totals"),
    [
        (Top(m=2), [0.8, 1.1, 0.5]),
        (Sum(), [0.9, 1.3, 0.5]),
        (AnySuccess(), [1 - 0.5 * 0.7 * 0.9, 1 - 0.8 * 0.8 * 0.1, 1 - 0.6 * 0.9]),
    ],
)
def test_other_utilities_pay_out_what_their_sets_earn(utility, totals):
    result = replace(SHAPE, utility=utility)(signals_of())
    credit = result.credit[0, :, [0, 3, 6]] / 3
    assert credit.sum(-1).tolist() == pytest.approx(totals)
    assert result.metrics["credit/set_reward"].item() == pytest.approx(sum(totals) / 3)


def test_coverage_pays_for_what_only_few_cover_and_needs_to_be_told():
    covers = torch.zeros(1, 3, 3, 2, dtype=torch.bool)
    covers[0, 0, 0] = torch.tensor([True, True])
    covers[0, 0, 1] = torch.tensor([True, False])
    shape = replace(SHAPE, utility=Coverage())
    credit = shape(signals_of(covers=covers)).credit[0, 0, [0, 3, 6]] / 3
    assert credit.tolist() == pytest.approx([1.5, 0.5, 0.0])
    with pytest.raises(ValueError, match="utility=max"):
        shape(signals_of())


def test_no_candidate_at_all_is_a_group_of_zeros():
    mask = torch.zeros_like(REWARDS, dtype=torch.bool)
    assert (SHAPE(signals_of(mask=mask)).values == 0).all()


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="m is 0"):
        Top(m=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("utility", [Max(), Top(), AnySuccess(), Coverage(), Sum()], ids=repr)
def test_a_utility_and_its_shapley_shares_have_the_precision_of_the_rewards(utility, dtype):
    mask = torch.ones(1, 1, 3, dtype=torch.bool)
    candidates = CandidateRewards(
        rewards=torch.tensor([[[0.3, 0.2, 0.1]]], dtype=dtype),
        mask=mask,
        candidate_ids=torch.zeros(1, 1, 2, dtype=torch.long),
        num_asked=3,
        covers=torch.ones(1, 1, 3, 7, dtype=torch.bool),
    )
    whole, shares = utility(candidates, mask), utility.shapley(candidates, mask)
    assert whole.dtype == shares.dtype == dtype
    precision = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(shares.sum(-1), whole, rtol=precision, atol=precision)
    if isinstance(utility, Coverage):
        assert shares[0, 0].tolist() == pytest.approx([7 / 3] * 3, rel=precision)
