"""What a reward is."""

from collections.abc import Iterable, Sequence
from functools import singledispatch
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from rlcredit.types import Counts, Prompt


@runtime_checkable
class Reward(Protocol):
    """(prompt, text) pairs in, numbers out, in one batch: all that a reward of one's own needs.

    The same reward scores whole responses, coalitions of segments, and candidates: only the texts
    differ.
    """

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Float[Tensor, " N"]:
        """The reward of each text for the prompt beside it. A reward that cannot be had raises."""
        ...


@runtime_checkable
class CountingReward(Reward, Protocol):
    """A reward that counts what it was asked for, and remembers what it answered."""

    @property
    def counts(self) -> Counts:
        """What was asked so far, and what of it was remembered."""
        ...


def counts_of(rewards: Iterable[Reward]) -> Counts:
    """The counts of those rewards that count, added up."""
    counting = [reward for reward in rewards if isinstance(reward, CountingReward)]
    return sum((reward.counts for reward in counting), Counts())


@singledispatch
def scores_parts(reward: object) -> bool:
    """Whether a response with segments left out has a reward that means something.

    A class of rewards for which this is not so registers itself:
    ``scores_parts.register(MyReward, lambda reward: False)``. Estimators that ask for rewards of
    parts are then refused.
    """
    del reward
    return True
