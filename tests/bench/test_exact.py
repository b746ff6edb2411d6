"""The bench's truth: probabilities, gradients and values by enumeration, against other ways."""

import math
from itertools import product

import pytest
import torch

from rlcredit.bench.exact import (
    OBJECTIVES,
    action_advantages,
    best_of,
    gradient,
    mean_reward,
    optimum,
    truth,
)
from rlcredit.bench.tree import Tree
from rlcredit.bench.worlds import World, worlds
from rlcredit.credit.owen import owen_value, path_myerson_value
from rlcredit.credit.shapley import shapley_value
from tests.credit import oracles

WORLDS = {world.name: world for world in worlds()}
LISTS = [name for name, world in WORLDS.items() if world.tree.longest > 1]


@pytest.fixture(params=WORLDS)
def world(request):
    return WORLDS[request.param]


def chances(world, parameters):
    return world.logprobs(parameters).sum(-1).exp()


def test_a_tree_holds_every_list_of_words_once_and_length_is_a_choice():
    tree = Tree(words=("a", "b", "c"), longest=2)
    assert tree.responses == ((0,), (1,), (2,), *product(range(3), repeat=2))
    assert tree.tokens[0].tolist()[:2] == [0, tree.end]
    assert tree.tokens[4].tolist() == [0, tree.separator, 1]  # cut off: no end
    assert tree.texts[4] == "a, b"
    assert tree.kept[4].tolist() == [0, 1, 2, 5]  # nothing, a, b, a b
    with pytest.raises(ValueError, match="two words or more"):
        Tree(words=("a",), longest=2)
    with pytest.raises(ValueError, match="a tilt per question"):
        World(
            name="none", structure="", tree=tree, game=WORLDS["additive"].game,
            policy=WORLDS["additive"].policy, tilts=(),
        )  # fmt: skip


def test_every_policy_is_a_distribution_over_the_tree_and_rewards_are_bounded(world):
    total = chances(world, world.parameters).sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)
    assert world.values[:, 0].abs().max() == 0
    assert world.rewards.min() >= 0
    assert world.rewards.max() <= 1 + 1e-12


@pytest.mark.parametrize("name", ["positions", "candidates", "arms", "noisy"])
def test_the_gradient_of_every_objective_is_that_of_finite_differences(name):
    world, step = WORLDS[name], 1e-5
    generator = torch.Generator().manual_seed(0)
    way = torch.randn(world.parameters.shape, generator=generator, dtype=torch.float64)
    held = {"reward / std", "reward per token"}  # part of them stands still by definition
    for objective in (OBJECTIVES[name] for name in OBJECTIVES if name not in held):
        ahead, behind = (
            objective(world.logprobs(world.parameters + sign * step * way).sum(-1), world)
            for sign in (1, -1)
        )
        slope = gradient(objective, world, world.parameters) @ way
        assert slope.item() == pytest.approx(((ahead - behind) / (2 * step)).item(), abs=1e-7)


def test_objectives_that_hold_a_part_still_are_what_their_names_say():
    world = WORLDS["arms"]
    leaf = world.parameters.detach().requires_grad_()
    passes = mean_reward_by_question(world, leaf)
    (arcsine,) = torch.autograd.grad(2 * passes.sqrt().arcsin().mean(), leaf)
    found = gradient(OBJECTIVES["reward / std"], world, world.parameters)
    torch.testing.assert_close(found, arcsine, rtol=0, atol=1e-12)
    # One token each: per token is the same as the mean.
    per_token = gradient(OBJECTIVES["reward per token"], world, world.parameters)
    expected = gradient(mean_reward, world, world.parameters)
    torch.testing.assert_close(per_token, expected, rtol=0, atol=1e-12)


def mean_reward_by_question(world, parameters):
    return (chances(world, parameters) * world.rewards).sum(-1)


def test_the_gradient_is_the_sum_of_scores_weighed_by_rewards(world):
    scores = world.scores(world.parameters).sum(-2)
    weight = chances(world, world.parameters) * world.rewards / world.questions
    found = torch.einsum("qr,qrd->d", weight, scores)
    expected = gradient(mean_reward, world, world.parameters)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_action_advantages_give_the_gradient_and_average_to_nothing(world):
    advantages = action_advantages(world, world.parameters)
    weight = chances(world, world.parameters) / world.questions
    scores = world.scores(world.parameters)
    found = torch.einsum("qr,qrt,qrtd->d", weight, advantages, scores)
    expected = gradient(mean_reward, world, world.parameters)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert (weight.unsqueeze(-1) * advantages).sum(dim=1).abs().max() < 1e-12


