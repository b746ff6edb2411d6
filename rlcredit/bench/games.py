"""Games of known structure: what a list of words earns. Each says what credit should see in it.

A game is asked for a question (so that easy and hard ones differ) and the numbers of the words.
Repeating a word earns nothing more, but for the rank of its place; all rewards lie in [0, 1].
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

from rlcredit.bench.catalogue import DOCUMENTS, QUESTIONS, TERMS
from rlcredit.estimators.utilities import Max
from rlcredit.retrieval import BM25
from rlcredit.retrieval.base import Documents
from rlcredit.retrieval.measures import NDCG
from rlcredit.rewards.ranking import Ranking, RankingReward, Scope
from rlcredit.types import Prompt


@runtime_checkable
class Game(Protocol):
    """What a list of words earns for a question."""

    def __call__(self, question: int, words: tuple[int, ...]) -> float:
        """Give the reward of the words for the question; 0 for no words."""
        ...


@dataclass(frozen=True, kw_only=True)
class Additive:
    """Each word earns its own worth, whatever stands beside it: all values agree."""

    worths: tuple[float, ...] = (0.5, 0.3, 0.15, 0.05)

    def __call__(self, question: int, words: tuple[int, ...]) -> float:
        """Add up the worths of the distinct words."""
        return sum((self.worths[word] for word in sorted(set(words))), 0.0)


@dataclass(frozen=True, kw_only=True)
class RedundantPairs:
    """Words 0 and 1 do the same, so do 2 and 3: of two that are there, neither is missed."""

    worths: tuple[float, float] = (0.6, 0.4)

    def __call__(self, question: int, words: tuple[int, ...]) -> float:
        """Add up the worths of the pairs of which a word or both are there."""
        return sum((self.worths[pair] for pair in sorted({word // 2 for word in words})), 0.0)


@dataclass(frozen=True, kw_only=True)
class Complements:
    """Words 0 and 1 earn something together alone, so do 2 and 3."""

    worths: tuple[float, float] = (0.7, 0.3)

    def __call__(self, question: int, words: tuple[int, ...]) -> float:
        """Add up the worths of the pairs that are complete."""
        first, second = self.worths
        return first * ({0, 1} <= {*words}) + second * ({2, 3} <= {*words})


@dataclass(frozen=True, kw_only=True)
class FreeRider:
    """Words 0 and 1 earn, together more than apart; words 2 and 3 never change anything."""

    def __call__(self, question: int, words: tuple[int, ...]) -> float:
        """Reward words 0 and 1, each and together."""
        return 0.4 * (0 in words) + 0.2 * (1 in words) + 0.4 * ({0, 1} <= {*words})


@dataclass(frozen=True, kw_only=True)
class Harmful:
    """Word 3 spoils what the others earn."""

    kept: float = 0.25
    """Share of the reward that is left where it stands."""

    def __call__(self, question: int, words: tuple[int, ...]) -> float:
        """Reward words 0 to 2, and keep a share of that where word 3 stands."""
        earned = 0.5 * (0 in words) + 0.3 * (1 in words) + 0.2 * (2 in words)
        return earned * (self.kept if 3 in words else 1.0)


@dataclass(frozen=True, kw_only=True)
class Positions:
    """A word is worth half as much one place later: taking one out moves the others up."""

    worths: tuple[float, ...] = (0.5, 0.35, 0.2, 0.05)

    def __call__(self, question: int, words: tuple[int, ...]) -> float:
        """Add up each word's worth, halved for every place before its first one."""
        places = {word: place for place, word in reversed([*enumerate(words)])}
        return sum((self.worths[word] / 2 ** places[word] for word in sorted(places)), 0.0)


@dataclass(frozen=True, kw_only=True)
class BestOf:
    """A set of candidates earns what its best one does."""

    worths: tuple[float, ...] = (0.9, 0.6, 0.35, 0.1, 0.0)

    def __call__(self, question: int, words: tuple[int, ...]) -> float:
        """Take the worth of the best word; 0 without words."""
        return max((self.worths[word] for word in words), default=0.0)


@dataclass(frozen=True, kw_only=True)
class Arms:
    """A bandit: the first arms are right (1), the next half right (a tenth), the rest wrong."""

    right: int = 4
    half_right: tuple[int, ...] = ()
    """How many, per question; none for questions beyond these."""

    def __call__(self, question: int, words: tuple[int, ...]) -> float:
        """Pay the first word by the kind of arm that it is; 0 without words."""
        if not words:
            return 0.0
        if words[0] < self.right:
            return 1.0
        half_right = self.half_right[question] if question < len(self.half_right) else 0
        return 0.1 * (words[0] < self.right + half_right)


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """nDCG@10 of the ranking that the words get from BM25 over thirty documents."""

    @cached_property
    def _reward(self) -> RankingReward:
        documents = Documents(
            ids=tuple(f"d{number:02d}" for number in range(len(DOCUMENTS))), texts=DOCUMENTS
        )
        index = BM25(k3=None).index(documents, cache=Path())  # it keeps nothing there
        return Ranking(measure=NDCG(), utility=Max(), scope=Scope.catalogue).bind(index)

    @cached_property
    def prompts(self) -> tuple[Prompt, ...]:
        """The questions, with their graded documents."""
        return tuple(
            Prompt(
                prompt_id=f"q{number}",
                text=query,
                query=query,
                relevance=relevance,
            )
            for number, (query, relevance) in enumerate(QUESTIONS)
        )

    def __call__(self, question: int, words: tuple[int, ...]) -> float:
        """Search with the distinct words, and take nDCG@10; 0 without words."""
        if not words:
            return 0.0
        text = ", ".join(TERMS[word] for word in dict.fromkeys(words))
        return self._reward([self.prompts[question]], [text]).item()
