"""Intervals cover what they should, are reproducible, and do not fail on constants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcredit.evaluation.stats import Interval, mean_interval, paired_interval

FINITE = st.floats(-1e3, 1e3, allow_nan=False).map(lambda x: round(x, 3))


def test_the_interval_of_normal_values_is_near_student_s():
    values = np.random.default_rng(0).normal(0.3, 0.2, 200)
    found = mean_interval(values)
    half = 1.972 * values.std(ddof=1) / np.sqrt(200)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert found.excludes_zero


def test_nineteen_of_twenty_intervals_cover_the_mean():
    rng = np.random.default_rng(1)
    draws = rng.gamma(2.0, size=(300, 40))
    covered = [i.low <= 2.0 <= i.high for i in map(mean_interval, draws)]
    assert 0.90 <= np.mean(covered) <= 0.98


def test_the_same_values_give_the_same_interval():
    values = np.random.default_rng(2).random(30)
    assert mean_interval(values) == mean_interval(values.copy())


def test_equal_values_have_an_interval_of_width_zero():
    found = mean_interval(np.full(7, 0.1))
    assert found.mean == pytest.approx(0.1, abs=1e-15)
    assert found.low == found.mean == found.high
    assert not mean_interval(np.zeros(7)).excludes_zero


def test_one_value_has_no_interval_and_excludes_nothing():
    assert mean_interval(np.array([0.5])) == Interval(mean=0.5, low=None, high=None)
    assert not mean_interval(np.array([0.5])).excludes_zero


@settings(deadline=None, max_examples=60)
@given(st.lists(FINITE, min_size=2, max_size=12))
def test_every_sample_has_finite_ordered_bounds_within_its_range(values):
    found = mean_interval(np.array(values))
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


def test_a_paired_difference_is_narrower_than_the_two_means_suggest():
    rng = np.random.default_rng(3)
    difficulty = rng.random(100)
    before, after = difficulty, difficulty + 0.05 + 0.01 * rng.normal(size=100)
    paired = paired_interval(after, before)
    assert paired.mean == pytest.approx((after - before).mean())
    assert paired.excludes_zero
    assert not mean_interval(before).high < mean_interval(after).low


def test_a_constant_difference_is_exact():
    before = np.arange(5.0)
    assert paired_interval(before + 0.25, before) == Interval(mean=0.25, low=0.25, high=0.25)


def test_differences_that_are_equal_but_for_rounding_have_no_width():
    before = np.random.default_rng(4).random(40) / 2
    found = paired_interval(before + 0.125, before)
    assert np.ptp(before + 0.125 - before) > 0
    assert found.low == found.mean == found.high == pytest.approx(0.125, abs=1e-12)


def test_unpaired_missing_and_undefined_values_are_refused():
    with pytest.raises(ValueError, match="3 values after for 2 before"):
        paired_interval(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="at least one value"):
        mean_interval(np.zeros(0))
    with pytest.raises(ValueError, match=r"not shape \(2, 3\)"):
        mean_interval(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="finite"):
        mean_interval(np.array([0.0, np.nan]))
