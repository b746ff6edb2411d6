"""Drawn groups: frequencies, and signals that are those of the scorer's own records."""

from dataclasses import replace

import pytest
import torch

from rlcredit.bench.draw import Draw
from rlcredit.bench.worlds import worlds
from rlcredit.estimators import Max
from rlcredit.types import Needs, Randomness
from tests.composing import built, names
from tests.strategies import make_game

WORLDS = {world.name: world for world in worlds()}
SEED = Randomness(seed=3, step=0)


def draw(name, replicates=50, group_size=4):
    world = WORLDS[name]
    return Draw.of(
        world,
        world.parameters,
        replicates=replicates,
        group_size=group_size,
        randomness=SEED,
    )


def test_responses_are_drawn_as_often_as_the_policy_writes_them():
    world = WORLDS["arms"]
    drawn = draw("arms", replicates=4000)
    chance = world.logprobs(world.parameters).sum(-1).exp()
    for question in range(world.questions):
        picks = drawn.picks[drawn.asked == question]
        share = torch.bincount(picks.flatten(), minlength=12) / picks.numel()
        assert (share - chance[question]).abs().max() < 0.02
    assert torch.equal(drawn.rewards, drawn.of_responses(world.rewards))
    assert torch.equal(drawn.picks, draw("arms", replicates=4000).picks)


@pytest.mark.parametrize("name", ["ospo", "ospo_owen", "loo", "prefix", "random_credit"])
def test_games_are_those_that_the_plan_asks_for_with_the_values_of_the_texts(name):
    world, drawn = WORLDS["retrieval"], draw("retrieval", replicates=3, group_size=3)
    needs = built("estimator", name).needs
    signals, cost = drawn.signals(needs)
    responses = [[world.tree.responses[r] for r in row] for row in drawn.picks.tolist()]
    questions = drawn.asked.tolist()
    players = (world.tree.first if needs.first_copies else world.tree.present)[drawn.picks]

    def value(p, g, chosen):
        return world.game(questions[p], tuple(responses[p][g][m] for m in chosen))

    expected = make_game(needs.coalitions, players, value)
    live = expected.evaluated.clone()
    if needs.skips_equal_groups:
        equal = signals.rewards.amax(1) == signals.rewards.amin(1)
        live[..., 2:] &= ~equal[:, None, None]
    shown = live.shape[-1]
    assert torch.equal(signals.game.players, expected.players)
    assert torch.equal(signals.game.evaluated[..., :shown], live)
    assert torch.equal(signals.game.members[..., :shown, :], expected.members)
    wanted = torch.where(live, expected.rewards, 0)
    wanted[..., 1] = signals.rewards * live[..., 1]
    torch.testing.assert_close(signals.game.rewards[..., :shown], wanted, rtol=0, atol=1e-12)
    assert not signals.game.evaluated[..., shown:].any()
    assert signals.num_evaluations == 27 + int(live[..., 2:].sum())
    assert cost == signals.num_evaluations / 9


def test_where_copies_are_paid_for_everyone_s_value_is_that_of_the_words_without_them():
    """One game: credits share out what the players earn, none of what their copies do."""
    world, drawn = WORLDS["positions"], draw("positions", replicates=20)
    needs = built("estimator", "ospo").needs
    signals, _ = drawn.signals(needs)
    game = signals.game
    players = game.players.tolist()
    own = torch.zeros_like(signals.rewards)
    for p, row in enumerate(drawn.picks.tolist()):
        for g, pick in enumerate(row):
            words = zip(world.tree.responses[pick], players[p][g], strict=False)
            own[p, g] = world.game(int(drawn.asked[p]), tuple(w for w, plays in words if plays))
    unequal = signals.rewards.amax(1) > signals.rewards.amin(1)
    torch.testing.assert_close(game.rewards[..., 1][unequal], own[unequal])
    paid = unequal[:, None] & (own != signals.rewards)
    assert paid.any()
    beyond = int(game.evaluated[..., 2:].sum())
    assert signals.num_evaluations == drawn.picks.numel() + beyond + int(paid.sum())


def test_a_set_earns_its_best_candidate_if_it_is_complete_and_costs_each_of_them():
    drawn = draw("candidates")
    signals, cost = drawn.signals(Needs(candidates=True))
    candidates = signals.candidates
    whole = candidates.mask & candidates.complete.unsqueeze(-1)
    torch.testing.assert_close(signals.rewards, Max()(candidates, whole))
    assert 0 < candidates.complete.double().mean() < 1
    assert cost == candidates.mask.sum() / len(drawn.picks)
    assert drawn.signals(Needs())[1] == cost  # the set's reward is made of theirs
    with pytest.raises(ValueError, match="has no candidates"):
        draw("additive").signals(Needs(candidates=True))


def test_coins_are_drawn_anew_for_each_evaluation_and_are_right_on_average():
    drawn = draw("noisy", replicates=2000)
    assert set(drawn.rewards.unique().tolist()) == {0.0, 1.0}
    gap = drawn.rewards.mean() - drawn.of_responses(WORLDS["noisy"].rewards).mean()
    assert gap.abs() < 0.02
    game = drawn.signals(built("estimator", "prefix").needs)[0].game
    single = game.players.sum(-1) == 1
    assert torch.equal(game.rewards[..., 1], drawn.rewards)
    assert not game.evaluated[single][:, 2:].any()


def test_every_estimator_of_conf_finds_its_signals_in_a_world_of_its_kind():
    kinds = {name: draw(name, 4, group_size=5) for name in ("candidates", "additive")}
    for name in names("estimator"):
        estimator = built("estimator", name)
        kind = "candidates" if estimator.needs.candidates else "additive"
        values = estimator(kinds[kind].signals(estimator.needs)[0]).values
        assert values.shape == kinds[kind].response_mask.shape
        assert torch.isfinite(values).all()


def test_a_plan_that_samples_has_its_sample_and_says_so():
    drawn = draw("complements")
    needs = built("estimator", "ospo").needs
    few = replace(needs, coalitions=replace(needs.coalitions, budget=4))
    game = drawn.signals(few)[0].game
    assert game.sampled.any()
    assert game.evaluated.sum(-1).max() == 4
