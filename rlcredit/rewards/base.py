"""What a reward is."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from rlcredit.types import Prompt


@runtime_checkable
class Reward(Protocol):
    """(prompt, text) pairs in, numbers out, in one batch.

    The same reward scores whole responses, coalitions of segments, and candidates: only the texts
    differ.
    """

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Float[Tensor, " N"]:
        """The reward of each text for the prompt beside it. A reward that cannot be had raises."""
        ...
