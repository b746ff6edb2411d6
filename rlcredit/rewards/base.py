"""What a reward is."""

from collections.abc import Sequence
from functools import singledispatch
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from rlcredit.types import Prompt


@runtime_checkable
class Reward(Protocol):
    """(prompt, text) pairs in, numbers out, in one batch: all that a reward of one's own needs.

    The same reward scores whole responses, coalitions of segments, and candidates: only the texts
    differ.
    """

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Float[Tensor, " N"]:
        """The reward of each text for the prompt beside it. A reward that cannot be had raises."""
        ...


@singledispatch
def scores_parts(reward: object) -> bool:
    """Whether a response with segments left out has a reward that means something.

    A class of rewards for which this is not so registers itself:
    ``scores_parts.register(MyReward, lambda reward: False)``. Estimators that ask for rewards of
    parts are then refused.
    """
    del reward
    return True
