"""Monte Carlo values of the text so far: exact targets, the bench's truth, and what it costs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rlcredit.bench.compare import Resampler, compare
from rlcredit.bench.draw import Draw
from rlcredit.bench.exact import OBJECTIVES, action_advantages, gradient
from rlcredit.bench.gradients import Stage
from rlcredit.bench.worlds import worlds
from rlcredit.credit.group import Scale, leave_one_out
from rlcredit.credit.prefix import judged_segment
from rlcredit.credit.state_values import Target, judged_starts, state_advantages
from rlcredit.estimators import Vine
from rlcredit.types import Needs, Randomness
from tests.composing import built
from tests.estimators.toy import Toy
from tests.strategies import DOUBLE, make_signals

WORLDS = {world.name: world for world in worlds()}


def draw(name, *, replicates=256, group_size=4, parameters=None):
    world = WORLDS[name]
    return Draw.of(
        world,
        world.parameters if parameters is None else parameters,
        replicates=replicates,
        group_size=group_size,
        randomness=Randomness(seed=1, step=0),
    )


def test_by_hand_a_segment_is_judged_by_the_next_value_that_is_there():
    rewards = torch.tensor([[1.0, 0.0, 0.4]], dtype=DOUBLE)
    values = torch.tensor([[[9.0, 0.5, 0.7], [9.0, 0.2, 9.0], [9.0, 9.0, 0.3]]], dtype=DOUBLE)
    present = torch.tensor([[[1, 1, 1], [1, 1, 0], [1, 0, 1]]]).bool()
    step = state_advantages(rewards, values, present, target=Target.step)[0]
    expected = [[0.5 - 0.2, 0.2, 0.3], [0.2 - 0.7, -0.2, 0.0], [0.3 - 0.5, 0.0, 0.1]]
    torch.testing.assert_close(step, torch.tensor(expected, dtype=DOUBLE))
    whole = state_advantages(rewards, values, present, target=Target.reward)[0]
    expected = [[0.8, 0.5, 0.3], [-0.7, -0.2, 0.0], [-0.1, 0.0, 0.1]]
    torch.testing.assert_close(whole, torch.tensor(expected, dtype=DOUBLE))


@pytest.mark.parametrize("target", list(Target))
def test_with_true_values_its_expected_gradient_is_the_true_one(target):
    """Values enter linearly, continuations are independent: so it is with any number of them."""
    for seed in (0, 1):
        toy = Toy(seed=seed)
        signals, pairs = toy.signals(built("estimator", "prefix").needs.coalitions)
        found = toy.expected(Vine(target=target)(signals).values, pairs)
        torch.testing.assert_close(found, toy.gradient(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("target", list(Target))
def test_a_value_of_the_group_itself_would_be_biased(target):
    toy = Toy(seed=0)
    signals, pairs = toy.signals(built("estimator", "prefix").needs.coalitions)
    values = Vine(target=target)(signals).values
    # the group's own mean before the first segment, in place of the siblings'
    place = judged_segment(signals.segments.ids, signals.response_mask)
    first = (place == 0) & signals.response_mask
    shift = signals.rewards.flip(1) - signals.rewards.mean(dim=1, keepdim=True)
    wrong = torch.where(first, values + shift.unsqueeze(-1), values)
    assert (toy.expected(wrong, pairs) - toy.gradient()).abs().max() > 1e-2


def test_with_many_continuations_a_segment_earns_what_its_choices_were_worth():
    drawn = draw("free_rider", replicates=16)
    signals, _ = drawn.signals(Needs(continuations=20_000))
    credit = Vine(samples=20_000)(signals).credit
    worth = drawn.of_responses(action_advantages(drawn.world, drawn.world.parameters))
    place = judged_segment(signals.segments.ids, signals.response_mask)
    for k in range(1, 3):
        own = (place == k) & signals.response_mask
        sums = torch.where(own, worth, 0).sum(-1)
        found = torch.where(own, credit, -torch.inf).amax(-1)
        there = own.any(-1)
        assert there.any()
        torch.testing.assert_close(found[there], sums[there], rtol=0, atol=0.02)


def test_a_policy_that_leaves_nothing_to_chance_has_nothing_to_credit():
    sharp = 200 * WORLDS["additive"].parameters
    drawn = draw("additive", parameters=sharp, replicates=8)
    signals, _ = drawn.signals(Vine().needs)
    assert (drawn.picks == drawn.picks[:, :1]).all()
    assert signals.state_values.abs().max() > 0
    for target in Target:
        assert Vine(target=target)(signals).values.abs().max() < 1e-12


@pytest.mark.parametrize("target", list(Target))
@pytest.mark.parametrize("world", ["additive", "noisy"])
def test_in_the_bench_it_climbs_the_mean_reward_without_bias(world, target):
    replicates = 2000
    drawn = draw(world, replicates=replicates, group_size=4)
    world = drawn.world
    here = Stage(draw=drawn, sampler=world.parameters, parameters=world.parameters)
    loss = built("loss", "dr_grpo")
    signals, cost = drawn.signals(Vine(samples=2).needs)
    rows = here.gradients(loss, Vine(samples=2, target=target)(signals).values) / here.unit(loss)
    targets = {n: gradient(o, world, world.parameters).numpy() for n, o in OBJECTIVES.items()}
    found = compare(
        rows,
        here.target,
        targets,
        Resampler(replicates),
        control=here.plain,
        samples=4,
        evaluations=cost,
    )
    assert found.climbs == "mean reward"
    assert found.bias.low == 0
    assert found.scale.mean == pytest.approx(1, abs=0.05)


def test_what_is_asked_for_in_the_bench_is_counted():
    drawn = draw("additive")
    signals, cost = drawn.signals(Vine(samples=3).needs)
    words = drawn.world.tree.present[drawn.picks].sum(-1)
    continued = 3 * int((words - 1).sum())
    assert signals.num_evaluations == drawn.picks.numel() + continued
    assert cost == signals.num_evaluations / len(drawn.picks)
    # a continuation of one word or two: at least a word, then an end or the cap
    assert continued <= signals.num_extra_tokens <= 3 * continued
    place = judged_segment(signals.segments.ids, signals.response_mask)
    there = judged_starts(place, signals.response_mask, 4) < signals.response_mask.shape[-1]
    assert (signals.state_values[~there] == 0).all()
    assert (signals.state_values[..., 0] == 0).all()


def test_coins_of_continuations_are_drawn_anew():
    drawn = draw("noisy", replicates=500)
    values = drawn.signals(Needs(continuations=1))[0].state_values
    assert set(np.unique(values)) == {0.0, 1.0}


def test_over_the_std_it_is_the_same_in_other_units_and_one_segment_is_rloo():
    signals = make_signals(Vine().needs, dtype=DOUBLE)
    plain, scaled = Vine()(signals), Vine(scale=Scale.std)(signals)
    std = signals.rewards.std(dim=1)[:, None, None] + 1e-4
    torch.testing.assert_close(scaled.values, plain.values / std)
    assert torch.equal(scaled.credit, plain.credit)
    ids = torch.where(signals.segments.ids == 0, 0, -1)
    mask = signals.response_mask & (ids.cummax(-1).values == 0) & (ids == 0)
    one = replace(signals, response_mask=mask, segments=replace(signals.segments, ids=ids))
    expected = torch.where(mask, leave_one_out(signals.rewards)[..., None], 0)
    torch.testing.assert_close(Vine()(one).values, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("settings", [{"samples": 0}, {"scale": Scale.mean}])
def test_settings_without_a_meaning_are_refused(settings):
    with pytest.raises(ValueError, match=r"samples=0|std or none"):
        Vine(**settings)
