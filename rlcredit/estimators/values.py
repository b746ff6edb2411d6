"""Values of segments: how much of the reward each player of a response's game is credited with.

A value gets a compact game (players in the first columns, in text order) and returns credit in
reward units in the same columns. It says which coalitions it needs, and nothing about tokens.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.credit import coalitions
from rlcredit.credit.games import window_table, without_each
from rlcredit.credit.owen import path_myerson_value, window_value
from rlcredit.types import CoalitionGame, CoalitionPlan, Randomness


@dataclass(frozen=True, kw_only=True)
class Myerson:
    """Myerson value of the path of segments: only neighbours can cooperate; efficient.

    It needs every window, n(n+1)/2 of them. Where that is more than the budget, a sample is
    evaluated, and the response's credit is the self-normalised window value instead.
    """

    budget: int = 96
    """The most coalitions evaluated per response."""

    @property
    def plan(self) -> CoalitionPlan:
        """Windows of any width."""
        return coalitions.Windows(budget=self.budget)

    def __call__(
        self, game: CoalitionGame, *, randomness: Randomness | None
    ) -> Float[Tensor, "P G M"]:
        """See :class:`rlcredit.estimators.ospo.SegmentValue`."""
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
class SelfNormalised:
    """OSPO's window estimator, with weights that sum to 1 over the pairs evaluated."""

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
        """See :class:`rlcredit.estimators.ospo.SegmentValue`."""
        table, known = window_table(game.members, game.rewards, game.evaluated)
        return window_value(
            table,
            max_width=self.max_width,
            normalise=True,
            evaluated=known,
            num_players=game.players.sum(dim=-1),
        )


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut:
    """What the reward loses without the segment: v(N) - v(N without i); n + 1 evaluations."""

    @property
    def plan(self) -> CoalitionPlan:
        """Everyone but one, for each."""
        return coalitions.LeaveOneOut()

    def __call__(
        self, game: CoalitionGame, *, randomness: Randomness | None
    ) -> Float[Tensor, "P G M"]:
        """See :class:`rlcredit.estimators.ospo.SegmentValue`."""
        num_players = game.players.sum(dim=-1)
        without = without_each(game.members, game.rewards, game.evaluated, num_players)
        everyone = (game.members == game.players.unsqueeze(-2)).all(dim=-1) & game.evaluated
        whole = torch.where(everyone, game.rewards, 0).sum(dim=-1, keepdim=True)
        return torch.where(game.players, whole - without, 0)


@dataclass(frozen=True, kw_only=True)
class Random:
    """Standard normal credit, whatever the text: the negative control."""

    @property
    def plan(self) -> CoalitionPlan:
        """Nothing beyond the reward itself."""
        return coalitions.Whole()

    def __call__(
        self, game: CoalitionGame, *, randomness: Randomness | None
    ) -> Float[Tensor, "P G M"]:
        """See :class:`rlcredit.estimators.ospo.SegmentValue`."""
        if randomness is None:
            raise ValueError("random credit needs signals.randomness, the run's seed and step")
        generator = randomness.generator("random_credit")
        drawn = torch.randn(game.players.shape, generator=generator, dtype=torch.float64)
        return torch.where(game.players, drawn.to(game.rewards), 0)
