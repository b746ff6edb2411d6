"""Noisy teachers: they write the demonstrations from which a small policy learns the format.

A teacher is wrong often enough to leave reinforcement learning something to find. It knows training
prompts only and refuses any other.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

import torch

from rlcredit.tasks.base import Teacher
from rlcredit.types import Prompt

LENGTHS = (4, 5, 6, 7, 7, 7, 8, 8)
"""Phrases in a demonstration, each entry as likely as the others; 6.5 on average."""

OPENING = 0.6
"""Probability with which a confused teacher opens with a topic, the right one or the other."""

_NUM_DRAWS = 100


class HashedTeacher(Teacher, Protocol):
    """A teacher that says what its demonstrations depend on."""

    def content(self) -> Iterator[str]:
        """All that a demonstration depends on, for hashing."""
        ...


class SearchTeacher(HashedTeacher, Protocol):
    """A teacher of search texts, whose words are known before it writes."""

    def phrases(self) -> Iterator[str]:
        """Every phrase that a demonstration may hold."""
        ...


@dataclass(frozen=True, kw_only=True)
class PhraseSource:
    """Phrases that a teacher draws from, and how often it turns to them."""

    weight: float
    phrases: tuple[str, ...]

    def draw(self, draw: float) -> str:
        """A phrase, for a number drawn from [0, 1)."""
        return self.phrases[int(draw * len(self.phrases))]


@dataclass(frozen=True, kw_only=True)
class PhraseTeacher:
    """Writes 4 to 8 different phrases, "phrase, phrase, ...", each from a source drawn by weight.

    Fewer phrases come out only where the sources hold fewer.
    """

    sources: Mapping[str, tuple[PhraseSource, ...]]
    """prompt_id of each training prompt -> what its demonstrations are made of."""
    openings: Mapping[str, PhraseSource] = field(default_factory=dict)
    """prompt_id -> what the first phrase is drawn from, with the source's weight as probability."""

    def content(self) -> Iterator[str]:
        """All that a demonstration depends on, for hashing."""
        lists: dict[tuple[str, ...], str] = {}
        for prompt_id, sources in self.sources.items():
            yield f"{prompt_id} {self.openings.get(prompt_id)!r}"
            for source in sources:
                yield repr(source.weight)
                if source.phrases not in lists:
                    lists[source.phrases] = repr(source.phrases)
                yield lists[source.phrases]

    def phrases(self) -> Iterator[str]:
        """Every phrase that a demonstration may hold; a list that several sources share, once."""
        sources = (one for own in self.sources.values() for one in own)
        for phrases in dict.fromkeys(s.phrases for s in (*sources, *self.openings.values())):
            yield from phrases

    def __call__(self, prompt: Prompt, generator: torch.Generator) -> str:
        """One demonstration.

        Raises:
            ValueError: If the prompt is not a training prompt.
        """
        if prompt.prompt_id not in self.sources:
            raise ValueError(
                f"prompt {prompt.prompt_id!r} is not a training prompt, and demonstrations are "
                "written for training prompts only"
            )
        sources = [source for source in self.sources[prompt.prompt_id] if source.phrases]
        weights = list(accumulate(source.weight for source in sources))
        opening = self.openings.get(prompt.prompt_id)
        draws = torch.rand(_NUM_DRAWS, generator=generator).tolist()
        num_phrases = LENGTHS[int(draws.pop() * len(LENGTHS))]
        phrases: dict[str, None] = {}
        if opening and draws.pop() < opening.weight:
            phrases[opening.draw(draws.pop())] = None
        while sources and len(draws) > 1 and len(phrases) < num_phrases:
            at = draws.pop() * weights[-1]
            source = next(
                (one for one, weight in zip(sources, weights, strict=True) if at < weight),
                sources[-1],
            )
            phrases[source.draw(draws.pop())] = None
        return ", ".join(phrases)


def canonical(wordings: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The first wording of each attribute: a teacher leaves the paraphrases to the policy."""
    return tuple(one[0] for one in wordings.values())


def confused_opening(topic: str, other: str) -> PhraseSource:
    """OPENING of the demonstrations open with a topic, and with the wrong one every other time."""
    return PhraseSource(weight=OPENING, phrases=(topic, other))


def confused_sources(
    *,
    truth: tuple[str, ...],
    mistaken: tuple[str, ...],
    generic: tuple[str, ...],
    anything: tuple[str, ...],
) -> tuple[PhraseSource, ...]:
    """A teacher that mistakes who asks for someone else as often as not.

    Three phrases in ten are true, three are true of the one it is mistaken for, one is praise, and
    three are about anything. Its most frequent phrases are no better than its rare ones, so that
    sharpening the policy's distribution alone does not solve the task.
    """
    return (
        PhraseSource(weight=0.3, phrases=truth),
        PhraseSource(weight=0.3, phrases=mistaken),
        PhraseSource(weight=0.1, phrases=generic),
        PhraseSource(weight=0.3, phrases=anything),
    )
