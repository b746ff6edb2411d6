"""What a policy loss is, alone, with a KL term, or around another one."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlcredit.credit.masked import masked_sum
from rlcredit.credit.ratio import KL, kl_estimate, token_ratio
from rlcredit.types import Loss, Needs, UpdateBatch


class PolicyLoss(ABC):
    """Current log-probs in, a scalar to minimise out. Differentiable in ``logprobs`` alone."""

    couples_group: ClassVar[bool] = False
    """True if a rollout's loss depends on its siblings' current log-probs."""
    takes_tokens: ClassVar[bool] = True
    """False if the advantages of a rollout's tokens must all be the same."""

    @property
    def needs(self) -> Needs:
        """What ``batch`` must carry besides advantages and the sampler's log-probs: nothing."""
        return Needs()

    @abstractmethod
    def __call__(self, logprobs: Float[Tensor, "P G T"], batch: UpdateBatch) -> Loss:
        """Take the loss of an update or a micro-batch of it; values of micro-batches add up."""

    def aggregated(self, losses: Float[Tensor, "P G T"], batch: UpdateBatch) -> Float[Tensor, ""]:
        """Make one number of the losses of tokens: their mean over the tokens of the update."""
        return masked_sum(losses, batch.response_mask).sum() / max(batch.num_tokens, 1)


def top_entropy(batch: UpdateBatch, share: float) -> Bool[Tensor, "P G T"]:
    """True on the share of the update's tokens at which the policy's entropy is highest.

    Those of at least the (1 - share)-quantile of all, ties included.

    Raises:
        ValueError: If the batch lacks the ranks of entropies.
    """
    if batch.entropy_rank is None:
        raise ValueError(
            "tokens are chosen by their entropy, and batch.entropy_rank is None; declare "
            "Needs(entropy_rank=True)"
        )
    return batch.response_mask & (batch.entropy_rank <= share)


@dataclass(frozen=True, kw_only=True)
class KLRegularized(PolicyLoss):
    """A loss with ``kl_coef`` times the divergence from the starting policy added to it.

    Raises:
        ValueError: If the weight is negative, or the estimate has no useful gradient.
    """

    kl_coef: float = 0.0
    """Weight of the divergence from the policy that training started from; 0: none is computed."""
    kl: KL = KL.k3
    """Its estimate at each token; what the gradient descends on stands in docs/methods."""
    kl_weighted: bool = False
    """Multiply the estimate by the token's importance ratio, gradient included (k1 and k3)."""

    def __post_init__(self) -> None:
        """Refuse settings that contradict one another."""
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
        """Log-probs of the starting policy, if the divergence from it counts."""
        return Needs(ref_logprobs=self.kl_coef > 0)

    def regularized(self, loss: Loss, logprobs: Float[Tensor, "P G T"], batch: UpdateBatch) -> Loss:
        """Add the KL term to a loss, and to its metrics as ``loss/kl``.

        Raises:
            ValueError: If the batch lacks the starting policy's log-probs.
        """
        if self.kl_coef == 0:
            return loss
        divergence = self.aggregated(self._divergence(logprobs, batch), batch)
        return replace(
            loss,
            value=loss.value + self.kl_coef * divergence,
            metrics=loss.metrics | {"loss/kl": divergence.detach()},
        )

    def _divergence(
        self, logprobs: Float[Tensor, "P G T"], batch: UpdateBatch
    ) -> Float[Tensor, "P G T"]:
        """Estimated divergence from the starting policy at each token."""
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


@dataclass(frozen=True, kw_only=True)
class WrappedLoss(PolicyLoss):
    """Another loss, with something done around it; what is declared is what that loss declares."""

    loss: PolicyLoss
    """What is wrapped."""

    @property
    def needs(self) -> Needs:
        """What the wrapped loss needs."""
        return self.loss.needs

    @property
    def couples_group(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the wrapped loss couples a group."""
        return self.loss.couples_group

    @property
    def takes_tokens(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the wrapped loss takes an advantage per token."""
        return self.loss.takes_tokens

    def aggregated(self, losses: Float[Tensor, "P G T"], batch: UpdateBatch) -> Float[Tensor, ""]:
        """Make one number of the losses of tokens as the wrapped loss does."""
        return self.loss.aggregated(losses, batch)
