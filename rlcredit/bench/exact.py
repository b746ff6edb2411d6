"""What is true in a world, by summing over everything that the policy can write.

No sampling and none of the credit floor: values of players are means over all orders of joining,
written out; gradients go through the probability of each response.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise, permutations
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.bench.worlds import World

TEMPERATURE = 0.1
"""Price of a nat of entropy, in reward units, in the entropy-regularised objective."""
BEST_OF = (2, 4, 8)

Objective: TypeAlias = Callable[[Float[Tensor, "Q R"], World], Float[Tensor, ""]]
"""Log-probability of each response to a number that could be climbed; a mean over questions."""


def mean_reward(logprobs: Float[Tensor, "Q R"], world: World) -> Float[Tensor, ""]:
    """E[R]: what policy gradients are meant to climb."""
    return (logprobs.exp() * world.rewards).sum(dim=-1).mean()


def best_of(count: int) -> Objective:
    """E[the largest of ``count`` independent rewards], from the distribution of one."""

    def objective(logprobs: Float[Tensor, "Q R"], world: World) -> Float[Tensor, ""]:
        if world.coin:
            fails = 1 - (logprobs.exp() * world.rewards).sum(dim=-1)
            return (1 - fails.pow(count)).mean()
        at_most = world.rewards.unsqueeze(-2) <= world.rewards.unsqueeze(-1)
        below = (at_most * logprobs.exp().unsqueeze(-2)).sum(dim=-1)
        total = logprobs.new_zeros(())
        for question in range(world.questions):
            levels, first = _levels(world.rewards[question])
            power = below[question, first].clamp(max=1).pow(count)
            total = total + (levels * torch.diff(power, prepend=power.new_zeros(1))).sum()
        return total / world.questions

    return objective


def _levels(rewards: Float[Tensor, " R"]) -> tuple[Tensor, Tensor]:
    """The distinct rewards in ascending order, and where each is found."""
    levels = rewards.unique()
    return levels, (rewards == levels.unsqueeze(-1)).to(torch.uint8).argmax(dim=-1)


def entropy_regularised(logprobs: Float[Tensor, "Q R"], world: World) -> Float[Tensor, ""]:
    """E[R] + 0.1 H: its optimum is the policy proportional to exp(R / 0.1)."""
    entropy = -(logprobs.exp() * logprobs).sum(dim=-1)
    return mean_reward(logprobs, world) + TEMPERATURE * entropy.mean()


def log_mean_reward(logprobs: Float[Tensor, "Q R"], world: World) -> Float[Tensor, ""]:
    """E over questions of log E[R]: the log of the pass rate where rewards are 0 or 1 (MaxRL)."""
    return (logprobs.exp() * world.rewards).sum(dim=-1).log().mean()


def reward_over_std(logprobs: Float[Tensor, "Q R"], world: World) -> Float[Tensor, ""]:
    """E[R] / std(R) per question, the std held fixed: for rewards 0 and 1, 2 arcsin sqrt(E[R])."""
    chance = logprobs.exp()
    mean = (chance * world.rewards).sum(dim=-1)
    square = (chance * _observed_square(world)).sum(dim=-1)
    return (mean / (square - mean.square()).sqrt().detach()).mean()


def _observed_square(world: World) -> Float[Tensor, "Q R"]:
    """E[reward^2] of each response; a coin's square is itself."""
    return world.rewards if world.coin else world.rewards.square()


def reward_per_token(logprobs: Float[Tensor, "Q R"], world: World) -> Float[Tensor, ""]:
    """E[(R - E R) / length], E R held fixed: what averaging each response's tokens climbs."""
    lengths = world.tree.mask.sum(dim=-1)
    chance = logprobs.exp()
    mean = (chance * world.rewards).sum(dim=-1, keepdim=True).detach()
    return (chance * (world.rewards - mean) / lengths).sum(dim=-1).mean()


def best_response(logprobs: Float[Tensor, "Q R"], world: World) -> Float[Tensor, ""]:
    """Log-chance to write an optimal response: what supervision on them climbs."""
    optimal = world.rewards == world.rewards.amax(dim=-1, keepdim=True)
    return logprobs.masked_fill(~optimal, -torch.inf).logsumexp(dim=-1).mean()


def shapley_mixture(logprobs: Float[Tensor, "Q R"], world: World) -> Float[Tensor, ""]:
    """The sum over s of E[best of s of a response's candidates] / s: its set game's potential.

    Shapley values are its differences (Hart and Mas-Colell 1989), so this is what paying them
    climbs where candidates are independent; of a text, its segments are the candidates.
    """
    table = world.values[:, world.tree.kept]  # [Q, R, C]
    sizes = torch.tensor([bin(c).count("1") for c in range(table.shape[-1])])
    total = torch.zeros_like(world.rewards)
    for r, count in enumerate(world.tree.present.sum(dim=-1).tolist()):
        own = torch.arange(2**count)
        for size in range(1, count + 1):
            chosen = own[sizes[: 2**count] == size]
            total[:, r] += table[:, r, chosen].mean(dim=-1) / size
    total = torch.where(world.complete, total, 0)
    return (logprobs.exp() * total).sum(dim=-1).mean()


