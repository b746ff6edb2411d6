"""Constructions: from the credit of tokens, in reward units, to their advantages.

Credit is standardised within the response, over the tokens of its segments:

    z_t = (c_t - mean c) / (std c + 1e-6)      population std; z = 0 where all credit is equal

so long segments weigh by their tokens. Tokens outside the segments (separators, end of sequence,
text that is not scored) keep the rollout's advantage.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlcredit.credit.masked import masked_mean, masked_std
from rlcredit.estimators.base import Centring, Construction, TokenCredit

STD_EPS = 1e-6
RELEASED_EPS = 1e-4
"""What the released code keeps its denominators above."""


def standardised(
    credit: Float[Tensor, "P G T"], scored: Bool[Tensor, "P G T"]
) -> Float[Tensor, "P G T"]:
    """Credit less its mean, over its population std, within each response; 0 outside segments."""
    centred = credit - masked_mean(credit, scored, keepdim=True)
    std = masked_std(credit, scored, keepdim=True)
    highest = torch.where(scored, credit, -torch.inf).amax(dim=-1, keepdim=True)
    lowest = torch.where(scored, credit, torch.inf).amin(dim=-1, keepdim=True)
    varies = highest > lowest
    return torch.where(scored & varies, centred / (std + STD_EPS), 0)


@dataclass(frozen=True, kw_only=True)
class Weighted(Construction):
    """The advantage times a weight whose mean over the segments' tokens is 1.

    w_t = max(floor, 1 + strength * z_t) / mean, with the sign of z turned where A < 0 and
    ``flip_on_negative``: then the worst segment of a bad response is blamed most, not the best.
    """

    centring = Centring.response

    strength: float = 0.5
    """Change of the weight per standard deviation of credit."""
    floor: float = 0.1
    """Smallest weight before the mean is set to 1; positive."""
    flip_on_negative: bool = True
    """Where A < 0 the worst token weighs most."""

    def __post_init__(self) -> None:
        """Refuse weights whose mean could be zero."""
        if self.floor <= 0:
            raise ValueError(f"floor is {self.floor}; weights must stay positive: use 0.1")

    def __call__(self, given: TokenCredit) -> Float[Tensor, "P G T"]:
        """Give A w_t to the tokens of segments, A to the others."""
        z = standardised(given.credit, given.scored)
        z = _turned(z, given) if self.flip_on_negative else z
        return _weighed((1 + self.strength * z).clamp(min=self.floor), given)


@dataclass(frozen=True, kw_only=True)
class Additive(Construction):
    """The advantage plus standardised credit, which sums to zero over the segments' tokens.

    A_t = A + strength * z_t
    """

    centring = Centring.response

    strength: float = 1.0
    """Advantage per standard deviation of credit."""

    def __call__(self, given: TokenCredit) -> Float[Tensor, "P G T"]:
        """Give A + strength * z_t to the tokens of segments, A to the others."""
        z = standardised(given.credit, given.scored)
        return given.advantages.unsqueeze(-1) + self.strength * z


@dataclass(frozen=True, kw_only=True)
class Rank(Construction):
    """The advantage times a weight that grows with the credit's rank, of mean 1 over the segments.

    w_t = rank_t / mean rank: ascending over the segments' tokens, equal credits sharing their mean
    rank, so that the best token weighs most. (The released code's ranks are the other way round.)
    """

    centring = Centring.response

    flip_on_negative: bool = True
    """Where A < 0 the worst token weighs most."""

    def __call__(self, given: TokenCredit) -> Float[Tensor, "P G T"]:
        """Give A w_t to the tokens of segments, A to the others."""
        worth = _turned(given.credit, given) if self.flip_on_negative else given.credit
        others = given.scored.unsqueeze(-2)
        below = (others & (worth.unsqueeze(-2) < worth.unsqueeze(-1))).sum(dim=-1)
        equal = (others & (worth.unsqueeze(-2) == worth.unsqueeze(-1))).sum(dim=-1)
        return _weighed(below + (equal + 1) / 2, given)


@dataclass(frozen=True, kw_only=True)
class Proportional(Construction):
    """OSPO-Prop as its code was released, on the tokens that it means (arXiv:2601.08403).

    Over the scored text, from its first segment to its last: credit is scaled to [0, 1] between the
    worst and the best token (0.5 where all are equal; a token of no segment has credit 0), then to
    the sum R, and A_t = A T b_t / sum b. The worst token always gets 0, a response of reward 0 gets
    0 everywhere, and so does text outside the scored one.
    """

    centring = Centring.none  # a response's total depends on its credit

    def __call__(self, given: TokenCredit) -> Float[Tensor, "P G T"]:
        """Give A T b_t / sum b to the tokens of the scored text, 0 to the others."""
        credit, scored = given.credit, given.scored
        begun = scored.long().cumsum(dim=-1) > 0
        to_come = scored.long().flip(-1).cumsum(dim=-1).flip(-1) > 0
        text = begun & to_come & given.response_mask
        highest = torch.where(text, credit, -torch.inf).amax(dim=-1, keepdim=True)
        lowest = torch.where(text, credit, torch.inf).amin(dim=-1, keepdim=True)
        varies = highest > lowest
        scaled = (credit - lowest) / torch.where(varies, highest - lowest, 1)
        scaled = torch.where(text, torch.where(varies, scaled, 0.5), 0)
        total = scaled.sum(dim=-1, keepdim=True).clamp(min=RELEASED_EPS)
        shaped = scaled * given.rewards.unsqueeze(-1) / total
        length = given.response_mask.sum(dim=-1, keepdim=True)
        shares = shaped / shaped.sum(dim=-1, keepdim=True).clamp(min=RELEASED_EPS)
        return given.advantages.unsqueeze(-1) * length * shares


def _turned(credit: Float[Tensor, "P G T"], given: TokenCredit) -> Float[Tensor, "P G T"]:
    """The credit with its sign turned in responses whose advantage is negative."""
    return torch.where(given.advantages.unsqueeze(-1) < 0, -credit, credit)


def _weighed(weights: Float[Tensor, "P G T"], given: TokenCredit) -> Float[Tensor, "P G T"]:
    """The rollouts' advantages times weights, whose mean over each response's segments is made 1.

    Tokens outside the segments have weight 1.
    """
    mean = masked_mean(weights, given.scored, keepdim=True).to(given.credit)
    weights = weights.to(given.credit) / torch.where(mean > 0, mean, 1)
    return given.advantages.unsqueeze(-1) * torch.where(given.scored, weights, 1)
