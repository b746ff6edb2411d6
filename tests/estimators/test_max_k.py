"""max@K as an estimator: what it climbs in the bench, and what it refuses."""

from dataclasses import replace

import pytest
import torch

from rlcredit.bench.compare import Resampler, compare
from rlcredit.bench.draw import Draw
from rlcredit.bench.exact import OBJECTIVES, gradient
from rlcredit.bench.gradients import Stage
from rlcredit.bench.worlds import worlds
from rlcredit.credit.group import Scale
from rlcredit.credit.max_at_k import max_at_k
from rlcredit.estimators import RLOO, MaxK
from rlcredit.trainer.pairing import check_pairing
from rlcredit.types import Needs, Randomness
from tests.composing import built
from tests.strategies import make_signals

WORLDS = {world.name: world for world in worlds()}


@pytest.mark.parametrize("world", ["additive", "harmful"])
def test_in_the_bench_it_climbs_the_best_of_k_and_rloo_the_mean(world):
    world = WORLDS[world]
    draw = Draw.of(
        world,
        world.parameters,
        replicates=1024,
        group_size=8,
        randomness=Randomness(seed=0, step=0),
    )
    stage = Stage(draw=draw, sampler=world.parameters, parameters=world.parameters)
    targets = {
        name: gradient(objective, world, world.parameters).numpy()
        for name, objective in OBJECTIVES.items()
    }
    signals, evaluations = draw.signals(Needs())
    loss = built("loss", "dr_grpo")  # weighs all tokens alike

    def climbed(estimator):
        found = stage.gradients(loss, estimator(signals).values) / stage.unit(loss)
        return compare(
            found,
            stage.target,
            {"mean reward": stage.target, **targets},
            Resampler(1024),
            control=stage.plain,
            samples=8,
            evaluations=evaluations,
        ).climbs

    assert climbed(MaxK(k=4)) == "best of 4"
    assert climbed(MaxK(k=2)) == "best of 2"
    assert climbed(RLOO()) == "mean reward"


def test_it_is_the_weights_on_every_token_over_the_std_where_that_is_asked_for():
    signals = make_signals(Needs(), group_size=6, dtype=torch.float64)
    expected = max_at_k(signals.rewards, k=3)
    found = MaxK(k=3)(signals).values
    assert torch.equal(found, torch.where(signals.response_mask, expected[..., None], 0))
    scaled = MaxK(k=3, scale=Scale.std)(signals).values
    std = signals.rewards.std(dim=1)[:, None, None] + 1e-4
    torch.testing.assert_close(scaled, found / std)
    equal = replace(signals, rewards=torch.ones_like(signals.rewards))
    assert MaxK(k=3, scale=Scale.std)(equal).values.abs().max() == 0


def test_a_k_that_does_not_fit_the_group_is_refused_before_anything_is_loaded():
    loss = built("loss", "dapo")
    check_pairing(MaxK(k=4), loss, group_size=5, num_candidates=0)
    with pytest.raises(ValueError, match=r"trainer\.group_size >= 5"):
        check_pairing(MaxK(k=4), loss, group_size=4, num_candidates=0)
    with pytest.raises(ValueError, match="k >= 1"):
        MaxK(k=0)
    with pytest.raises(ValueError, match="std or none"):
        MaxK(scale=Scale.mean)
