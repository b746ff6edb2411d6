"""Prefix credit: what a response still earned when each of its segments was begun. Ours.

Potential-based shaping with the value of the text so far as the potential: the baseline of a token
depends on the state before its segment alone, so (but for the scale) the gradient is unbiased.
"""

from dataclasses import dataclass

from rlcredit.credit.coalitions import Prefixes
from rlcredit.credit.group import Scale, checked_rewards
from rlcredit.credit.prefix import prefix_table, return_to_go, tokens_to_go
from rlcredit.estimators.base import (
    AdvantageEstimator,
    Centring,
    Grain,
    compacted,
    played,
    refuse_mean_scale,
)
from rlcredit.types import Advantages, Needs, Signals


@dataclass(frozen=True, kw_only=True)
class Prefix(AdvantageEstimator):
    """Reward minus the value of the text before the segment, less the siblings' mean of the same.

    A_t = (Q_k - mean over siblings of Q_k) / (std(r) + eps),   Q_k = R - v(segments before k)

    for the segment k that was being written when token t was chosen. Siblings count that got as
    far; where none did, each counts with its last.
    """

    grain = Grain.segment
    centring = Centring.group  # the siblings' mean at the same segment is taken off

    scale: Scale = Scale.std
    """Divide by the group's std of rewards, or (none, the unbiased one) not at all."""
    eps: float = 1e-4
    """Added to the divisor, in reward units."""

    def __post_init__(self) -> None:
        """Refuse a scale that has no meaning here."""
        refuse_mean_scale(self.scale, "prefix credit")

    @property
    def needs(self) -> Needs:
        """The text before each segment, in every group; repeated segments are text too."""
        return Needs(coalitions=Prefixes())

    def __call__(self, signals: Signals) -> Advantages:
        """Give each token the centred return-to-go of the segment that it was chosen in."""
        segments, game = played(signals, "prefix credit")
        rewards = checked_rewards(signals.rewards, "prefix credit")
        compact, _ = compacted(game)
        prefixes = prefix_table(compact.members, compact.rewards, compact.evaluated)
        to_go = return_to_go(rewards, prefixes, game.players)
        values, credit = tokens_to_go(
            to_go,
            segments.ids,
            signals.response_mask,
            signals.rewards,
            scale=self.scale,
            eps=self.eps,
        )
        num_tokens = signals.response_mask.sum().clamp(min=1)
        return Advantages(
            values=values,
            credit=credit,
            metrics={"credit/mean_abs": credit.abs().sum() / num_tokens},
        )
