"""OSPO: a rollout's advantage, redistributed by its segments' credit (arXiv:2601.08403).

A value (how much of the reward is whose) and a construction (how credit becomes advantage) are two
independent choices. The paper's text could not be had in full; what is ours stands in docs/methods.
"""

from dataclasses import dataclass
from enum import StrEnum, auto

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlcredit.credit.group import Scale, equal_rewards, group_relative
from rlcredit.credit.masked import full_precision
from rlcredit.credit.rounding import settled, tolerance
from rlcredit.credit.spread import spread_segment
from rlcredit.estimators.base import (
    AdvantageEstimator,
    Centring,
    Construction,
    Grain,
    SegmentValue,
    TokenCredit,
    compacted,
    played,
)
from rlcredit.types import Advantages, CoalitionGame, Metrics, Needs, Signals


class Duplicates(StrEnum):
    """Who plays when a segment repeats an earlier one: its first copy alone, or every copy."""

    first = auto()
    all = auto()


@dataclass(frozen=True, kw_only=True)
class OSPO(AdvantageEstimator):
    """Segment credit by one value, made advantages by one construction.

    In groups of equal rewards the credit is 0: their advantages are GRPO's, which are 0 too.
    """

    grain = Grain.segment

    value: SegmentValue
    """How much of the reward is whose (estimator/value)."""
    construction: Construction
    """How credit becomes an advantage (estimator/construction)."""
    duplicates: Duplicates = Duplicates.first
    scale: Scale = Scale.std
    """What the rollout's advantage is divided by."""
    eps: float = 1e-4
    """Added to the divisor, in reward units."""
    clip: float | None = None
    """Largest advantage of a token, in standard deviations of the batch's rollout advantages."""

    def __post_init__(self) -> None:
        """Refuse a clip that leaves nothing."""
        if self.clip is not None and self.clip <= 0:
            raise ValueError(f"clip is {self.clip}; it must be positive, or null for no clip")

    @property
    def needs(self) -> Needs:
        """The coalitions of the value's plan, in groups whose rewards differ."""
        return Needs(
            coalitions=self.value.plan,
            first_copies=self.duplicates == Duplicates.first,
            skips_equal_groups=True,
        )

    @property
    def centring(self) -> Centring:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the construction centres the credit over."""
        return self.construction.centring

    def __call__(self, signals: Signals) -> Advantages:
        """Make advantages of segment credit by the construction, then clip them."""
        segments, game = played(signals, "OSPO's credit")
        advantages = group_relative(signals.rewards, scale=self.scale, eps=self.eps)
        shares = self._segment_credit(game, signals)
        scored = (segments.ids >= 0) & signals.response_mask
        credit = torch.where(scored, spread_segment(shares, segments.ids), 0)
        values = self.construction(
            TokenCredit(
                credit=credit,
                advantages=advantages,
                rewards=full_precision(signals.rewards),
                scored=scored,
                response_mask=signals.response_mask,
            )
        )
        values = torch.where(signals.response_mask, values, 0)
        values, clipped = self._clipped(values, advantages)
        metrics = _metrics(shares, game, signals)
        metrics["credit/clipped_share"] = clipped.sum() / signals.response_mask.sum().clamp(min=1)
        return Advantages(values=values, credit=credit, metrics=metrics)

    def _segment_credit(self, game: CoalitionGame, signals: Signals) -> Float[Tensor, "P G M"]:
        """The value's credit, settled, in the segments' columns; 0 in groups of equal rewards."""
        compact, order = compacted(game)
        credit = self.value(compact, randomness=signals.randomness)
        unequal = ~equal_rewards(signals.rewards)[:, None, None]
        credit = torch.where(compact.players & unequal, credit, 0)
        known = torch.where(game.evaluated, game.rewards, 0)
        within = tolerance(known, num_added=game.evaluated.sum(dim=-1))
        credit = settled(credit, within.to(credit))
        return torch.zeros_like(credit).scatter(-1, order, credit)

    def _clipped(
        self, values: Float[Tensor, "P G T"], advantages: Float[Tensor, "P G"]
    ) -> tuple[Float[Tensor, "P G T"], Bool[Tensor, "P G T"]]:
        """The advantages within the clip, and where it cut."""
        if self.clip is None:
            return values, torch.zeros_like(values, dtype=torch.bool)
        limit = self.clip * advantages.std()
        return torch.minimum(values, limit).maximum(-limit), values.abs() > limit


def _metrics(credit: Float[Tensor, "P G M"], game: CoalitionGame, signals: Signals) -> Metrics:
    """Figures of the credit: equal groups, sampled responses, spread and sign."""
    equal = equal_rewards(signals.rewards)
    num_players = game.players.sum().clamp(min=1)
    return {
        "credit/equal_groups_share": equal.to(credit.dtype).mean(),
        "credit/sampled_share": game.sampled.to(credit.dtype).mean(),
        "credit/mean_abs": credit.abs().sum() / num_players,
        "credit/negative_share": (credit < 0).sum() / num_players,
        "credit/response_sum": credit.sum(dim=-1).mean(),
    }
