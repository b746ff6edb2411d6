"""Bandits that are trained: what is read off them, their gradients, and what training does."""

from dataclasses import replace

import pytest
import torch

from rlcredit.bench.climb import ARMS, BANDITS, Climb, Training, bandits, trained
from rlcredit.estimators import GRPO, SetPO
from tests.composing import built

FAST = Training(batches=40, rate=4.0, runs=6)


def climb(training=FAST):
    return Climb(world=bandits(), training=training, group_size=8, seed=0)


def test_right_arms_and_modes_are_read_off_the_policy():
    logits = torch.full((2, ARMS), -50.0, dtype=torch.float64)
    logits[:, 0] = logits[:, 3] = 0
    found = trained(logits)
    assert found.right.mean == pytest.approx(1)
    assert found.modes.mean == pytest.approx(2)
    uniform = trained(torch.zeros(1, ARMS, dtype=torch.float64))
    assert uniform.right.mean == pytest.approx(4 / 12)
    assert uniform.modes.mean == pytest.approx(4)


def test_the_two_bandits_pay_as_they_say():
    rewards = bandits().rewards
    assert rewards[0].tolist() == [1] * 4 + [0] * 8
    assert rewards[1].tolist() == pytest.approx([1] * 4 + [0.1] * 4 + [0] * 4)
    assert list(BANDITS) == ["right or wrong", "graded"]


@pytest.mark.parametrize("loss", ["dapo", "dr_grpo", "lpo"])
def test_training_makes_bandits_right_and_takes_modes_away(loss):
    found = climb()(built("estimator", "grpo"), built("loss", loss))
    for end in found.values():
        assert end.right.mean > 0.9
        assert 1 <= end.modes.mean < 3.5


def test_lengths_that_a_loss_divides_by_do_not_change_what_is_trained():
    # One token a response: the token mean, the sequence mean and the constant are the same.
    method = built("estimator", "rloo")
    once = climb(replace(FAST, updates=1, batches=5))
    ends = [once(method, built("loss", name)) for name in ("dapo", "dr_grpo", "grpo")]
    for end in ends[1:]:
        for name in BANDITS:
            assert end[name].right.mean == pytest.approx(ends[0][name].right.mean)


def test_a_bonus_for_diversity_keeps_more_modes():
    without = climb()(GRPO(), built("loss", "dapo"))
    bonus = climb()(SetPO(base=GRPO(), coef=2.0), built("loss", "dapo"))
    for name in BANDITS:
        assert bonus[name].modes.mean > without[name].modes.mean + 0.5


def test_a_training_that_trains_nothing_is_refused():
    with pytest.raises(ValueError, match="must be positive"):
        Training(batches=0)
