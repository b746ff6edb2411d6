"""max@K: each rollout against its group, for the best of K rollouts (MaxPO, arXiv:2606.06080)."""

from dataclasses import dataclass

from rlcredit.credit.group import Scale, equal_rewards, over_std
from rlcredit.credit.max_at_k import max_at_k
from rlcredit.credit.spread import spread_rollout
from rlcredit.estimators.base import AdvantageEstimator, Centring, Grain, refuse_mean_scale
from rlcredit.types import Advantages, Signals


@dataclass(frozen=True, kw_only=True)
class MaxK(AdvantageEstimator):
    """What the rollout adds to the best of k of its group, on each of its tokens.

    Raises:
        ValueError: If k is below 1, or the scale has no meaning here.
    """

    grain = Grain.rollout
    centring = Centring.group

    k: int = 4
    """Rollouts whose best counts; 1 is RLOO. A group holds k + 1 or more."""
    scale: Scale = Scale.none
    """Not at all (the unbiased one), or by the group's std of rewards."""
    eps: float = 1e-4
    """Added to the std, in reward units."""

    def __post_init__(self) -> None:
        """Refuse settings that have no meaning here."""
        if self.k < 1:
            raise ValueError(f"estimator.k={self.k}; the best of k rollouts needs k >= 1")
        refuse_mean_scale(self.scale, "max@K")

    @property
    def smallest_group(self) -> int:
        """One rollout more than those whose best counts."""
        return self.k + 1

    def __call__(self, signals: Signals) -> Advantages:
        """Give every token of a rollout the k-fold difference of the two means of maxima."""
        advantages = max_at_k(signals.rewards, k=self.k)
        equal = equal_rewards(signals.rewards)
        if self.scale == Scale.std:
            advantages = over_std(advantages, signals.rewards, eps=self.eps)
        return Advantages(
            values=spread_rollout(advantages, signals.response_mask),
            metrics={"credit/equal_groups_share": equal.to(advantages.dtype).mean()},
        )
