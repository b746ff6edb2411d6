"""RLOO: each rollout against the mean of its siblings (arXiv:2402.14740)."""

from dataclasses import dataclass

from rlcredit.credit.group import equal_rewards, leave_one_out
from rlcredit.credit.spread import spread_rollout
from rlcredit.estimators.base import AdvantageEstimator, Centring, Grain
from rlcredit.types import Advantages, Signals


@dataclass(frozen=True, kw_only=True)
class RLOO(AdvantageEstimator):
    """The reward less the siblings' mean reward, on each token of the rollout."""

    grain = Grain.rollout
    centring = Centring.group

    def __call__(self, signals: Signals) -> Advantages:
        """Give every token of a rollout r - (mean r of its siblings)."""
        advantages = leave_one_out(signals.rewards)
        equal = equal_rewards(signals.rewards).to(advantages.dtype).mean()
        return Advantages(
            values=spread_rollout(advantages, signals.response_mask),
            metrics={"credit/equal_groups_share": equal},
        )
