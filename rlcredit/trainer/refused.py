"""A batch on which the optimizer did not step."""

from dataclasses import dataclass

from rlcredit.types import Rollouts, UpdateBatch


@dataclass(frozen=True, kw_only=True)
class Refused:
    """All that is needed to compute the update again, besides the weights, which did not move."""

    batch: UpdateBatch
    rollouts: Rollouts
    step: int
    update: int
    """Number of the update on this batch, from 0; the first one is on-policy."""


class RefusedBatchError(RuntimeError):
    """The optimizer has not stepped on a batch, and the run ends on it."""

    def __init__(self, message: str, refused: Refused) -> None:
        super().__init__(message)
        self.refused = refused


class NonFiniteError(RefusedBatchError):
    """A loss or gradient is NaN or infinite."""


class MismatchError(RefusedBatchError):
    """The sampler is not the policy that is trained."""
