"""What an advantage estimator is."""

from enum import StrEnum, auto
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from rlcredit.types import Advantages, CandidateRewards, Needs, Signals


class Grain(StrEnum):
    """The finest part of a batch that gets credit of its own."""

    rollout = auto()
    segment = auto()
    candidate = auto()


class Centring(StrEnum):
    """Over what an estimator's credit is centred, so that the policy cannot win by re-segmenting.

    ``response``: weights have mean 1, or additions sum to 0, over each response's tokens.
    ``group``: advantages are centred over the rollouts of a prompt. ``none``: a guard is named in
    METHODS.md.
    """

    response = auto()
    group = auto()
    none = auto()


@runtime_checkable
class AdvantageEstimator(Protocol):
    """Signals in, credit per token out. Pure: no gradient, no I/O, no state."""

    @property
    def needs(self) -> Needs:
        """What ``signals`` must carry."""
        ...

    @property
    def grain(self) -> Grain:
        """The finest part that gets credit of its own."""
        ...

    @property
    def centring(self) -> Centring:
        """What the credit is centred over."""
        ...

    def __call__(self, signals: Signals) -> Advantages:
        """Run once per batch, before the first update on it."""
        ...


@runtime_checkable
class SetUtility(Protocol):
    """What a set of candidates earns; v(empty) = 0."""

    reads_covers: ClassVar[bool]
    """Whether ``candidates.covers`` must be there."""

    def __call__(
        self, candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
    ) -> Float[Tensor, "P G"]:
        """Utility of the set that ``mask`` says, in reward units."""
        ...

    def shapley(
        self, candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
    ) -> Float[Tensor, "P G K"]:
        """Shapley value of each candidate of that set; 0 for the others."""
        ...
