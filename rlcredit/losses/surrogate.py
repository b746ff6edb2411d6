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
    KL,
    cispo_weight,
    clipped_surrogate,
    dual_clip,
    kl_estimate,
    sequence_ratio,
    token_ratio,
)
from rlcredit.credit.rounding import all_equal
from rlcredit.losses.base import PolicyLoss
from rlcredit.types import Loss, Needs, UpdateBatch


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
class ClippedSurrogate(PolicyLoss):
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
    kl_coef: float = 0.0
    """Weight of the divergence from the reference policy."""
    kl: KL = KL.k3
    """Its estimate at each token; what the gradient descends on stands in METHODS.md."""
    kl_weighted: bool = False
    """Multiply the estimate by the token's importance ratio, gradient included (k1 and k3)."""

    def __post_init__(self) -> None:
        """Refuse settings that contradict one another."""
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
        if self.kl_coef < 0:
            raise ValueError(f"kl_coef is {self.kl_coef}; it must be 0 or more")
        if self.kl == KL.k1 and not self.kl_weighted:
            raise ValueError(
                "kl=k1 has an expected gradient of 0: as a loss it adds noise and holds the policy "
                "to nothing; use loss.kl=k3_plus or k2, or loss.kl_weighted=true"
            )
        if self.kl in (KL.k2, KL.k3_plus) and self.kl_weighted:
            raise ValueError(
                f"kl={self.kl} has the divergence's gradient by itself, and the importance ratio "
                "would add another; use loss.kl_weighted=false, or loss.kl=k1 or k3"
            )

    @property
    def needs(self) -> Needs:
        """Log-probs of the reference policy, if the divergence from it counts."""
        return Needs(ref_logprobs=self.kl_coef > 0)

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
        policy = self._aggregated(self._policy_losses(ratio, logprobs, batch), batch)
        metrics = {
            "loss/policy": policy.detach(),
            "loss/clip_fraction": self._clip_fraction(ratio.detach(), batch),
        }
        if self.kl_coef == 0:
            return Loss(value=policy, metrics=metrics)
        divergence = self._aggregated(self._divergence(logprobs, batch), batch)
        metrics["loss/kl"] = divergence.detach()
        return Loss(value=policy + self.kl_coef * divergence, metrics=metrics)

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

    def _divergence(
        self, logprobs: Float[Tensor, "P G T"], batch: UpdateBatch
    ) -> Float[Tensor, "P G T"]:
        """Estimated divergence from the reference policy at each token."""
        if batch.ref_logprobs is None:
            raise ValueError(
                f"kl_coef is {self.kl_coef}, and batch.ref_logprobs is None; "
                "declare Needs(ref_logprobs=True) or set loss.kl_coef=0"
            )
        mask = batch.response_mask
        kept = torch.where(mask, logprobs, 0), torch.where(mask, batch.ref_logprobs, 0)
        estimate = kl_estimate(*kept, kind=self.kl)
        if not self.kl_weighted:
            return estimate
        return estimate * token_ratio(logprobs, batch.old_logprobs, mask)

    def _aggregated(self, losses: Float[Tensor, "P G T"], batch: UpdateBatch) -> Float[Tensor, ""]:
        """One number, with counts over all ranks and micro-batches below the line."""
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