def diversity(logprobs: Float[Tensor, "Q R"], world: World) -> Float[Tensor, ""]:
    """E[-log(1 + mean similarity to the policy's texts)]: SetPO's, arXiv:2602.01062, Eq. 2."""
    rows = torch.nn.functional.normalize(world.embeddings, dim=-1)
    alike = (rows @ rows.T).clamp(0, 1).fill_diagonal_(1)
    chance = logprobs.exp()
    return -(chance * torch.log1p(chance @ alike)).sum(dim=-1).mean()


OBJECTIVES: Mapping[str, Objective] = {
    "mean reward": mean_reward,
    **{f"best of {count}": best_of(count) for count in BEST_OF},
    "reward + 0.1 entropy": entropy_regularised,
    "log mean reward": log_mean_reward,
    "reward / std": reward_over_std,
    "reward per token": reward_per_token,
    "log best response": best_response,
    "Shapley potential": shapley_mixture,
    "diversity": diversity,
}
"""What a method could be climbing, by the name that tables show."""


def gradient(
    objective: Objective, world: World, parameters: Float[Tensor, " D"]
) -> Float[Tensor, " D"]:
    """The exact gradient of an objective in the policy's parameters."""
    leaf = parameters.detach().requires_grad_()
    value = objective(world.logprobs(leaf).sum(dim=-1), world)
    return torch.autograd.grad(value, leaf)[0]


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """The best that can be done."""

    reward: Float[Tensor, " Q"]
    """Reward of an optimal response: that of the optimal policy."""
    chance: Float[Tensor, " Q"]
    """Probability with which the policy writes an optimal response now."""
    regularised: Float[Tensor, "Q R"]
    """The policy that maximises reward + 0.1 entropy, proportional to exp(R / 0.1)."""


def optimum(world: World) -> Optimum:
    """Optimal policies of a world, by looking at every response."""
    best = world.rewards.amax(dim=-1)
    with torch.no_grad():
        chance = world.logprobs(world.parameters).sum(dim=-1).exp()
    optimal = world.rewards == best.unsqueeze(-1)
    return Optimum(
        reward=best,
        chance=torch.where(optimal, chance, 0).sum(dim=-1),
        regularised=(world.rewards / TEMPERATURE).softmax(dim=-1),
    )


def action_advantages(world: World, parameters: Float[Tensor, " D"]) -> Float[Tensor, "Q R T"]:
    """Q(state, token) - V(state): what choosing each token was worth, the future as it may come."""
    tree = world.tree
    with torch.no_grad():
        logprobs = world.logprobs(parameters)
    chance = logprobs.sum(dim=-1).exp()
    shape = (world.questions, len(tree.prefixes), tree.allowed.shape[1])
    mass, earned = torch.zeros(shape).to(chance), torch.zeros(shape).to(chance)
    cell = tree.states * shape[2] + tree.tokens
    for place in range(cell.shape[1]):
        rows = tree.mask[:, place]
        mass.flatten(1).index_add_(1, cell[rows, place], chance[:, rows])
        earned.flatten(1).index_add_(1, cell[rows, place], (chance * world.rewards)[:, rows])
    action = earned / mass.clamp(min=torch.finfo(mass.dtype).tiny)
    state = earned.sum(dim=-1, keepdim=True) / mass.sum(dim=-1, keepdim=True)
    return torch.where(tree.mask, (action - state)[:, tree.states, tree.tokens], 0)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Values of each response's words in its own game, in reward units; 0 where there is none."""

    shapley: Float[Tensor, "Q R M"]
    owen: Float[Tensor, "Q R M"]
    """Words two by two are unions."""
    myerson: Float[Tensor, "Q R M"]
    """Only neighbours cooperate."""
    leave_one_out: Float[Tensor, "Q R M"]


def truth(world: World) -> Truth:
    """The four values, from their definitions: mean marginals over the orders that each allows."""
    table = world.values[:, world.tree.kept]
    count = world.tree.longest
    orders = list(permutations(range(count)))
    kept = [order for order in orders if _unbroken([player // 2 for player in order])]
    everyone = table.shape[-1] - 1
    without = [table[..., everyone] - table[..., everyone & ~(1 << m)] for m in range(count)]
    return Truth(
        shapley=_mean_marginals(table, orders),
        owen=_mean_marginals(table, kept),
        myerson=_mean_marginals(_of_runs(table, count), orders),
        leave_one_out=torch.stack(without, dim=-1),
    )


def _mean_marginals(
    table: Float[Tensor, "Q R C"], orders: list[tuple[int, ...]]
) -> Float[Tensor, "Q R M"]:
    """Mean marginal contribution of each player, over orders of joining."""
    total = table.new_zeros((*table.shape[:-1], len(orders[0])))
    for order in orders:
        coalition = 0
        for player in order:
            grown = coalition | 1 << player
            total[..., player] += table[..., grown] - table[..., coalition]
            coalition = grown
    return total / len(orders)


def _unbroken(unions: list[int]) -> bool:
    """No union is left and come back to."""
    return sum(a != b for a, b in pairwise(unions)) + 1 == len(set(unions))


def _of_runs(table: Float[Tensor, "Q R C"], count: int) -> Float[Tensor, "Q R C"]:
    """The game in which a coalition earns what its runs of neighbours earn."""
    parts = torch.zeros_like(table)
    for coalition in range(table.shape[-1]):
        run = 0
        for player in range(count + 1):
            if player < count and coalition >> player & 1:
                run |= 1 << player
            elif run:
                parts[..., coalition] += table[..., run]
                run = 0
    return parts
