"""SCAR: Shapley credit of segments as rewards at their ends, earned to go (arXiv:2505.20417).

The paper trains with PPO on the redistributed rewards; its abstract alone could be had. This is the
form without a critic: the siblings' mean to go is the baseline.

The quadratic curve that arXiv:2601.08403 draws for SCAR in its figure of costs is no measurement:
its released script computes 2 (N - 1) + 2 + N floor(N / 2), with N = 11.5 / 8.2 times OSPO's
segments, and says itself that the part of the tree is linear.
"""

from dataclasses import dataclass

import torch

from rlcredit.credit.group import Scale, checked_rewards
from rlcredit.credit.prefix import return_to_go, tokens_to_go
from rlcredit.estimators.base import (
    AdvantageEstimator,
    Centring,
    Grain,
    SegmentValue,
    compacted,
    played,
    refuse_mean_scale,
)
from rlcredit.types import Advantages, Needs, Signals


@dataclass(frozen=True, kw_only=True)
class SCAR(AdvantageEstimator):
    """Each segment's credit is its reward, and a token earns those of its own and later segments.

    A_t = (G_k - mean over siblings of G_k) / (std(r) + eps),   G_k = R - sum_{j < k} phi_j

    for the segment k that was being written when token t was chosen. An efficient value's credits
    sum to R, and then G_k = sum_{j >= k} phi_j; what another value leaves over is earned at the
    end. Siblings count that got as far; where none did, each counts with its last.

    Raises:
        ValueError: If the scale has no meaning here.
    """

    grain = Grain.segment
    centring = Centring.group  # the siblings' mean at the same segment is taken off

    value: SegmentValue
    """How much of the reward is whose (estimator/value)."""
    scale: Scale = Scale.std
    """Divide by the group's std of rewards, or (none) not at all."""
    eps: float = 1e-4
    """Added to the divisor, in reward units."""

    def __post_init__(self) -> None:
        """Refuse a scale that has no meaning here."""
        refuse_mean_scale(self.scale, "SCAR")

    @property
    def needs(self) -> Needs:
        """The coalitions of the value's plan, in every group; repeated segments play too."""
        return Needs(coalitions=self.value.plan)

    def __call__(self, signals: Signals) -> Advantages:
        """Give each token the centred credit to go of the segment that it was chosen in."""
        segments, game = played(signals, "SCAR's credit")
        rewards = checked_rewards(signals.rewards, "SCAR")
        compact, _ = compacted(game)
        shares = self.value(compact, randomness=signals.randomness)
        shares = torch.where(compact.players, shares, 0)
        before = torch.cat([torch.zeros_like(shares[..., :1]), shares.cumsum(dim=-1)], dim=-1)
        to_go = return_to_go(rewards, before.to(rewards), game.players)
        values, credit = tokens_to_go(
            to_go,
            segments.ids,
            signals.response_mask,
            signals.rewards,
            scale=self.scale,
            eps=self.eps,
        )
        num_players = game.players.sum().clamp(min=1)
        return Advantages(
            values=values,
            credit=credit,
            metrics={
                "credit/mean_abs": shares.abs().sum() / num_players,
                "credit/sampled_share": game.sampled.to(shares.dtype).mean(),
            },
        )
