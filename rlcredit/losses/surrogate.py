"""The clipped surrogate and its kin: PPO, GRPO, DAPO, GSPO, Dr. GRPO, CISPO.

One class, because they differ in five independent choices; the presets stand in ``conf/loss``.
"""

from dataclasses import dataclass
from enum import StrEnum, auto

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.credit.masked import full_precision, masked_mean, masked_sum
from rlcredit.credit.ratio import (
    cispo_weight,
    clipped_surrogate,
    dual_clip,
    sequence_ratio,
    token_ratio,
)
from rlcredit.credit.rounding import all_equal
from rlcredit.losses.base import KLRegularized
from rlcredit.types import Loss, UpdateBatch


class Ratio(StrEnum):
    """Over what the importance ratio is taken: a token, or the whole response (GSPO)."""

    token = auto()
    sequence = auto()


class Aggregation(StrEnum):
    """How losses of tokens become one number.

    ``token_mean``: over all tokens of the update (DAPO). ``sequence_mean``: over each response's
    tokens, then over responses (GRPO). ``constant``: over responses times a fixed length (Dr.
    GRPO).
    """

    token_mean = auto()
    sequence_mean = auto()
    constant = auto()


class Objective(StrEnum):
    """PPO's pessimistic minimum, or CISPO's clipped weights, which leave every token a gradient."""

    clipped = auto()
    cispo = auto()


@dataclass(frozen=True, kw_only=True)
class ClippedSurrogate(KLRegularized):
    """Importance-weighted policy gradient with clipped ratios; computed in at least float32."""

    ratio: Ratio = Ratio.token
    objective: Objective = Objective.clipped
    aggregation: Aggregation = Aggregation.token_mean
    max_tokens: int | None = None
    """Length that ``aggregation=constant`` divides by: the cap on a response, in tokens."""
    clip_low: float | None = 0.2
    """How far a ratio may fall below 1; None (CISPO alone): any distance."""
    clip_high: float = 0.2
    """How far a ratio may rise above 1."""
    dual_clip: float | None = None
    """Largest ratio that a token with a negative advantage is charged with; None: any."""

    def __post_init__(self) -> None:
        """Refuse settings that contradict one another."""
        super().__post_init__()
        if self.aggregation == Aggregation.constant and not self.max_tokens:
            raise ValueError(
                "aggregation=constant divides by max_tokens, which is not set; "
                "use loss.max_tokens='${rollout.max_new_tokens}'"
            )
        if self.objective == Objective.clipped and self.clip_low is None:
            raise ValueError("clip_low is null, which is CISPO's; objective=clipped needs a number")
        if self.dual_clip is not None and self.dual_clip <= 1:
            raise ValueError(f"dual_clip is {self.dual_clip}; it bounds ratios above 1: use 3.0")
        if self.dual_clip is not None and self.objective == Objective.cispo:
            raise ValueError("dual_clip bounds objective=clipped; leave it null for cispo")

    @property
    def takes_tokens(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """A sequence ratio weighs a whole response: its advantage must not vary within it."""
        return self.ratio == Ratio.token

    def __call__(self, logprobs: Float[Tensor, "P G T"], batch: UpdateBatch) -> Loss:
        """Take the aggregated surrogate, plus kl_coef times the divergence where that counts."""
        mask = batch.response_mask
        of_ratio = token_ratio if self.ratio == Ratio.token else sequence_ratio
        if not self.takes_tokens:
            _check_constant(batch)
        ratio = of_ratio(logprobs, batch.old_logprobs, mask)
        policy = self.aggregated(self._policy_losses(ratio, logprobs, batch), batch)
        metrics = {
            "loss/policy": policy.detach(),
            "loss/clip_fraction": self._clip_fraction(ratio.detach(), batch),
        }
        return self.regularized(Loss(value=policy, metrics=metrics), logprobs, batch)

    def _policy_losses(
        self, ratio: Float[Tensor, "P G T"], logprobs: Float[Tensor, "P G T"], batch: UpdateBatch
    ) -> Float[Tensor, "P G T"]:
        """Loss of each token, before they are summed up."""
        advantages = full_precision(batch.advantages)
        if self.objective == Objective.cispo:
            weight = cispo_weight(ratio, clip_high=self.clip_high, clip_low=self.clip_low)
            kept = torch.where(batch.response_mask, full_precision(logprobs), 0)
            return -weight * advantages * kept
        losses = clipped_surrogate(
            ratio, advantages, clip_low=self.clip_low or 0.0, clip_high=self.clip_high
        )
        if self.dual_clip is None:
            return losses
        return dual_clip(losses, advantages, bound=self.dual_clip)

    def aggregated(self, losses: Float[Tensor, "P G T"], batch: UpdateBatch) -> Float[Tensor, ""]:
        """Make one number, with counts over all ranks and micro-batches below the line."""
        mask = batch.response_mask
        match self.aggregation:
            case Aggregation.token_mean:
                return masked_sum(losses, mask).sum() / max(batch.num_tokens, 1)
            case Aggregation.sequence_mean:
                return masked_mean(losses, mask).sum() / max(batch.num_rollouts, 1)
            case Aggregation.constant:
                tokens = max(batch.num_rollouts, 1) * (self.max_tokens or 1)
                return masked_sum(losses, mask).sum() / tokens

    def _clip_fraction(
        self, ratio: Float[Tensor, "P G T"], batch: UpdateBatch
    ) -> Float[Tensor, ""]:
        """Share of the update's tokens whose ratio is cut."""
        too_high = ratio > 1 + self.clip_high
        too_low = torch.zeros_like(too_high)
        if self.clip_low is not None:
            too_low = ratio < 1 - self.clip_low
        cut = too_high | too_low
        if self.objective == Objective.clipped:
            cut = (too_high & (batch.advantages > 0)) | (too_low & (batch.advantages < 0))
        return masked_sum(cut.to(ratio.dtype), batch.response_mask).sum() / max(batch.num_tokens, 1)


def _check_constant(batch: UpdateBatch) -> None:
    """A sequence ratio multiplies one advantage per rollout."""
    if not bool(all_equal(batch.advantages, batch.response_mask).all()):
        raise ValueError(
            "ratio=sequence weighs whole responses, and the advantages vary within one; use a "
            "rollout-level estimator (estimator=grpo), or loss=dapo for credit per token"
        )
