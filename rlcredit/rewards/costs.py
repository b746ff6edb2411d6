"""What the words of a search text cost: against texts that say more than they need to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.text.words import words


@dataclass(frozen=True, kw_only=True)
class WordCosts:
    """A cost for each word of a search text, and another for each that the catalogue has not.

    cost(text) = word * (words of the text) + unknown * (those of them not in the catalogue)

    Repetitions count. What the task's rules leave out of a search text costs nothing, so a segment
    that does not count neither earns nor costs, and the costs of a coalition are those of its own
    text. The empty text costs nothing.
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
