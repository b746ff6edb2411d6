"""Constructions: from the credit of tokens, in reward units, to their advantages.

Credit is standardised within the response, over the tokens of its segments:

    z_t = (c_t - mean c) / (std c + 1e-6)      population std; z = 0 if max c - min c < 1e-9

so long segments weigh by their tokens. Tokens outside the segments (separators, end of sequence,
text that is not scored) keep the rollout's advantage.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlcredit.credit.masked import masked_mean, masked_std
from rlcredit.estimators.base import Centring

STD_EPS = 1e-6
SMALLEST_RANGE = 1e-9


def standardised(
    credit: Float[Tensor, "P G T"], scored: Bool[Tensor, "P G T"]
) -> Float[Tensor, "P G T"]:
    """Credit less its mean, over its population std, within each response; 0 outside segments."""
    centred = credit - masked_mean(credit, scored, keepdim=True)
    std = masked_std(credit, scored, keepdim=True)
    highest = torch.where(scored, credit, -torch.inf).amax(dim=-1, keepdim=True)
    lowest = torch.where(scored, credit, torch.inf).amin(dim=-1, keepdim=True)
    varies = highest - lowest >= SMALLEST_RANGE
    return torch.where(scored & varies, centred / (std + STD_EPS), 0)


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """The advantage times a weight whose mean over the segments' tokens is 1.

    w_t = max(floor, 1 + strength * z_t) / mean, with the sign of z turned where A < 0 and
    ``flip_on_negative``: then the worst segment of a bad response is blamed most, not the best.
    """

    strength: float = 0.5
    """Change of the weight per standard deviation of credit."""
    floor: float = 0.1
    """Smallest weight before the mean is set to 1; positive."""
    flip_on_negative: bool = True

    def __post_init__(self) -> None:
        """Refuse weights whose mean could be zero."""
        if self.floor <= 0:
            raise ValueError(f"floor is {self.floor}; weights must stay positive: use 0.1")

    @property
    def centring(self) -> Centring:
        """The weights' mean over the response is 1."""
        return Centring.response

    def __call__(
        self,
        credit: Float[Tensor, "P G T"],
        *,
        advantages: Float[Tensor, "P G"],
        rewards: Float[Tensor, "P G"],
        scored: Bool[Tensor, "P G T"],
        response_mask: Bool[Tensor, "P G T"],
    ) -> Float[Tensor, "P G T"]:
        """See :class:`rlcredit.estimators.ospo.Construction`."""
        advantage = advantages.unsqueeze(-1)
        turned = (advantage < 0) & self.flip_on_negative
        z = standardised(credit, scored)
        weights = (1 + self.strength * torch.where(turned, -z, z)).clamp(min=self.floor)
        weights = torch.where(scored, weights, 1)
        mean = masked_mean(weights, scored, keepdim=True)
        return advantage * torch.where(scored, weights / torch.where(mean > 0, mean, 1), 1)


@dataclass(frozen=True, kw_only=True)
class Additive:
    """The advantage plus standardised credit, which sums to zero over the segments' tokens.

    A_t = A + strength * z_t
    """

    strength: float = 1.0
    """Advantage per standard deviation of credit."""

    @property
    def centring(self) -> Centring:
        """The additions sum to zero over the response."""
        return Centring.response

    def __call__(
        self,
        credit: Float[Tensor, "P G T"],
        *,
        advantages: Float[Tensor, "P G"],
        rewards: Float[Tensor, "P G"],
        scored: Bool[Tensor, "P G T"],
        response_mask: Bool[Tensor, "P G T"],
    ) -> Float[Tensor, "P G T"]:
        """See :class:`rlcredit.estimators.ospo.Construction`."""
        return advantages.unsqueeze(-1) + self.strength * standardised(credit, scored)
