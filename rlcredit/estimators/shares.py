"""Shares: how a set's utility is divided among its candidates, by ShapE and its control arms."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlcredit.credit.masked import full_precision
from rlcredit.credit.rounding import tolerance
from rlcredit.estimators.base import SetUtility, Share
from rlcredit.types import CandidateRewards


@dataclass(frozen=True, kw_only=True)
class ShapleyShare(Share):
    """Each candidate's mean marginal contribution; the shares sum to the set's utility."""

    def __call__(
        self, utility: SetUtility, candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
    ) -> Float[Tensor, "P G K"]:
        """Give each candidate its Shapley value under the utility."""
        return utility.shapley(candidates, mask)


@dataclass(frozen=True, kw_only=True)
class WinnerShare(Share):
    """The best candidate earns the set's utility; candidates that are equally good share it."""

    def __call__(
        self, utility: SetUtility, candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
    ) -> Float[Tensor, "P G K"]:
        """Split the set's utility evenly among its best candidates."""
        rewards = torch.where(mask, full_precision(candidates.rewards), -torch.inf)
        within = tolerance(torch.where(mask, candidates.rewards, 0)).unsqueeze(-1)
        winners = mask & (rewards >= rewards.amax(dim=-1, keepdim=True) - within)
        whole = utility(candidates, mask).unsqueeze(-1)
        return torch.where(winners, whole / winners.sum(dim=-1, keepdim=True).clamp(min=1), 0)


@dataclass(frozen=True, kw_only=True)
class LeaveOneOutShare(Share):
    """What the set's utility loses without the candidate."""

    def __call__(
        self, utility: SetUtility, candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
    ) -> Float[Tensor, "P G K"]:
        """Give each candidate v(set) - v(set without it)."""
        whole = utility(candidates, mask)
        columns = torch.arange(mask.shape[-1], device=mask.device)
        left = [utility(candidates, mask & (columns != k)) for k in columns]
        return torch.where(mask, whole.unsqueeze(-1) - torch.stack(left, dim=-1), 0)
