"""What a reward is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from rlcredit.types import Prompt

if TYPE_CHECKING:
    from rlcredit.rewards.ranking import Ranking
    from rlcredit.rewards.verifier import Verifier

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


@runtime_checkable
class Reward(Protocol):
    """(prompt, text) pairs in, numbers out, in one batch.

    The same reward scores whole responses, coalitions of segments, and candidates: only the texts
    differ.
    """

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Float[Tensor, " N"]:
        """The reward of each text for the prompt beside it. A reward that cannot be had raises."""
        ...


@runtime_checkable
class Graders(Protocol[T_co]):
    """Makes whatever grades a run; a reward's settings call the method that is theirs."""

    def by_ranking(self, settings: "Ranking") -> T_co:
        """What a text finds, put into a retriever."""
        ...

    def by_rule(self, settings: "Verifier") -> T_co:
        """Whether a text is a correct answer."""
        ...


@runtime_checkable
class RewardSettings(Protocol):
    """A reward as it is configured, before the data are there."""

    @property
    def scores_parts(self) -> bool:
        """Whether parts of a response (segments left out) have rewards that mean something."""
        ...

    def grader(self, graders: Graders[T]) -> T:
        """The one of ``graders`` that fits this reward."""
        ...
