"""What a policy loss is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

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


@dataclass(frozen=True, kw_only=True)
class WrappedLoss(PolicyLoss):
    """Another loss, with something done around it; what is declared is what that loss declares."""

    loss: PolicyLoss

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
