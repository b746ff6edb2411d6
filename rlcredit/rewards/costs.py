"""What the words of a text cost: against texts that say more than they need to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.rewards.base import Reward
from rlcredit.text.words import words
from rlcredit.types import Prompt


@dataclass(frozen=True, kw_only=True)
class WordCosts:
    """A cost for each word of a text, and another for each that the catalogue has not.

    cost(text) = word * (words of the text) + unknown * (those of them not in the catalogue)

    The text is the scored text as it is written: a word costs each time, and what the task's rules
    leave out of the search costs as well. The empty text costs nothing.
    """

    word: float
    unknown: float
    known: frozenset[str] | None
    """The catalogue's words; None: not known, and then unknown words cannot cost."""

    def __bool__(self) -> bool:
        """Whether anything costs."""
        return bool(self.word or self.unknown)

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, " N"]:
        """What each text costs, in units of the reward.

        Raises:
            ValueError: If unknown words cost, and the catalogue's words were not given.
        """
        if self.unknown and self.known is None:
            raise ValueError(
                f"unknown_cost={self.unknown}, but the catalogue's words are not known here; bind "
                "the reward with catalogue=<the task's documents>"
            )
        return torch.tensor([self._cost(words(text)) for text in texts], dtype=torch.float32)

    def _cost(self, said: Sequence[str]) -> float:
        unknown = sum(word not in (self.known or ()) for word in said) if self.unknown else 0
        return self.word * len(said) + self.unknown * unknown


@runtime_checkable
class ChargingReward(Protocol):
    """A reward of search texts for whose words something is charged."""

    @property
    def costs(self) -> WordCosts:
        """What the words of a text cost."""
        ...


def charges(reward: Reward) -> bool:
    """Whether a reward charges anything for the words of a text."""
    return isinstance(reward, ChargingReward) and bool(reward.costs)


def earned(
    reward: Reward, prompts: Sequence[Prompt], *, written: Sequence[str], searched: Sequence[str]
) -> Float[Tensor, " N"]:
    """What texts earn: the reward of what they search with, less what they cost as written.

    One rule for whole responses, coalitions and candidates.

    Args:
        reward: Of search texts.
        prompts: N of them.
        written: The scored text, or part of it, beside each.
        searched: What of that the task's rules let through to the retriever.
    """
    values = reward(prompts, searched)
    if isinstance(reward, ChargingReward) and reward.costs:
        return values - reward.costs(written).to(values)
    return values


def check_cost(name: str, cost: float) -> None:
    """Refuse a cost that pays, or is no number.

    Raises:
        ValueError: If it is negative or not finite.
    """
    if not (cost >= 0 and math.isfinite(cost)):
        raise ValueError(
            f"reward.{name}={cost}, but a cost is 0 or more and finite; 0 switches it off, and "
            "0.01 is a hundredth of the best nDCG"
        )
