"""Utilities of a set of candidates: what it earns, and each candidate's Shapley value."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlcredit.credit.masked import full_precision, masked_sum
from rlcredit.credit.shapley import (
    shapley_of_any,
    shapley_of_coverage,
    shapley_of_max,
    shapley_of_top,
)
from rlcredit.estimators.base import SetUtility
from rlcredit.types import CandidateRewards


@dataclass(frozen=True, kw_only=True)
class Max(SetUtility):
    """The best candidate's reward: the user picks one."""

    def __call__(
        self, candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
    ) -> Float[Tensor, "P G"]:
        """Give the best reward of each set; 0 for an empty one."""
        best = torch.where(mask, full_precision(candidates.rewards), -torch.inf).amax(dim=-1)
        return torch.where(mask.any(dim=-1), best, 0)

    def shapley(
        self, candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
    ) -> Float[Tensor, "P G K"]:
        """Give each candidate its Shapley value in the game of the maximum."""
        return shapley_of_max(candidates.rewards, mask)


@dataclass(frozen=True, kw_only=True)
class Top(SetUtility):
    """The sum of the m best candidates' rewards: the user picks m. A copy is paid once."""

    m: int = 2
    """Candidates that the user picks."""

    def __post_init__(self) -> None:
        """Refuse to pick nothing."""
        if self.m < 1:
            raise ValueError(f"m is {self.m}; the user picks 1 candidate or more")

    def __call__(
        self, candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
    ) -> Float[Tensor, "P G"]:
        """Give the sum of each set's m best rewards, copies left out."""
        rewards = torch.where(
            _paid(candidates, mask), full_precision(candidates.rewards), -torch.inf
        )
        best = rewards.sort(dim=-1, descending=True).values[..., : self.m]
        return masked_sum(best, best > -torch.inf)

    def shapley(
        self, candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
    ) -> Float[Tensor, "P G K"]:
        """Give each candidate its Shapley value in the game of the m best; 0 to a copy."""
        return shapley_of_top(candidates.rewards, m=self.m, mask=_paid(candidates, mask))


@dataclass(frozen=True, kw_only=True)
class AnySuccess(SetUtility):
    """The chance that a candidate succeeds; rewards are independent probabilities."""

    def __call__(
        self, candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
    ) -> Float[Tensor, "P G"]:
        """Give 1 - prod (1 - r) over the candidates of each set."""
        fails = 1 - torch.where(mask, full_precision(candidates.rewards), 0)
        return 1 - fails.sort(dim=-1).values.prod(dim=-1)

    def shapley(
        self, candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
    ) -> Float[Tensor, "P G K"]:
        """Give each candidate its Shapley value in the game of at least one success."""
        return shapley_of_any(candidates.rewards, mask)


@dataclass(frozen=True, kw_only=True)
class Coverage(SetUtility):
    """The number of elements (say, relevant documents) that one candidate at least covers."""

    reads_covers = True

    def __call__(
        self, candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
    ) -> Float[Tensor, "P G"]:
        """Count the elements that the union of a set's candidates covers."""
        covered = (_covers(candidates) & mask.unsqueeze(-1)).any(dim=-2)
        return covered.sum(dim=-1).to(full_precision(candidates.rewards))

    def shapley(
        self, candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
    ) -> Float[Tensor, "P G K"]:
        """Give each candidate, for every element it covers, 1 / (how many of the set cover it)."""
        covers = _covers(candidates)
        ones = torch.ones_like(covers[..., 0, :], dtype=full_precision(candidates.rewards).dtype)
        return shapley_of_coverage(covers & mask.unsqueeze(-1), ones)


@dataclass(frozen=True, kw_only=True)
class Sum(SetUtility):
    """The sum of the candidates' rewards; each earns its own, a copy of another nothing."""

    def __call__(
        self, candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
    ) -> Float[Tensor, "P G"]:
        """Give the sum of each set's rewards, copies left out."""
        return (
            torch.where(_paid(candidates, mask), full_precision(candidates.rewards), 0)
            .sort()
            .values.sum(dim=-1)
        )

    def shapley(
        self, candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
    ) -> Float[Tensor, "P G K"]:
        """Give each candidate its own reward, which is its Shapley value here; 0 to a copy."""
        return torch.where(_paid(candidates, mask), full_precision(candidates.rewards), 0)


def _paid(candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]) -> Bool[Tensor, "P G K"]:
    """The first of equal candidates: a utility that adds rewards up would pay for each copy."""
    return mask if candidates.first is None else mask & candidates.first


def _covers(candidates: CandidateRewards) -> Bool[Tensor, "P G K E"]:
    """What each candidate covers, or the reason why it is not known."""
    if candidates.covers is None:
        raise ValueError(
            "utility=coverage needs candidates.covers, which is None; use utility=max, or a "
            "scorer that says what each candidate covers"
        )
    return candidates.covers
