"""Values of segments: how much of the reward each player of a response's game is credited with.

A value gets a compact game (players in the first columns, in text order) and returns credit in
reward units in the same columns. It says which coalitions it needs, and nothing about tokens.
"""

from abc import ABC
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from rlcredit.credit import coalitions
from rlcredit.credit.games import subset_table, window_table, without_each
from rlcredit.credit.owen import owen_value, path_myerson_value, window_value
from rlcredit.credit.shapley import shapley_value
from rlcredit.estimators.base import SegmentValue
from rlcredit.types import CoalitionGame, CoalitionPlan, Randomness


@dataclass(frozen=True, kw_only=True)
class Myerson(SegmentValue):
    """Myerson value of the path of segments: only neighbours can cooperate; efficient.

    It needs every window, n(n+1)/2 of them. Where that is more than the budget, a sample is
    evaluated, and the response's credit is the self-normalised window value instead.
    """

    numerics: ClassVar[int] = 2  # since then credits that differ by rounding alone are one

    budget: int = 96
    """The most coalitions evaluated per response."""

    @property
    def plan(self) -> CoalitionPlan:
        """Windows of any width."""
        return coalitions.Windows(budget=self.budget)

    def __call__(
        self, game: CoalitionGame, *, randomness: Randomness | None
    ) -> Float[Tensor, "P G M"]:
        """Credit each player with its Myerson value, or an estimate where windows were sampled."""
        table, known = window_table(game.members, game.rewards, game.evaluated)
        num_players = game.players.sum(dim=-1)
        exact = path_myerson_value(table, num_players=num_players)
        if not bool(game.sampled.any()):
            return exact
        estimate = window_value(
            table,
            max_width=max(table.shape[-1], 1),
            normalise=True,
            evaluated=known,
            num_players=num_players,
        )
        return torch.where(game.sampled.unsqueeze(-1), estimate, exact)


@dataclass(frozen=True, kw_only=True)
class _WindowValue(SegmentValue, ABC):
    """OSPO's window estimator of the Shapley value; see :func:`rlcredit.credit.owen.window_value`.

    Windows of up to ``max_width`` segments, and everyone, stand for the coalitions of the game.
    """

    numerics: ClassVar[int] = 2  # since then credits that differ by rounding alone are one
    normalises: ClassVar[bool]
    """Whether each player's weights sum to 1 over the pairs evaluated."""

    max_width: int = 8
    """The widest window, in segments."""
    budget: int = 96
    """The most coalitions evaluated per response."""

    @property
    def plan(self) -> CoalitionPlan:
        """Windows up to a width."""
        return coalitions.Windows(max_width=self.max_width, budget=self.budget)

    def __call__(
        self, game: CoalitionGame, *, randomness: Randomness | None
    ) -> Float[Tensor, "P G M"]:
        """Credit each player with the weighted sum of its marginals over windows."""
        table, known = window_table(game.members, game.rewards, game.evaluated)
        return window_value(
            table,
            max_width=self.max_width,
            normalise=self.normalises,
            evaluated=known,
            num_players=game.players.sum(dim=-1),
        )


@dataclass(frozen=True, kw_only=True)
class SelfNormalised(_WindowValue):
    """OSPO's window estimator, with weights that sum to 1 over the pairs evaluated."""

    normalises = True


@dataclass(frozen=True, kw_only=True)
class Released(_WindowValue):
    """OSPO's window estimator as its code was released: pairs that were not evaluated are dropped.

    Neither efficient nor symmetric: equal segments earn more or less by where they stand.
    """

    normalises = False


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut(SegmentValue):
    """What the reward loses without the segment: v(N) - v(N without i); n + 1 evaluations."""

    @property
    def plan(self) -> CoalitionPlan:
        """Everyone but one, for each."""
        return coalitions.LeaveOneOut()

    def __call__(
        self, game: CoalitionGame, *, randomness: Randomness | None
    ) -> Float[Tensor, "P G M"]:
        """Credit each player with v(N) - v(N without it)."""
        num_players = game.players.sum(dim=-1)
        without = without_each(game.members, game.rewards, game.evaluated, num_players)
        everyone = (game.members == game.players.unsqueeze(-2)).all(dim=-1) & game.evaluated
        whole = torch.where(everyone, game.rewards, 0).sum(dim=-1, keepdim=True)
        return torch.where(game.players, whole - without, 0)


