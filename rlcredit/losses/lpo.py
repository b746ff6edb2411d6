"""LPO: the policy's distribution over a group's rollouts, drawn to a target (arXiv:2605.06139)."""

import math
from dataclasses import dataclass
from enum import StrEnum, auto

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlcredit.credit.masked import masked_mean, masked_sum
from rlcredit.credit.ratio import token_log_ratio
from rlcredit.credit.rounding import all_equal
from rlcredit.credit.simplex import Divergence, divergence, projection_coefficients
from rlcredit.losses.base import KLRegularized
from rlcredit.types import Loss, UpdateBatch

ABSENT = -1e4
"""Logit of a rollout without a token: no softmax sees it, and unlike -inf it makes no NaN."""


class Logit(StrEnum):
    """A rollout's logit: the mean of its tokens' log-ratios, or their sum."""

    mean = auto()
    sum = auto()


@dataclass(frozen=True, kw_only=True)
class LPO(KLRegularized):
    """Projects the policy on softmax(A), over whole groups; computed in at least float32.

    The gradient is sum_k c_k grad log pi(y_k), with c from the raw log-ratios of all siblings
    (detached) and log pi through the clipped ones; a sum over the group, a mean over prompts. The
    policy before the batch's first update is anchor and behaviour policy in one, so the anchor's
    logits are 0.
    """

    couples_group = True  # a rollout's coefficient depends on its siblings' log-probs
    takes_tokens = False  # the target has one logit per rollout

    divergence: Divergence = Divergence.forward_kl
    logit: Logit = Logit.mean
    clip: float = 0.2
    """Token log-ratios are clipped to [log(1 - clip), log(1 + clip)]."""

    def __post_init__(self) -> None:
        """Refuse a band without an inside."""
        super().__post_init__()
        if not 0 < self.clip < 1:
            raise ValueError(f"clip is {self.clip}; it must be between 0 and 1: use 0.2")

    def __call__(self, logprobs: Float[Tensor, "P G T"], batch: UpdateBatch) -> Loss:
        """Weigh each rollout's clipped logit by its detached projection coefficient."""
        mask = batch.response_mask
        there = mask.any(dim=-1)
        target_logits = torch.where(there, _per_rollout(batch), ABSENT)
        log_ratio = token_log_ratio(logprobs, batch.old_logprobs, mask)
        clipped = log_ratio.clamp(math.log1p(-self.clip), math.log1p(self.clip))
        logits = torch.where(there, self._logits(log_ratio.detach(), mask), ABSENT)
        coefficients = projection_coefficients(
            logits, target_logits=target_logits, divergence=self.divergence
        )
        coefficients = torch.where(there, coefficients, 0)
        distance = divergence(logits, target_logits=target_logits, kind=self.divergence)
        drift = (there.sum(dim=-1, keepdim=True) * logits.softmax(dim=-1) - 1).abs()
        num_prompts = max(batch.num_prompts, 1)
        policy = (coefficients * self._logits(clipped, mask)).sum() / num_prompts
        cut = masked_sum(clipped.detach() != log_ratio.detach(), mask).sum()
        loss = Loss(
            value=policy,
            metrics={
                "loss/policy": policy.detach(),
                "loss/divergence": torch.where(there.any(dim=-1), distance, 0).sum() / num_prompts,
                "loss/drift": torch.where(there, drift, 0).amax(dim=-1).sum() / num_prompts,
                "loss/clip_fraction": cut / max(batch.num_tokens, 1),
            },
        )
        return self.regularized(loss, logprobs, batch)

    def _logits(
        self, log_ratio: Float[Tensor, "P G T"], mask: Bool[Tensor, "P G T"]
    ) -> Float[Tensor, "P G"]:
        """One logit per rollout."""
        if self.logit == Logit.mean:
            return masked_mean(log_ratio, mask)
        return masked_sum(log_ratio, mask)


def lpo_advantages(
    advantages: Float[Tensor, "P G"],
    *,
    divergence: Divergence = Divergence.forward_kl,
    present: Bool[Tensor, "P G"] | None = None,
) -> Float[Tensor, "P G"]:
    """Advantages that give a plain loss LPO's gradient, where the loss cannot be chosen.

    A'_k = -G c_k, c the projection coefficients at the policy that sampled (all logits 0)

    GRPO's loss with a mean over each response's tokens and then over responses has LPO's gradient
    with them (``logit=mean``) in the first update on a batch, and only there: from the second on c
    depends on the siblings' current log-probs. Such a trainer must make one update per batch.

    Args:
        advantages: Group-relative, of whole responses (:func:`rlcredit.credit.group_relative`).
        divergence: From the target that is minimised.
        present: False for responses without a token, which then take no part; None: all have some.

    Raises:
        ValueError: If an advantage is not finite.
    """
    if not bool(advantages.isfinite().all()):
        raise ValueError(
            f"an advantage is {advantages[~advantages.isfinite()][0].item()}, and LPO's target is "
            "a softmax of finite ones; look at the rewards that it was made of"
        )
    there = torch.ones_like(advantages, dtype=torch.bool) if present is None else present
    coefficients = projection_coefficients(
        torch.where(there, torch.zeros_like(advantages), ABSENT),
        target_logits=torch.where(there, advantages, ABSENT),
        divergence=divergence,
    )
    return torch.where(there, -advantages.shape[1] * coefficients, 0)


def _per_rollout(batch: UpdateBatch) -> Float[Tensor, "P G"]:
    """The advantage of each rollout, or the reason why it has none."""
    varies = ~all_equal(batch.advantages, batch.response_mask)
    finite = batch.advantages.isfinite().all(dim=-1)  # what is not is refused where it is noticed
    if bool((varies & finite).any()):
        raise ValueError(
            "LPO's target has one logit per rollout, and the advantages vary within one; use a "
            "rollout-level estimator (estimator=lpo, dr_grpo, maxrl), or loss=dapo for credit per "
            "token"
        )
    return masked_mean(batch.advantages, batch.response_mask)
