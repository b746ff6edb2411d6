import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlcredit.credit.coalitions import (
    LeaveOneOut,
    Prefixes,
    Subsets,
    Whole,
    Windows,
    leave_one_out,
    prefixes,
    sample,
    subsets,
    windows,
)
from rlcredit.types import CoalitionPlan

PLANS = [Windows(), Windows(max_width=2), Prefixes(), LeaveOneOut(), Subsets(), Whole()]
GENERATOR = torch.Generator().manual_seed(0)


def rows(members):
    return ["".join("01"[int(x)] for x in row) for row in members]


def test_coalitions_by_hand():
    assert rows(windows(3)) == ["000", "111", "100", "110", "010", "011", "001"]
    assert rows(windows(3, 1)) == ["000", "111", "100", "010", "001"]
    assert rows(prefixes(3)) == ["000", "111", "100", "110"]
    assert rows(leave_one_out(3)) == ["000", "111", "011", "101", "110"]
    assert rows(subsets(3)) == ["000", "111", "100", "010", "110", "001", "101", "011"]
    assert rows(Whole()(3, GENERATOR)) == ["000", "111"]


@pytest.mark.parametrize("plan", PLANS, ids=repr)
@pytest.mark.parametrize("n", range(10))
def test_the_first_rows_are_nobody_and_everyone_and_no_row_repeats(plan, n):
    assert isinstance(plan, CoalitionPlan)
    found = rows(plan(n, GENERATOR))
    assert found[:2] == (["0" * n, "1" * n] if n else [""])
    assert len(set(found)) == len(found)
    assert not plan.is_sampled(n)


@pytest.mark.parametrize("n", range(1, 12))
def test_there_are_as_many_windows_as_the_formula_says(n):
    for width in range(1, n + 2):
        expected = 1 + sum(n - k + 1 for k in range(1, min(width, n) + 1)) + (width < n)
        assert len(windows(n, width)) == expected
    assert len(windows(n)) == 1 + n * (n + 1) // 2


@given(st.integers(2, 9), st.integers(2, 60), st.integers(0, 2**31))
def test_a_sample_keeps_the_first_two_rows_and_is_within_the_budget(n, budget, seed):
    everything = windows(n)
    kept = rows(sample(everything, budget, torch.Generator().manual_seed(seed)))
    assert len(kept) == min(budget, len(everything))
    assert kept[:2] == rows(everything)[:2]
    places = [rows(everything).index(row) for row in kept]
    assert places == sorted(set(places))


def test_every_coalition_is_as_likely_to_be_sampled():
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(6)
    for _ in range(3000):
        counts += (
            (sample(windows(3), 4, generator).long() * torch.tensor([4, 2, 1]))
            .sum(-1)
            .unsqueeze(-1)
            .eq(torch.tensor([4, 6, 2, 3, 1, 9]))
            .any(dim=0)
        )
    assert (counts[:5] / 3000 - 0.4).abs().max() < 0.04


def test_the_same_generator_draws_the_same_sample_and_sampling_is_announced():
    plan = Windows(budget=10)
    first = plan(6, torch.Generator().manual_seed(5))
    assert torch.equal(first, plan(6, torch.Generator().manual_seed(5)))
    assert plan.is_sampled(6)
    assert not plan.is_sampled(3)
    assert len(Windows(budget=11)(4, GENERATOR)) == 11
    assert not Windows(budget=11).is_sampled(4)


def test_impossible_plans_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="max_width is 0"):
        Windows(max_width=0)
    with pytest.raises(ValueError, match=r"budget is 1.*use 2 or more"):
        Windows(budget=1)
    with pytest.raises(ValueError, match=r"11 segments has 2\^11.*myerson"):
        subsets(11)
