"""What a policy loss is."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from rlcredit.types import Loss, Needs, UpdateBatch


@runtime_checkable
class PolicyLoss(Protocol):
    """Current log-probs in, a scalar to minimise out. Differentiable in ``logprobs`` alone."""

    @property
    def needs(self) -> Needs:
        """What ``batch`` must carry besides advantages."""
        ...

    @property
    def couples_group(self) -> bool:
        """True if a rollout's loss depends on its siblings' current log-probs."""
        ...

    @property
    def takes_tokens(self) -> bool:
        """False if the advantages of a rollout's tokens must all be the same."""
        ...

    def __call__(self, logprobs: Float[Tensor, "P G T"], batch: UpdateBatch) -> Loss:
        """Run once per update and micro-batch; the values of all micro-batches add up."""
        ...
