"""What becomes of bandits that are trained with a method: how sure to be right, in how many ways.

SetPO's and LPO's toy (arXiv:2602.01062, figure 1; arXiv:2605.06139): 12 arms, the first 4 right,
from a uniform policy, each arm with an embedding of its own; and the same with 4 arms that earn a
tenth, as a wrong answer in the right format does. All runs of a method are prompts of one batch,
each with a policy of its own. Several updates a batch, so that losses differ in more than length.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from rlcredit.bench.draw import Draw
from rlcredit.bench.games import Arms
from rlcredit.bench.gradients import SMALL
from rlcredit.bench.policies import Tabular
from rlcredit.bench.tree import Tree
from rlcredit.bench.worlds import World
from rlcredit.credit.entropy import entropy_ranks
from rlcredit.credit.spread import spread_rollout
from rlcredit.estimators.base import AdvantageEstimator
from rlcredit.evaluation.stats import Interval, mean_interval
from rlcredit.losses.base import PolicyLoss
from rlcredit.types import Randomness, UpdateBatch

ARMS, RIGHT = 12, 4
BANDITS: Mapping[str, int] = {"right or wrong": 0, "graded": 4}
"""Name -> how many arms are half right."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How bandits are trained; the same for every method.

    Raises:
        ValueError: If nothing would be trained.
    """

    batches: int = 120
    updates: int = 2
    """Updates on each batch."""
    rate: float = 1.0
    """Step of plain gradient ascent, for a gradient in its loss's unit."""
    runs: int = 16
    """Runs on each bandit."""

    def __post_init__(self) -> None:
        """Check the counts."""
        if min(self.batches, self.updates, self.runs) < 1 or self.rate <= 0:
            raise ValueError(
                f"batches={self.batches}, updates={self.updates}, runs={self.runs} and "
                f"rate={self.rate} must be positive"
            )


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How a method's runs ended on one bandit."""

    right: Interval
    """The chance to pull a right arm."""
    modes: Interval
    """Effective number of right arms: exp of the entropy of the policy among them, 1 to 4."""


def bandits() -> World:
    """The bandits, one question each, with one embedding per arm."""
    return World(
        name="bandits",
        structure=f"{RIGHT} right arms of {ARMS}",
        tree=Tree(words=tuple(f"arm{number:02d}" for number in range(ARMS)), longest=1),
        game=Arms(right=RIGHT, half_right=tuple(BANDITS.values())),
        policy=Tabular(),
        tilts=(0.0,) * len(BANDITS),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Climb:
    """Trains every run of a method, all bandits side by side.

    Raises:
        ValueError: When called: if the method refuses a batch.
    """

    world: World
    training: Training
    group_size: int
    seed: int

    def __call__(self, estimator: AdvantageEstimator, loss: PolicyLoss) -> Mapping[str, Trained]:
        """Bandit -> how its runs ended."""
        logits = torch.zeros(len(self._asked), ARMS, dtype=torch.float64)
        rate = self.training.rate / self._unit(loss, logits)
        for step in range(self.training.batches):
            draw = self._draw(logits, step)
            signals, _ = draw.signals(estimator.needs)
            advantages = estimator(signals).values
            before = logits
            for _ in range(self.training.updates):
                logits = logits - rate * self._slope(loss, advantages, draw.picks, before, logits)
        ended = logits.unflatten(0, (len(BANDITS), -1))
        return {name: trained(rows) for name, rows in zip(BANDITS, ended, strict=True)}

    @property
    def _asked(self) -> Int[Tensor, " P"]:
        return torch.arange(len(BANDITS)).repeat_interleave(self.training.runs)

    def _draw(self, logits: Float[Tensor, "P A"], step: int) -> Draw:
        randomness = Randomness(seed=self.seed, step=step)
        generator = randomness.generator(f"bench {self.world.name}")
        picks = torch.multinomial(
            logits.softmax(-1), self.group_size, replacement=True, generator=generator
        )
        num_others = self.world.tree.allowed.shape[1] - ARMS  # of texts of several words
        return Draw(
            world=self.world,
            randomness=randomness,
            picks=picks,
            asked=self._asked,
            actions=pad(logits.log_softmax(-1), (0, num_others), value=-torch.inf).unsqueeze(1),
        )

    def _slope(
        self,
        loss: PolicyLoss,
        advantages: Float[Tensor, "P G 1"],
        picks: Int[Tensor, "P G"],
        before: Float[Tensor, "P A"],
        now: Float[Tensor, "P A"],
    ) -> Float[Tensor, "P A"]:
        """Gradient of the loss in each run's logits, times the number of runs in the batch."""
        leaf = now.detach().clone().requires_grad_()
        logprobs = leaf.log_softmax(-1).gather(-1, picks).unsqueeze(-1)
        old = before.log_softmax(-1).gather(-1, picks).unsqueeze(-1)
        mask = torch.ones_like(old, dtype=torch.bool)
        entropy = torch.special.entr(now.softmax(-1)).sum(dim=-1)[:, None, None].expand(old.shape)
        batch = UpdateBatch(
            advantages=advantages,
            response_mask=mask,
            old_logprobs=old,
            rollout_logprobs=old,
            ref_logprobs=old if loss.needs.ref_logprobs else None,
            entropy_rank=entropy_ranks(entropy, mask) if loss.needs.entropy_rank else None,
            num_tokens=picks.numel(),
            num_rollouts=picks.numel(),
            num_prompts=len(picks),
        )
        (slope,) = torch.autograd.grad(loss(logprobs, batch).value, leaf)
        return slope * len(picks)

    def _unit(self, loss: PolicyLoss, logits: Float[Tensor, "P A"]) -> float:
        """The length of the loss's gradient (see ``Stage.unit``), from a group of every arm."""
        picks = torch.arange(ARMS).expand(len(logits), -1)
        exact = self.world.rewards[0] - self.world.rewards[0].mean()
        mask = torch.ones(*picks.shape, 1, dtype=torch.bool)
        advantages = spread_rollout(SMALL * exact.expand_as(picks), mask)
        slope = self._slope(loss, advantages, picks, logits, logits)[0] / SMALL
        plain = exact / ARMS
        unit = abs(float(slope @ plain / (plain @ plain)))
        return unit if unit > np.finfo(np.float64).tiny else 1.0


def trained(logits: Float[Tensor, "P A"]) -> Trained:
    """What is read off policies over the arms."""
    chance = logits.softmax(-1)[:, :RIGHT]
    right = chance.sum(dim=-1)
    share = logits[:, :RIGHT].softmax(-1)
    modes = torch.special.entr(share).sum(dim=-1).exp()
    return Trained(right=mean_interval(right.numpy()), modes=mean_interval(modes.numpy()))
