"""GRPO and its kin: each rollout against its group (arXiv:2402.03300).

Dr. GRPO (arXiv:2503.20783) is ``scale=none``, MaxRL is ``scale=mean``.
"""

from dataclasses import dataclass

from rlcredit.credit.group import Scale, equal_rewards, group_relative
from rlcredit.credit.spread import spread_rollout
from rlcredit.estimators.base import Centring, Grain
from rlcredit.types import Advantages, Needs, Signals


@dataclass(frozen=True, kw_only=True)
class GRPO:
    """The group-relative advantage of the rollout, on each of its tokens."""

    scale: Scale = Scale.std
    """What the centred reward is divided by."""
    eps: float = 1e-4
    """Added to the divisor, in reward units."""

    @property
    def needs(self) -> Needs:
        """Rewards alone."""
        return Needs()

    @property
    def grain(self) -> Grain:
        """One number per rollout."""
        return Grain.rollout

    @property
    def centring(self) -> Centring:
        """Sums to zero over the group."""
        return Centring.group

    def __call__(self, signals: Signals) -> Advantages:
        """See :class:`rlcredit.estimators.base.AdvantageEstimator`."""
        advantages = group_relative(signals.rewards, scale=self.scale, eps=self.eps)
        equal = equal_rewards(signals.rewards).to(advantages.dtype).mean()
        return Advantages(
            values=spread_rollout(advantages, signals.response_mask),
            metrics={"credit/equal_groups_share": equal},
        )
