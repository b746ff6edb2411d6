"""OTB: a baseline per token, weighted by how much gradient has been gathered (arXiv:2602.07078)."""

from dataclasses import dataclass
from enum import StrEnum, auto

import torch

from rlcredit.credit.group import equal_rewards
from rlcredit.credit.masked import masked_mean
from rlcredit.credit.token_baseline import (
    logit_gradients,
    released_token_advantages,
    token_advantages,
)
from rlcredit.estimators.base import AdvantageEstimator, Centring, Grain
from rlcredit.types import Advantages, Needs, Signals


class Baseline(StrEnum):
    """Whose rewards a token's baseline is made of: the siblings', or the whole group's."""

    leave_one_out = auto()
    released = auto()
    """As the released code has it; biased."""


@dataclass(frozen=True, kw_only=True)
class OTB(AdvantageEstimator):
    """The reward less a baseline of the token's place, by which long gradients count most."""

    grain = Grain.token

    baseline: Baseline = Baseline.leave_one_out

    @property
    def centring(self) -> Centring:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Siblings are taken off at each place; the released form leaves the longest tail as is."""
        return Centring.group if self.baseline is Baseline.leave_one_out else Centring.none

    @property
    def needs(self) -> Needs:
        """How the policy's distribution stood at each token."""
        return Needs(sum_pi_squared=True)

    def __call__(self, signals: Signals) -> Advantages:
        """Give each token R less the baseline of its place."""
        if signals.sum_pi_squared is None or signals.logprobs is None:
            raise ValueError(
                "OTB reads the policy's distributions, and signals.sum_pi_squared or "
                "signals.logprobs is None; they are there in a run, where the policy is at hand"
            )
        mask = signals.response_mask
        weights = logit_gradients(signals.logprobs, signals.sum_pi_squared)
        weights = torch.where(mask, weights, 0)
        if self.baseline is Baseline.released:
            values = released_token_advantages(signals.rewards, weights, mask)
        else:
            values = token_advantages(signals.rewards, weights, mask)
        equal = equal_rewards(signals.rewards).to(values.dtype).mean()
        return Advantages(
            values=values,
            metrics={
                "credit/equal_groups_share": equal,
                "credit/logit_gradient": masked_mean(weights.flatten(), mask.flatten()),
            },
        )