def test_best_of_two_is_the_sum_over_pairs():
    world = WORLDS["retrieval"]
    p = chances(world, world.parameters)
    pairs = p.unsqueeze(1) * p.unsqueeze(2)
    better = torch.maximum(world.rewards.unsqueeze(1), world.rewards.unsqueeze(2))
    expected = (pairs * better).sum((1, 2)).mean()
    found = best_of(2)(p.log(), world)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", LISTS)
def test_values_are_those_of_the_credit_floor(name):
    world = WORLDS[name]
    found, count = truth(world), world.tree.longest
    table = world.values[:, world.tree.kept]
    unions = (torch.arange(count) // 2).expand(*table.shape[:-1], -1)
    windows = torch.zeros(*table.shape[:-1], count, count, dtype=torch.float64)
    for a, b in product(range(count), repeat=2):
        if a <= b:
            windows[..., a, b] = table[..., sum(1 << i for i in range(a, b + 1))]
    expected = {
        "shapley": shapley_value(table),
        "owen": owen_value(table, unions=unions),
        "myerson": path_myerson_value(windows),
    }
    for value, numbers in expected.items():
        torch.testing.assert_close(getattr(found, value), numbers, rtol=0, atol=1e-12)


def test_values_are_those_of_slow_definitions_too():
    world = WORLDS["complements"]
    found, r = truth(world), 300
    game = world.values[0, world.tree.kept[r]].tolist()
    assert found.shapley[0, r].tolist() == pytest.approx(oracles.shapley(game, 4))
    assert found.owen[0, r].tolist() == pytest.approx(oracles.owen(game, [0, 0, 1, 1]))


def credit(name, words, value="shapley"):
    world = WORLDS[name]
    numbers = getattr(truth(world), value)[0, world.tree.responses.index(words)]
    return [round(number, 9) for number in numbers.tolist()]


def test_games_have_the_structure_that_they_are_named_for():
    for value in ("shapley", "owen", "myerson", "leave_one_out"):
        assert credit("additive", (2, 0, 1), value) == [0.15, 0.5, 0.3]
        assert credit("free_rider", (3, 0, 2), value)[::2] == [0, 0]
    assert credit("redundant", (0, 1, 2)) == [0.3, 0.3, 0.4]
    assert credit("redundant", (0, 1, 2), "leave_one_out") == [0, 0, 0.4]
    assert credit("complements", (0, 2, 1)) == [0.35, 0, 0.35, 0]
    # The path pays whoever stands between two that need each other.
    assert credit("complements", (0, 2, 1), "myerson") == pytest.approx([0.7 / 3] * 3 + [0])
    assert credit("harmful", (0, 3), "leave_one_out")[1] < -0.3
    assert credit("positions", (3, 0), "leave_one_out")[0] < 0  # the best one moves up without it
    assert credit("candidates", (0, 1, 4)) == pytest.approx([0.6, 0.3, 0])


def test_the_optimum_is_the_best_of_all_responses_and_of_all_policies(world):
    found = optimum(world)
    assert torch.equal(found.reward, world.rewards.amax(-1))
    assert (found.chance > 0).all()
    assert (found.chance < 1).all()
    objective = OBJECTIVES["reward + 0.1 entropy"]
    best = objective(found.regularised.log(), world)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        noise = 0.1 * torch.randn(world.rewards.shape, generator=generator, dtype=torch.float64)
        other = (found.regularised.log() + noise).log_softmax(-1)
        assert objective(other, world) < best


def test_bandits_questions_are_hard_and_easy():
    world = WORLDS["arms"]
    passes = mean_reward_by_question(world, world.parameters)
    assert passes[0] < 0.1
    assert passes[-1] > 0.8
    assert optimum(world).reward.tolist() == [1] * 4
    assert math.isclose(optimum(world).chance[1].item(), passes[1].item())
