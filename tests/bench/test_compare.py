"""Bias, variance and direction of gradients whose truth is chosen."""

import numpy as np
import pytest

from rlcredit.bench.compare import BUDGET, Resampler, compare, less, median

TARGET = np.array([1.0, 2.0, -1.0, 0.5])
OTHER = np.array([1.0, -1.0, 2.0, 0.0])
AHEAD = {"mean reward": TARGET, "other": OTHER, "between": TARGET + OTHER}


def found(mean, *, noise=0.5, replicates=2000, control=None, seed=0):
    rng = np.random.default_rng(seed)
    rows = mean + noise * rng.standard_normal((replicates, 4))
    return compare(
        rows, TARGET, AHEAD, Resampler(replicates), control=control, samples=8, evaluations=20.0
    )


def test_an_unbiased_gradient_is_found_to_be_one():
    result = found(TARGET)
    assert result.unbiased
    assert result.scale.low < 1 < result.scale.high
    assert result.cosine.mean > 0.999
    assert (result.climbs, result.tied) == ("mean reward", ())
    length = TARGET @ TARGET
    assert result.variance.low < 4 * 0.25 / length < result.variance.high
    for bought, cost in ((result.by_samples, 8), (result.by_rewards, 20)):
        noise = result.variance.mean * cost / BUDGET
        assert bought.variance.mean == pytest.approx(noise)
        assert bought.error.mean == pytest.approx(result.bias.mean**2 + noise)


def test_bias_and_length_and_direction_are_measured():
    result = found(3 * TARGET)
    assert result.bias.low < 2 < result.bias.high
    assert result.scale.mean == pytest.approx(3, rel=0.02)
    assert not result.unbiased
    # At the best rate only noise is left, which is a ninth as large for a gradient 3 times as long.
    rest = result.variance.mean / 9 * 8 / BUDGET
    assert result.by_samples.at_best_rate.mean == pytest.approx(rest / (1 + rest), rel=0.2)
    result = found(TARGET + OTHER)
    assert result.climbs == "between"
    assert result.cosines["between"] == pytest.approx(1, abs=1e-3)


def test_noise_is_not_taken_for_bias():
    biases = [found(TARGET, noise=20, replicates=200, seed=s).bias.low for s in range(20)]
    assert sum(low == 0 for low in biases) >= 17


def test_a_direction_that_noise_hides_is_not_named():
    result = found(0 * TARGET, noise=5, replicates=100)
    assert result.cosine is None
    assert (result.climbs, result.cosines) == ("", {})
    assert result.by_samples.at_best_rate.mean == pytest.approx(1, abs=0.3)


def test_what_points_down_is_no_use_at_any_rate():
    result = found(-TARGET - OTHER)
    assert (result.climbs, result.tied) == ("none of these", ())
    result = found(-TARGET)
    assert result.scale.high < 0
    assert result.cosine.mean < -0.999
    rest = result.by_samples.at_best_rate
    assert (rest.mean, rest.low, rest.high) == (1, 1, 1)


def test_a_control_takes_noise_off_and_leaves_the_mean():
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((1000, 4))
    rows, control = 2 * TARGET + 3 * noise, TARGET + noise
    args = (rows, TARGET, AHEAD, Resampler(1000))
    plain = compare(*args, control=None, samples=1, evaluations=1.0)
    steady = compare(*args, control=control, samples=1, evaluations=1.0)
    assert steady.scale.mean == pytest.approx(2, abs=1e-9)
    assert plain.scale.high - plain.scale.low > 0.1
    assert steady.variance == plain.variance  # that of the method, not of what is left
    still = np.tile(TARGET, (1000, 1))
    same = compare(*args, control=still, samples=1, evaluations=1.0)
    assert same.scale == plain.scale


def drawn(rows, *, control=None):
    return compare(
        rows, TARGET, AHEAD, Resampler(len(rows)), control=control, samples=400, evaluations=900.0
    )


def test_the_variance_is_the_samples_own_whether_halves_are_equal_or_not():
    for replicates in (40, 41):
        rows = TARGET + np.random.default_rng(2).exponential(size=(replicates, 4))
        expected = rows.var(axis=0, ddof=1).sum() / (TARGET @ TARGET)
        assert drawn(rows).variance.mean == pytest.approx(expected, rel=1e-12)


def test_rows_that_never_differ_have_no_variance_and_an_error_without_an_interval():
    result = drawn(np.tile(3 * TARGET, (20, 1)))
    assert (result.variance.low, result.variance.high) == (0, 0)
    error = result.by_samples.error
    assert (error.low, error.mean, error.high) == pytest.approx((4, 4, 4))


def test_two_that_are_alike_have_the_same_intervals_and_no_difference():
    rng = np.random.default_rng(3)
    rows = TARGET + OTHER + 5 * rng.standard_normal((200, 4))
    one, other = drawn(rows), drawn(rows.copy())
    assert one == other
    gap = less(one.by_rewards.error, other.by_rewards.error)
    assert (gap.low, gap.mean, gap.high) == (0, 0, 0)
    # A learning rate takes the length up, in every resample.
    longer = drawn(3 * rows)
    assert longer.variance.low == pytest.approx(9 * one.variance.low)
    best, same = one.by_samples.at_best_rate, longer.by_samples.at_best_rate
    assert same.values == pytest.approx(best.values)
    gap = less(same, best)  # of rounding alone
    assert (gap.low, gap.mean, gap.high) == (0, 0, 0)
    assert 0 < best.low < best.mean < best.high


def test_differences_are_of_the_same_draws():
    rng = np.random.default_rng(4)
    noise = 5 * rng.standard_normal((200, 4))
    quieter, louder = (drawn(TARGET + size * noise).variance for size in (1, 1.02))
    assert quieter.high > louder.low
    assert less(quieter, louder).high < 0


def test_the_median_over_worlds_is_drawn_again_as_a_whole():
    rng = np.random.default_rng(5)
    worlds = [drawn(TARGET + size * rng.standard_normal((200, 4))) for size in (1, 2, 2.01, 9)]
    figures = [world.variance for world in worlds]
    assert median(figures[:1]) == figures[0]
    found = median(figures)
    assert found.mean == pytest.approx((figures[1].mean + figures[2].mean) / 2)
    # Two independent worlds share the middle: narrower than either, by about the root of 2.
    widths = [each.high - each.low for each in (found, *figures[1:3])]
    assert 0.55 < widths[0] / np.mean(widths[1:]) < 0.9
