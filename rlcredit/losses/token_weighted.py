"""Another loss with a weight on each token: by its place, or by the policy's doubt about it."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.credit.masked import masked_sum
from rlcredit.credit.trace import over_mean, trace_weights
from rlcredit.losses.base import WrappedLoss, top_entropy
from rlcredit.types import Loss, Needs, UpdateBatch


@dataclass(frozen=True, kw_only=True)
class TokenWeighted(WrappedLoss):
    """A surrogate loss on advantages that are multiplied by weights of tokens.

    Surrogates are proportional to the advantage, so this is the loss of each token times its
    weight; what the loss divides by, and a divergence from a reference policy, are left as they
    are.

    Raises:
        ValueError: If a setting is out of its range, or the loss does not weigh tokens.
    """

    top_entropy: float | None = None
    """Only this share of the update's tokens, those at which the policy's entropy is highest, get
    a policy gradient (arXiv:2506.01939; the released code's mask); null: all."""
    position_decay: float | None = None
    """Weights of place, those that GRPO-lambda's traces of this decay amount to (loss=grpo_lambda):
    its control; null: none."""
    unit_weights: bool = False
    """Make the mean weight of each response's places 1."""

    def __post_init__(self) -> None:
        """Check the ranges, and that the loss reads an advantage per token."""
        if self.top_entropy is not None and not 0 < self.top_entropy <= 1:
            raise ValueError(
                f"loss.top_entropy={self.top_entropy} is a share of the tokens, above 0 and at "
                "most 1: use 0.2, or null for all"
            )
        if self.position_decay is not None and not 0 <= self.position_decay <= 1:
            raise ValueError(
                f"loss.position_decay={self.position_decay} must lie in [0, 1]: use 0.99"
            )
        if self.loss.couples_group or not self.loss.takes_tokens:
            raise ValueError(
                f"weights of tokens multiply advantages, and {type(self.loss).__name__} as it is "
                "set here reads one advantage per rollout; wrap loss=dapo or another surrogate of "
                "tokens (loss@loss.loss=dapo)"
            )

    @property
    def needs(self) -> Needs:
        """What the wrapped loss needs, and the order of the update's entropies for the mask."""
        return self.loss.needs | Needs(entropy_rank=self.top_entropy is not None)

    def __call__(self, logprobs: Float[Tensor, "P G T"], batch: UpdateBatch) -> Loss:
        """Take the loss on weighted advantages.

        Raises:
            ValueError: If the batch lacks the ranks of entropies.
        """
        mask = batch.response_mask
        weights = torch.where(mask, torch.ones_like(batch.advantages), 0)
        if self.position_decay is not None:
            places = trace_weights(mask, decay=self.position_decay)
            weights = (over_mean(places, mask) if self.unit_weights else places).to(weights)
        metrics = {"loss/mean_weight": masked_sum(weights, mask).sum() / max(batch.num_tokens, 1)}
        if self.top_entropy is not None:
            kept = top_entropy(batch, self.top_entropy).to(weights)
            weights = weights * kept
            metrics["loss/kept_share"] = masked_sum(kept, mask).sum() / max(batch.num_tokens, 1)
        out = self.loss(logprobs, replace(batch, advantages=batch.advantages * weights))
        return replace(out, metrics=out.metrics | metrics)
