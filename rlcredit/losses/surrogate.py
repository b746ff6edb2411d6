"""The clipped surrogate and its kin: PPO, GRPO, DAPO, GSPO, Dr. GRPO, CISPO, GRPO-lambda.

One class, because they differ in five independent choices; the presets stand in ``conf/loss``.
"""

from dataclasses import dataclass, replace
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
    token_log_ratio,
    token_ratio,
)
from rlcredit.credit.rounding import all_equal
from rlcredit.credit.trace import trace_weights, traced_log_ratio
from rlcredit.losses.base import KLRegularized, top_entropy
from rlcredit.types import Loss, Needs, UpdateBatch


class Ratio(StrEnum):
    """Over what the importance ratio is taken.

    A token; the whole response (GSPO); or a token and, decayed, those before it (GRPO-lambda).
    """

    token = auto()
    sequence = auto()
    trace = auto()


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
    decay: float | None = None
    """What is left of a log-ratio one token later, the paper's gamma times lambda; with ratio=trace
    alone."""
    unit_weights: bool = False
    """Divide a response's loss by the mean weight that its traces give to tokens, or long responses
    have long gradients; with ratio=trace alone."""
    traced_share: float | None = None
    """Share of the update's tokens, those at which the policy's entropy is highest, whose
    log-ratios enter the traces (S-trace, arXiv:2605.05965); None: all. With ratio=trace alone."""

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
        self._check_trace()

    def _check_trace(self) -> None:
        """Traces have a decay, and what they are made of; other ratios have neither."""
        if self.ratio != Ratio.trace:
            if self.decay is not None or self.unit_weights or self.traced_share is not None:
                raise ValueError(
                    f"decay, unit_weights and traced_share are of ratio=trace, and ratio is "
                    f"{self.ratio}; use loss=grpo_lambda"
                )
            return
        if self.decay is None or not 0 <= self.decay <= 1:
            raise ValueError(
                f"ratio=trace has a decay from 0 (a token alone) to 1, and decay is {self.decay}; "
                "use loss.decay=0.99"
            )
        if self.traced_share is not None and not 0 < self.traced_share <= 1:
            raise ValueError(
                f"traced_share is {self.traced_share}, a share above 0 and at most 1: use 0.2, or "
                "null for all tokens"
            )
        if self.objective == Objective.cispo:
            raise ValueError(
                "objective=cispo takes no gradient of the ratio, and a trace is nothing else; use "
                "objective=clipped"
            )

    @property
    def needs(self) -> Needs:
        """Log-probs of the starting policy for a divergence, entropies for a part of the traces."""
        return super().needs | Needs(entropy_rank=self.traced_share is not None)

    @property
    def takes_tokens(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """A sequence ratio weighs a whole response: its advantage must not vary within it."""
        return self.ratio != Ratio.sequence

    def __call__(self, logprobs: Float[Tensor, "P G T"], batch: UpdateBatch) -> Loss:
        """Take the aggregated surrogate, plus kl_coef times the divergence where that counts."""
        mask = batch.response_mask
        if not self.takes_tokens:
            _check_constant(batch)
        match self.ratio:
            case Ratio.token:
                ratio = token_ratio(logprobs, batch.old_logprobs, mask)
            case Ratio.sequence:
                ratio = sequence_ratio(logprobs, batch.old_logprobs, mask)
            case Ratio.trace:
                ratio, batch = self._traced(logprobs, batch)
        policy = self.aggregated(self._policy_losses(ratio, logprobs, batch), batch)
        metrics = {
            "loss/policy": policy.detach(),
            "loss/clip_fraction": self._clip_fraction(ratio.detach(), batch),
        }
        return self.regularized(Loss(value=policy, metrics=metrics), logprobs, batch)

    def _traced(
        self, logprobs: Float[Tensor, "P G T"], batch: UpdateBatch
    ) -> tuple[Float[Tensor, "P G T"], UpdateBatch]:
        """Ratios of traces, and the batch with its advantages in the traces' unit."""
        assert self.decay is not None  # checked when it was made
        mask = entering = batch.response_mask
        if self.traced_share is not None:
            entering = top_entropy(batch, self.traced_share)
        log_ratio = token_log_ratio(logprobs, batch.old_logprobs, entering)
        ratio = traced_log_ratio(log_ratio, mask, decay=self.decay).exp()
        if not self.unit_weights:
            return ratio, batch
        weights = torch.where(entering, trace_weights(mask, decay=self.decay), 0)
        mean = masked_mean(weights, mask, keepdim=True)
        scale = (1 / torch.where(mean > 0, mean, 1)).to(full_precision(batch.advantages))
        return ratio, replace(batch, advantages=batch.advantages * scale)

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