@dataclass(frozen=True, kw_only=True)
class Random(SegmentValue):
    """Standard normal credit, whatever the text: the negative control."""

    @property
    def plan(self) -> CoalitionPlan:
        """Nothing beyond the reward itself."""
        return coalitions.Whole()

    def __call__(
        self, game: CoalitionGame, *, randomness: Randomness | None
    ) -> Float[Tensor, "P G M"]:
        """Credit each player with a standard normal number."""
        if randomness is None:
            raise ValueError("random credit needs signals.randomness, the run's seed and step")
        generator = randomness.generator("random_credit")
        drawn = torch.randn(game.players.shape, generator=generator, dtype=torch.float64)
        return torch.where(game.players, drawn.to(game.rewards), 0)


@dataclass(frozen=True, kw_only=True)
class Shuffled(SegmentValue):
    """Another value's credit, dealt out anew among the players of each response: a control.

    The amounts, their spread and their signs stay as they are, and so does what they cost; only
    whose they are is left to chance. What this arm gains is not gained by knowing who earned what.
    """

    base: SegmentValue
    """Whose credit is dealt out."""

    @property
    def plan(self) -> CoalitionPlan:
        """Those of the base."""
        return self.base.plan

    def __call__(
        self, game: CoalitionGame, *, randomness: Randomness | None
    ) -> Float[Tensor, "P G M"]:
        """Permute the base's credit among the players of each response."""
        if randomness is None:
            raise ValueError("shuffled credit needs signals.randomness, the run's seed and step")
        credit = self.base(game, randomness=randomness)
        generator = randomness.generator("shuffled_credit")
        drawn = torch.rand(game.players.shape, generator=generator, dtype=torch.float64)
        order = drawn.to(credit.device).masked_fill(~game.players, 2).argsort(dim=-1)
        return torch.where(game.players, credit.gather(-1, order), 0)


@dataclass(frozen=True, kw_only=True)
class Shapley(SegmentValue):
    """Shapley value of the game of all 2^n coalitions; n <= 10."""

    numerics: ClassVar[int] = 2  # since then credits that differ by rounding alone are one

    @property
    def plan(self) -> CoalitionPlan:
        """All subsets."""
        return coalitions.Subsets()

    def __call__(
        self, game: CoalitionGame, *, randomness: Randomness | None
    ) -> Float[Tensor, "P G M"]:
        """Credit each player with its mean marginal contribution over all orders."""
        most, table = _subset_table(game)
        credit = shapley_value(table, num_players=game.players.sum(dim=-1))
        return pad(credit, (0, game.players.shape[-1] - most))


@dataclass(frozen=True, kw_only=True)
class Owen(SegmentValue):
    """Owen value of the game of all 2^n coalitions, with sentences as unions; n <= 10.

    A list of phrases without sentences is one union, and then this is the Shapley value.
    """

    numerics: ClassVar[int] = 2  # since then credits that differ by rounding alone are one

    @property
    def plan(self) -> CoalitionPlan:
        """All subsets."""
        return coalitions.Subsets()

    def __call__(
        self, game: CoalitionGame, *, randomness: Randomness | None
    ) -> Float[Tensor, "P G M"]:
        """Credit each player with its mean marginal over orders that keep sentences together."""
        most, table = _subset_table(game)
        unions = torch.zeros_like(game.players, dtype=torch.long)
        if game.unions is not None:
            unions = game.unions
        credit = owen_value(table, unions=unions[..., :most], num_players=game.players.sum(dim=-1))
        return pad(credit, (0, game.players.shape[-1] - most))


def _subset_table(game: CoalitionGame) -> tuple[int, Float[Tensor, "P G S"]]:
    """The most players of any response, and the tables of as many."""
    most = int(game.players.sum(dim=-1).max()) if game.players.numel() else 0
    return most, subset_table(game.members[..., :most], game.rewards, game.evaluated)
