"""Coalition plans: which coalitions of a response's players get a reward.

A membership matrix is Bool[C, n]: row 0 is the empty coalition, row 1 everyone, and no row repeats.
Without players the two are the same, and row 0 is the only one.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

MAX_PLAYERS = 10
"""The most players whose 2^n coalitions are evaluated."""


def windows(n: int, max_width: int | None = None) -> Bool[Tensor, "C M"]:
    """Runs of neighbouring players up to a width, with the empty coalition and everyone.

    C_w = {empty, N} and all {a..b} with b - a < w      OSPO, arXiv:2601.08403 (its released code)

    Args:
        n: Number of players.
        max_width: The widest window besides everyone; None: any width.

    Returns:
        1 + n(n+1)/2 rows for any width, fewer for a smaller one.

    Raises:
        ValueError: If ``max_width`` is below 1.
    """
    if max_width is not None and max_width < 1:
        raise ValueError(f"max_width is {max_width}; a window holds at least 1 segment")
    width = n - 1 if max_width is None else min(max_width, n - 1)
    players = torch.arange(n)
    starts, ends = torch.meshgrid(players, players, indexing="ij")
    kept = (starts <= ends) & (ends - starts < width)
    starts, ends = starts[kept].unsqueeze(1), ends[kept].unsqueeze(1)
    return _with_extremes((starts <= players) & (players <= ends))


def prefixes(n: int) -> Bool[Tensor, "C M"]:
    """The first 1, 2, ..., n - 1 players, with the empty coalition and everyone (standard).

    Args:
        n: Number of players.

    Returns:
        n + 1 rows.
    """
    players = torch.arange(n)
    return _with_extremes(players < torch.arange(1, max(n, 1)).unsqueeze(1))


def leave_one_out(n: int) -> Bool[Tensor, "C M"]:
    """Everyone but one, for each, with the empty coalition and everyone (standard).

    Args:
        n: Number of players.

    Returns:
        n + 2 rows; 2 for a single player, whose absence is the empty coalition.
    """
    rows = ~torch.eye(n, dtype=torch.bool)
    return _with_extremes(rows if n > 1 else rows[:0])


def subsets(n: int) -> Bool[Tensor, "C M"]:
    """All coalitions (standard).

    Args:
        n: Number of players, at most 10.

    Returns:
        2^n rows: after the empty coalition and everyone, in the order of their bit patterns.

    Raises:
        ValueError: If there are more players than that.
    """
    if n > MAX_PLAYERS:
        raise ValueError(
            f"a response of {n} segments has 2^{n} coalitions; exact Shapley and Owen values "
            f"are for at most {MAX_PLAYERS} segments: use estimator/value=myerson"
        )
    patterns = torch.arange(1, max(2**n - 1, 1)).unsqueeze(1)
    return _with_extremes((patterns >> torch.arange(n)) & 1 == 1)


def sample(
    members: Bool[Tensor, "C M"], budget: int, generator: torch.Generator
) -> Bool[Tensor, "D M"]:
    """The first two rows and a random choice of the others, in their order (standard).

    Args:
        members: Coalitions; rows 0 and 1 are always kept.
        budget: Number of rows to return; fewer come back where there are fewer.
        generator: Source of the choice, which is uniform without replacement.

    Returns:
        ``members`` itself if it is within the budget.

    Raises:
        ValueError: If the budget is below 2.
    """
    if budget < 2:
        raise ValueError(
            f"the coalition budget is {budget}; the empty coalition and everyone are always "
            "evaluated, so use 2 or more"
        )
    if members.shape[0] <= budget:
        return members
    drawn = torch.randperm(members.shape[0] - 2, generator=generator)[: budget - 2] + 2
    return torch.cat([members[:2], members[drawn.sort().values]])


def _with_extremes(rows: Bool[Tensor, "C M"]) -> Bool[Tensor, "D M"]:
    """The empty coalition and everyone, once each, in front of other coalitions."""
    num_players = rows.shape[1]
    empty = torch.zeros(1, num_players, dtype=torch.bool)
    return torch.cat([empty, ~empty, rows]) if num_players else empty


@dataclass(frozen=True, kw_only=True)
class Windows:
    """All windows up to a width; a sample of them where they are more than the budget."""

    max_width: int | None = None
    budget: int = 96

    def __post_init__(self) -> None:
        """Refuse what no response could be scored with."""
        windows(1, self.max_width)
        sample(windows(1), self.budget, torch.Generator())

    def __call__(self, num_players: int, generator: torch.Generator) -> Bool[Tensor, "C M"]:
        """List windows [C, M] up to the width, the empty coalition and everyone first."""
        return sample(windows(num_players, self.max_width), self.budget, generator)

    def is_sampled(self, num_players: int) -> bool:
        """True where the windows are more than the budget."""
        return windows(num_players, self.max_width).shape[0] > self.budget


@dataclass(frozen=True, kw_only=True)
class Prefixes:
    """The text before each segment: n + 1 coalitions, never sampled."""

    def __call__(self, num_players: int, generator: torch.Generator) -> Bool[Tensor, "C M"]:
        """List the empty coalition, everyone and every shorter prefix, [n + 1, M]."""
        return prefixes(num_players)

    def is_sampled(self, num_players: int) -> bool:
        """False: every prefix is listed."""
        return False


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut:
    """The text without each segment: n + 2 coalitions, never sampled."""

    def __call__(self, num_players: int, generator: torch.Generator) -> Bool[Tensor, "C M"]:
        """List the empty coalition, everyone and everyone but each one, [n + 2, M]."""
        return leave_one_out(num_players)

    def is_sampled(self, num_players: int) -> bool:
        """False: every one of them is listed."""
        return False


@dataclass(frozen=True, kw_only=True)
class Subsets:
    """All 2^n coalitions, never sampled; a response of more than 10 segments is refused."""

    def __call__(self, num_players: int, generator: torch.Generator) -> Bool[Tensor, "C M"]:
        """List all 2^n coalitions, [2^n, M]; ValueError above 10 players."""
        return subsets(num_players)

    def is_sampled(self, num_players: int) -> bool:
        """False: every coalition is listed."""
        return False


@dataclass(frozen=True, kw_only=True)
class Whole:
    """The empty coalition and everyone: what is known without a further reward."""

    def __call__(self, num_players: int, generator: torch.Generator) -> Bool[Tensor, "C M"]:
        """List the empty coalition and everyone, [2, M]."""
        return prefixes(num_players)[:2]

    def is_sampled(self, num_players: int) -> bool:
        """False: both are listed."""
        return False
