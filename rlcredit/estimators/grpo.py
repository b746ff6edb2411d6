"""GRPO and its kin: each rollout against its group (arXiv:2402.03300).

Dr. GRPO (arXiv:2503.20783) is ``scale=none``, MaxRL is ``scale=mean``.
"""

from dataclasses import dataclass

from rlcredit.credit.group import Scale, equal_rewards, group_relative
from rlcredit.credit.spread import spread_rollout
from rlcredit.estimators.base import AdvantageEstimator, Centring, Grain
from rlcredit.types import Advantages, Signals


@dataclass(frozen=True, kw_only=True)
class GRPO(AdvantageEstimator):
    """The group-relative advantage of the rollout, on each of its tokens."""

    grain = Grain.rollout
    centring = Centring.group

    scale: Scale = Scale.std
    """What the centred reward is divided by."""
    eps: float = 1e-4
    """Added to the divisor, in reward units."""

    def __call__(self, signals: Signals) -> Advantages:
        """Give every token of a rollout (r - mean r) / (scale + eps)."""
        advantages = group_relative(signals.rewards, scale=self.scale, eps=self.eps)
        equal = equal_rewards(signals.rewards).to(advantages.dtype).mean()
        return Advantages(
            values=spread_rollout(advantages, signals.response_mask),
            metrics={"credit/equal_groups_share": equal},
        )
