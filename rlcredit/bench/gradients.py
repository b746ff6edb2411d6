"""What an estimator and a loss make of sampled groups: a gradient for each replicate.

A call holds all replicates as prompts of one batch, so denominators over a batch (tokens of the
update, a std over its rollouts) are those of a large batch, and their own noise is not measured.
A replicate is one group for each of the world's questions.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

from rlcredit.bench.draw import Draw
from rlcredit.bench.exact import action_advantages, gradient, mean_reward
from rlcredit.bench.policies import action_logprobs
from rlcredit.bench.worlds import World
from rlcredit.credit.entropy import entropy_ranks
from rlcredit.credit.spread import spread_rollout
from rlcredit.losses.base import PolicyLoss
from rlcredit.types import UpdateBatch

SMALL = 1e-4
"""Advantages so small that every loss is linear in them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """A draw from one policy, and the policy whose gradient is asked for."""

    draw: Draw
    sampler: Float[Tensor, " D"]
    parameters: Float[Tensor, " D"]
    """The same, or a policy that has moved on since it sampled."""

    @property
    def world(self) -> World:
        """The world whose gradients are taken."""
        return self.draw.world

    @cached_property
    def target(self) -> NDArray[np.float64]:
        """The exact gradient of the mean reward, [D]."""
        return gradient(mean_reward, self.world, self.parameters).numpy()

    @cached_property
    def _logprobs(self) -> tuple[Float[Tensor, "P G T"], Float[Tensor, "P G T"]]:
        """Log-probabilities of the drawn tokens, now and when they were sampled."""
        with torch.no_grad():
            now, then = (
                self.draw.of_responses(self.world.logprobs(p))
                for p in (self.parameters, self.sampler)
            )
        return now, then

    @cached_property
    def _entropy_rank(self) -> Float[Tensor, "P G T"]:
        """The drawn tokens by the entropy of the policy as it is now."""
        world, tree = self.world, self.world.tree
        with torch.no_grad():
            table = action_logprobs(world.policy, self.parameters, tree, world.questions).exp()
        entropy = torch.special.entr(table).sum(dim=-1)[:, tree.states]
        return entropy_ranks(self.draw.of_responses(entropy), self.draw.response_mask)

    @cached_property
    def _scores(self) -> list[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        """For each question, the parameters that matter to it and each token's score in these."""
        found = []
        for table in self.world.scores(self.parameters).flatten(1, 2).numpy():
            columns = np.flatnonzero(table.any(axis=0))
            found.append((columns, np.ascontiguousarray(table[:, columns])))
        return found

    def gradients(
        self, loss: PolicyLoss, advantages: Float[Tensor, "P G T"]
    ) -> NDArray[np.float64]:
        """What descending the loss does, [N, D]: one row per replicate, whose mean is the update.

        Raises:
            ValueError: If the loss refuses the advantages.
        """
        now, then = self._logprobs
        mask = self.draw.response_mask
        leaf = now.detach().clone().requires_grad_()
        batch = UpdateBatch(
            advantages=advantages,
            response_mask=mask,
            old_logprobs=then,
            rollout_logprobs=then,
            ref_logprobs=then if loss.needs.ref_logprobs else None,
            entropy_rank=self._entropy_rank if loss.needs.entropy_rank else None,
            num_tokens=int(mask.sum()),
            num_rollouts=mask.shape[0] * mask.shape[1],
            num_prompts=mask.shape[0],
        )
        (weights,) = torch.autograd.grad(loss(leaf, batch).value, leaf)
        return self.summed(-weights)

    def summed(self, weights: Float[Tensor, "P G T"]) -> NDArray[np.float64]:
        """Sum over tokens of weight times score, per replicate, times their number: [N, D]."""
        questions, tokens = self.world.questions, weights.shape[-1]
        replicates = len(weights) // questions
        total = np.zeros((replicates, len(self.parameters)))
        cells = self.draw.picks.unsqueeze(-1) * tokens + torch.arange(tokens)
        starts = np.arange(replicates + 1) * weights[0].numel()
        for question, (columns, scores) in enumerate(self._scores):
            rows = slice(question * replicates, (question + 1) * replicates)
            table = csr_matrix(
                (weights[rows].flatten().numpy(), cells[rows].flatten().numpy(), starts),
                shape=(replicates, len(scores)),
            )
            total[:, columns] += table @ scores
        return total * replicates

    @cached_property
    def _exact_advantages(self) -> Float[Tensor, "P G"]:
        """Reward less the question's mean reward under the policy, both without noise."""
        with torch.no_grad():
            chance = self.world.logprobs(self.parameters).sum(dim=-1).exp()
        mean = (chance * self.world.rewards).sum(dim=-1, keepdim=True)
        return self.draw.of_responses(self.world.rewards - mean)

    def unit(self, loss: PolicyLoss) -> float:
        """How long a loss's gradient is, from what it makes of small exact advantages.

        Losses divide by lengths, groups or constants, which a learning rate takes up; so their
        gradients are compared in units of s = <g, true> / <h, true>, where h is the plain policy
        gradient of the same draws and advantages. Derived here: where a loss weighs all tokens
        alike, g = s h exactly. The sign is kept out, so that a loss that descends is seen to.
        """
        advantages = spread_rollout(self._exact_advantages, self.draw.response_mask)
        found = self.gradients(loss, SMALL * advantages) / SMALL
        unit = abs(found.mean(axis=0) @ self.target / (self.plain.mean(axis=0) @ self.target))
        return float(unit) if unit > np.finfo(np.float64).tiny else 1.0

    @cached_property
    def plain(self) -> NDArray[np.float64]:
        """The plain policy gradient with exact advantages, [N, D]: its mean is the target's."""
        advantages = spread_rollout(self._exact_advantages, self.draw.response_mask)
        return self.summed(advantages / self.draw.picks.numel())

    @cached_property
    def action_advantages(self) -> Float[Tensor, "P G T"]:
        """What choosing each token was worth."""
        return self.draw.of_responses(action_advantages(self.world, self.parameters))


def moved(world: World, *, drift: float) -> Float[Tensor, " D"]:
    """The policy after a step up the true gradient, so long that tokens' log-probs move by drift.

    Root mean square over tokens as they are drawn, to first order, in nats.
    """
    parameters = world.parameters
    step = gradient(mean_reward, world, parameters)
    change = world.scores(parameters) @ step
    with torch.no_grad():
        chance = world.logprobs(parameters).sum(dim=-1).exp().unsqueeze(-1)
    tokens = chance * world.tree.mask
    size = ((tokens * change.square()).sum() / tokens.sum()).sqrt()
    return parameters + drift * step / size
