"""How far the sampler's probabilities are from the trainer's, and what is done about it.

An engine of its own (``rollout=vllm``), or another number format, samples from a distribution mu
that is close to the policy's but not the same. That is measured at every step, may be corrected by
importance weights, and stops the run above a limit: there it is stale weights or another fault.
"""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.credit.masked import masked_mean, masked_sum
from rlcredit.credit.ratio import Cut, Unit, effective_share, sampler_weights
from rlcredit.identity import ASIDE
from rlcredit.losses.base import PolicyLoss, WrappedLoss
from rlcredit.trainer.refused import MismatchError, Refused
from rlcredit.types import Loss, Metrics, UpdateBatch


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """What is done about a sampler that is not quite the policy.

    Raises:
        ValueError: If a limit is out of its range.
    """

    correction: Cut | None = None
    """Importance weights on the advantages, ``truncate`` or ``mask`` above ``max_weight``;
    null: none, which is right where sampler and trainer are the same model in the same format."""
    unit: Unit = Unit.token
    """Weights per token, or one per response (which losses over whole responses need)."""
    max_weight: float = 2.0
    """The largest weight."""
    max_kl: float | None = field(default=0.1, metadata=ASIDE)
    """Nats per token between sampler and trainer, above which the run stops; null: no limit."""

    def __post_init__(self) -> None:
        """Check the limits."""
        if not self.max_weight >= 1:
            raise ValueError(
                f"trainer.mismatch.max_weight={self.max_weight} must be 1 or more: equal "
                "distributions have weight 1; 2.0 is usual"
            )
        if self.max_kl is not None and not self.max_kl > 0:
            raise ValueError(
                f"trainer.mismatch.max_kl={self.max_kl} must be positive; null: no limit"
            )

    def corrected(self, loss: PolicyLoss) -> PolicyLoss:
        """The loss that is trained on: with importance weights, or as it is.

        Raises:
            ValueError: If the loss cannot be weighed so.
        """
        if self.correction is None:
            return loss
        if loss.couples_group:
            raise ValueError(
                f"trainer.mismatch.correction={self.correction} weighs advantages, and to "
                f"{type(loss).__name__} they are the logits of a target; use "
                "trainer.mismatch.correction=null, or a surrogate loss (loss=dapo)"
            )
        if not loss.takes_tokens and self.unit != Unit.sequence:
            raise ValueError(
                f"trainer.mismatch.unit={self.unit} gives each token a weight, and this "
                f"{type(loss).__name__} weighs whole responses; use trainer.mismatch.unit=sequence"
            )
        return CorrectedLoss(
            loss=loss, cut=self.correction, unit=self.unit, max_weight=self.max_weight
        )

    def refuse(self, metrics: Metrics, refused: Refused) -> None:
        """Stop on a batch that was not sampled from the policy.

        Raises:
            MismatchError: If the divergence is above the limit, or is no number.
        """
        found = float(metrics["mismatch/kl_nats"])
        if self.max_kl is None or found <= self.max_kl:
            return
        raise MismatchError(
            f"step {refused.step}: sampler and trainer differ by {found:.3g} nats per token (at "
            f"most {float(metrics['mismatch/max_abs_logprob']):.3g} at one), and "
            f"trainer.mismatch.max_kl={self.max_kl}. The optimizer did not step. The sampler has "
            "stale weights, another temperature, or a coarser number format: compare with "
            "rollout=hf, use the policy's own format in the sampler, or raise the limit (with "
            "trainer.mismatch.correction=truncate). The batch is saved",
            refused,
        )


@dataclass(frozen=True, kw_only=True)
class CorrectedLoss(WrappedLoss):
    """Another loss, on advantages that carry their token's importance weight.

    Surrogate losses are proportional to the advantage, so this is the loss times the weight; a
    divergence from a reference policy is left as it is.
    """

    cut: Cut
    unit: Unit
    max_weight: float

    def __call__(self, logprobs: Float[Tensor, "P G T"], batch: UpdateBatch) -> Loss:
        """Take the loss on advantages times the capped or masked ratio of trainer to sampler."""
        mask = batch.response_mask
        weights = sampler_weights(
            batch.old_logprobs,
            batch.rollout_logprobs,
            mask,
            cut=self.cut,
            unit=self.unit,
            limit=self.max_weight,
        )
        advantages = (batch.advantages * weights).to(batch.advantages.dtype)
        out = self.loss(logprobs, replace(batch, advantages=advantages))
        limited = (weights == 0) | (weights == self.max_weight)
        tokens = max(batch.num_tokens, 1)
        return Loss(
            value=out.value,
            metrics=out.metrics
            | {
                "mismatch/mean_weight": masked_sum(weights, mask).sum() / tokens,
                "mismatch/limited_share": masked_sum(limited, mask).sum() / tokens,
            },
        )


def mismatch_metrics(
    logprobs: Float[Tensor, "P G T"], batch: UpdateBatch
) -> dict[str, Float[Tensor, ""]]:
    """Largest difference, divergence and effective share of the sampler's tokens.

    The divergence is the k3 estimate of KL(sampler || trainer), which rounding alone makes negative
    (http://joschu.net/blog/kl-approx.html), as a mean over the update's tokens.

    Args:
        logprobs: Under the trainer's policy before the update.
        batch: With the sampler's log-probs.
    """
    mask = batch.response_mask
    gap = torch.where(mask, logprobs - batch.rollout_logprobs, 0.0)
    return {
        "mismatch/max_abs_logprob": gap.abs().max(),
        "mismatch/kl_nats": masked_mean((gap.exp() - 1.0 - gap).flatten(), mask.flatten()),
        "mismatch/effective_share": effective_share(logprobs, batch.rollout_logprobs, mask),
    }
