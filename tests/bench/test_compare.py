"""Bias, variance and direction of gradients whose truth is chosen."""

import numpy as np
import pytest

from rlcredit.bench.compare import BUDGET, Resampler, compare

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
    assert result.variance == pytest.approx(4 * 0.25 / length, rel=0.1)
    expected = result.bias.mean**2 + result.variance * 20 / BUDGET
    assert result.error(result.evaluations) == pytest.approx(expected)


def test_bias_and_length_and_direction_are_measured():
    result = found(3 * TARGET)
    assert result.bias.low < 2 < result.bias.high
    assert result.scale.mean == pytest.approx(3, rel=0.02)
    assert not result.unbiased
    # At the best rate only noise is left, which is a ninth as large for a gradient 3 times as long.
    rest = result.variance / 9 * 8 / BUDGET
    assert result.error_at_best_rate(8) == pytest.approx(rest / (1 + rest), rel=0.2)
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
    assert result.error_at_best_rate(8) == pytest.approx(1, abs=0.3)


def test_what_points_down_is_no_use_at_any_rate():
    result = found(-TARGET - OTHER)
    assert (result.climbs, result.tied) == ("none of these", ())
    result = found(-TARGET)
    assert result.scale.high < 0
    assert result.cosine.mean < -0.999
    assert result.error_at_best_rate(8) == 1


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
