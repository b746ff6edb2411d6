"""Gradients of groups: against autograd through the policy, and expectations by enumeration."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from rlcredit.bench.compare import BUDGET, Resampler, compare
from rlcredit.bench.draw import Draw
from rlcredit.bench.exact import OBJECTIVES, gradient
from rlcredit.bench.games import Additive, Arms
from rlcredit.bench.gradients import Stage, moved
from rlcredit.bench.policies import Tabular, action_logprobs
from rlcredit.bench.tree import Tree
from rlcredit.bench.worlds import World, worlds
from rlcredit.losses.base import WrappedLoss
from rlcredit.types import Loss, Randomness, UpdateBatch
from tests.composing import built

WORLDS = {world.name: world for world in worlds()}
SEED = Randomness(seed=5, step=0)


def stage(world, *, replicates, drift=0.0, group_size=8):
    drawn = Draw.of(
        world, world.parameters, replicates=replicates, group_size=group_size, randomness=SEED
    )
    later = moved(world, drift=drift) if drift else world.parameters
    return Stage(draw=drawn, sampler=world.parameters, parameters=later)


@pytest.mark.parametrize("loss", ["dapo", "grpo", "gspo", "cispo", "lpo"])
@pytest.mark.parametrize("name", ["positions", "additive"])
def test_the_mean_of_the_replicates_is_the_update_that_autograd_finds(name, loss):
    world = WORLDS[name]
    here = stage(world, replicates=20, drift=0.2)
    advantages = built("estimator", "grpo")(here.draw.signals(built("estimator", "grpo").needs)[0])
    method = built("loss", loss)
    found = here.gradients(method, advantages.values)
    leaf = here.parameters.detach().requires_grad_()
    old = here.draw.of_responses(world.logprobs(here.sampler))
    mask = here.draw.response_mask
    batch = UpdateBatch(
        advantages=advantages.values,
        response_mask=mask,
        old_logprobs=old,
        rollout_logprobs=old,
        num_tokens=int(mask.sum()),
        num_rollouts=mask.shape[0] * mask.shape[1],
        num_prompts=mask.shape[0],
    )
    value = method(here.draw.of_responses(world.logprobs(leaf)), batch).value
    (slope,) = torch.autograd.grad(value, leaf)
    assert found.shape == (20, len(world.parameters))
    torch.testing.assert_close(torch.from_numpy(found.mean(0)), -slope, rtol=0, atol=1e-12)


def test_a_move_is_as_long_as_it_says_and_goes_up():
    world = WORLDS["harmful"]
    before, after = (world.logprobs(p) for p in (world.parameters, moved(world, drift=0.01)))
    chance = before.sum(-1).exp().unsqueeze(-1) * world.tree.mask
    size = ((chance * (after - before).square()).sum() / chance.sum()).sqrt()
    assert size.item() == pytest.approx(0.01, rel=0.02)
    objective = OBJECTIVES["mean reward"]
    assert objective(after.sum(-1), world) > objective(before.sum(-1), world)


def small(game, *, words=3, longest=2):
    tree = Tree(words=tuple("abcdefghijkl"[:words]), longest=longest)
    return World(
        name="small", structure="", tree=tree, game=game, policy=Tabular(), tilts=(0.3,), eased=1
    )


def all_pairs(world):
    """Every group of two, and how likely each is."""
    count = len(world.tree.responses)
    picks = torch.cartesian_prod(torch.arange(count), torch.arange(count))
    asked = torch.zeros(len(picks), dtype=torch.long)
    with torch.no_grad():
        actions = action_logprobs(world.policy, world.parameters, world.tree, world.questions)
    drawn = Draw(world=world, randomness=SEED, picks=picks, asked=asked, actions=actions[asked])
    here = Stage(draw=drawn, sampler=world.parameters, parameters=world.parameters)
    chance = world.logprobs(world.parameters).sum(-1).exp()[0][picks].prod(-1)
    return here, chance.numpy()


def enumerated(estimator, world):
    """The gradient of every group of two with a loss that sums tokens, its chance, and the true."""
    here, chance = all_pairs(world)
    method, loss = built("estimator", estimator), built("loss", "dr_grpo")
    values = method(here.draw.signals(method.needs)[0]).values
    return here.gradients(loss, values) * loss.max_tokens, chance, here.target


def expected(estimator, world):
    """The expected gradient over every group of two; exact."""
    rows, chance, target = enumerated(estimator, world)
    return chance @ rows, target


def test_rloo_is_exactly_unbiased_and_dr_grpo_is_shorter_by_what_is_known():
    world = small(Additive(worths=(0.7, 0.2, 0.1)))
    found, target = expected("rloo", world)
    np.testing.assert_allclose(found, target, rtol=0, atol=1e-12)
    found, target = expected("dr_grpo", world)
    np.testing.assert_allclose(found, target / 2, rtol=0, atol=1e-12)


def test_the_token_baseline_is_unbiased_without_one_s_own_rollout_and_biased_as_released():
    world = small(Additive(worths=(0.7, 0.2, 0.1)))
    found, target = expected("otb", world)
    np.testing.assert_allclose(found, target, rtol=0, atol=1e-12)
    found, target = expected("otb_released", world)
    assert np.abs(found - target).max() > 0.01


def measured(world, estimator, loss, *, replicates=5000, group_size=2):
    here = stage(world, replicates=replicates, group_size=group_size)
    method, of_loss = built("estimator", estimator), built("loss", loss)
    signals, cost = here.draw.signals(method.needs)
    rows = here.gradients(of_loss, method(signals).values) / here.unit(of_loss)
    objectives = {n: gradient(o, world, world.parameters).numpy() for n, o in OBJECTIVES.items()}
    return compare(
        rows,
        here.target,
        objectives,
        Resampler(replicates),
        control=here.plain,
        samples=group_size,
        evaluations=cost,
    )


@pytest.mark.parametrize("estimator", ["grpo", "ospo", "loo", "prefix", "maxrl"])
def test_what_is_measured_from_draws_is_what_enumeration_finds(estimator):
    world = small(Additive(worths=(0.7, 0.2, 0.1)))
    exact, target = expected(estimator, world)
    length = exact @ target / (target @ target)
    cosine = exact @ target / np.linalg.norm(exact) / np.linalg.norm(target)
    found = measured(world, estimator, "dr_grpo")
    slack = 0.03  # the intervals are of 95 %
    assert found.scale.low - slack < length < found.scale.high + slack
    assert found.cosine.mean == pytest.approx(cosine, abs=0.01)
    gap = np.linalg.norm(exact - target) / np.linalg.norm(target)
    assert found.bias.low - slack < gap < found.bias.high + slack
    assert found.bias.high - found.bias.low < 0.2


@dataclass(frozen=True, kw_only=True)
class Known:
    """What intervals should cover, for a replicate that costs this much."""

    variance: float
    error: float
    at_best_rate: float

    @classmethod
    def of(cls, rows, chance, target, *, cost):
        mean, length = chance @ rows, target @ target
        noise = (chance @ np.square(rows).sum(axis=1) - mean @ mean) / length * cost / BUDGET
        bias, power = (vector @ vector / length for vector in (mean - target, mean))
        left = 1 - (mean @ target / length) ** 2 / (power + noise)
        return cls(variance=noise, error=bias + noise, at_best_rate=left)


@pytest.mark.parametrize("estimator", ["rloo", "grpo", "ospo"])
def test_intervals_of_variance_and_error_cover_what_enumeration_finds(estimator):
    world = small(Additive(worths=(0.7, 0.2, 0.1)))
    rows, chance, target = enumerated(estimator, world)
    trials, replicates, costs = 300, 200, (40, 400.0)
    known = [Known.of(rows, chance, target, cost=cost) for cost in costs]
    resampler, rng = Resampler(replicates), np.random.default_rng(0)
    covered = {(cost, name): [] for cost in costs for name in vars(known[0])}
    means = {key: [] for key in covered}
    for _ in range(trials):
        found = compare(
            rows[rng.choice(len(rows), replicates, p=chance / chance.sum())],
            target,
            {"mean reward": target},
            resampler,
            control=None,
            samples=costs[0],
            evaluations=costs[1],
        )
        for cost, bought, truth in zip(
            costs, (found.by_samples, found.by_rewards), known, strict=True
        ):
            for name, value in vars(truth).items():
                figure = getattr(bought, name)
                assert figure.low <= figure.mean <= figure.high
                covered[cost, name].append(figure.low <= value <= figure.high)
                means[cost, name].append(figure.mean / value)
    for key, hits in covered.items():
        assert 0.89 < np.mean(hits) < 0.99, key  # of 95 %, give or take 300 trials
        assert np.mean(means[key]) == pytest.approx(1, abs=0.06), key
    assert np.mean(means[costs[0], "variance"]) == pytest.approx(1, abs=0.01)


def test_rloo_is_found_unbiased_and_grpo_is_not_though_its_direction_is_known():
    world, group = small(Arms(right=2), words=6, longest=1), 4
    rloo = measured(world, "rloo", "dapo", group_size=group)
    assert rloo.unbiased
    assert rloo.scale.low < 1 < rloo.scale.high
    assert rloo.climbs == "mean reward"
    grpo = measured(world, "grpo", "dapo", group_size=group)
    assert not grpo.unbiased
    assert grpo.cosine.mean > 0.999
    # Rewards of 0 and 1: A is a number where right and another where wrong, so the direction is
    # the true one and the length is the difference of the two means.
    chance = world.logprobs(world.parameters).sum(-1).exp()[0, :2].sum().item()
    assert grpo.scale.mean == pytest.approx(grpo_length(chance, group), rel=0.03)


def grpo_length(p, group):
    def advantage(reward, num_right):
        mean = num_right / group
        std = math.sqrt(group * mean * (1 - mean) / (group - 1))
        return 0.0 if num_right in (0, group) else (reward - mean) / (std + 1e-4)

    others = [math.comb(group - 1, k) * p**k * (1 - p) ** (group - 1 - k) for k in range(group)]
    right = sum(c * advantage(1, k + 1) for k, c in enumerate(others))
    wrong = sum(c * advantage(0, k) for k, c in enumerate(others))
    return right - wrong


@dataclass(frozen=True, kw_only=True)
class Times(WrappedLoss):
    """Another loss, multiplied."""

    factor: int

    def __call__(self, logprobs, batch):
        return Loss(value=self.factor * self.loss(logprobs, batch).value)


def test_the_unit_of_a_loss_that_descends_keeps_its_sign_in_sight():
    here = stage(WORLDS["arms"], replicates=64)

    plain = built("loss", "dapo")
    assert here.unit(Times(loss=plain, factor=-3)) == pytest.approx(3 * here.unit(plain))
    assert here.unit(Times(loss=plain, factor=0)) == 1.0
