"""What the data sets' settings have in common, and how a loaded set is put together."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum, auto
from hashlib import blake2b
from itertools import chain
from typing import TypeVar

from rlcredit.retrieval.base import Documents
from rlcredit.tasks.base import SearchTask, Task
from rlcredit.tasks.instructions import asking
from rlcredit.tasks.sets import MAX_PHRASES, SetTeacher, asking_for_sets
from rlcredit.tasks.teachers import HashedTeacher, SearchTeacher
from rlcredit.text.response import Compose, TextRules
from rlcredit.text.words import vocabulary
from rlcredit.types import Prompt

SPLITS = ("train", "validation", "test")


class Source(StrEnum):
    """Where a data set comes from: made from a seed, read from published files, or the hub."""

    generated = auto()
    path = auto()
    hub = auto()


def reading(source: Source, rules: TextRules) -> int:
    """Version of how texts are read (``Dataset.reading``).

    2: published texts are compared in NFKC and stripped of HTML's own tags alone; where copies are
    scored, a game of first copies has none in the value of everyone. 3: where the query is put in
    front, what it earns alone is no segment's credit.
    """
    if rules.compose is Compose.expand:
        return 3
    return 1 if source is Source.generated and rules.unique else 2


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much of a data set is used; None means all of it.

    Raises:
        ValueError: If a limit is below 1.
    """

    train: int | None
    validation: int | None
    test: int | None
    documents: int | None

    def __post_init__(self) -> None:
        """Check the limits."""
        for name, limit in vars(self).items():
            if limit is not None and limit < 1:
                raise ValueError(f"dataset.max_{name}={limit} is below 1; null means no limit")

    def of(self, split: str) -> int | None:
        """The limit of one of the three splits."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]


GENERATED_RULES = TextRules(
    max_phrases=8, max_words=3, unique=True, new_words=True, void_overlong=True
)
REAL_RULES = TextRules()


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A loaded set before its rules are fixed. Made by the readers and generators."""

    documents: Documents
    train: tuple[Prompt, ...]
    validation: tuple[Prompt, ...]
    test: tuple[Prompt, ...]
    teacher: SearchTeacher
    counts: Mapping[str, int]
    hidden: frozenset[str] = frozenset()
    """Documents relevant to held-out prompts, which the training side may not read."""


def text_rules(
    source: Source,
    *,
    max_phrases: int | None,
    max_words: int | None,
    unique: bool | None,
    new_words: bool | None,
    void_overlong: bool | None,
    num_candidates: int,
    compose: Compose,
) -> TextRules:
    """The rules of the scored text: None takes the source's default, and 0 means no limit.

    The limits are those of a candidate where the task asks for several.
    """
    default = GENERATED_RULES if source is Source.generated else REAL_RULES
    if num_candidates and source is Source.generated:
        default = dataclasses.replace(default, max_phrases=MAX_PHRASES)
    return TextRules(
        num_candidates=num_candidates,
        max_phrases=default.max_phrases if max_phrases is None else max_phrases or None,
        max_words=default.max_words if max_words is None else max_words or None,
        unique=default.unique if unique is None else unique,
        new_words=default.new_words if new_words is None else new_words,
        void_overlong=default.void_overlong if void_overlong is None else void_overlong,
        compose=compose,
    )


def finish(
    name: str,
    source: Source,
    parts: Parts,
    rules: TextRules,
    *,
    known_words: bool | None = False,
    instruction: str | None = None,
) -> SearchTask:
    """The search task, with its content hash.

    Args:
        name: Of the data set.
        source: Where it comes from.
        parts: What was loaded.
        rules: Of the scored text, but for the known words.
        known_words: Whether the words of a phrase must stand in the catalogue, the training
            prompts or what their teacher says for it to count; None: if the set is generated.
        instruction: What the prompts ask instead of the task's own instruction.

    Raises:
        ValueError: If a split is empty.
    """
    _check_splits(name, parts)
    if source is Source.generated if known_words is None else known_words:
        rules = dataclasses.replace(rules, known_words=_known_words(parts))
    teacher: HashedTeacher = parts.teacher
    parts = _instructed(parts, instruction)
    if rules.num_candidates:
        parts = _asking_for_sets(parts, rules.num_candidates)
        teacher = SetTeacher(base=teacher, num_candidates=rules.num_candidates)
    return SearchTask(
        name=name,
        source=str(source),
        documents=parts.documents,
        train=parts.train,
        validation=parts.validation,
        test=parts.test,
        rules=rules,
        teacher=teacher,
        hidden=parts.hidden,
        counts=parts.counts,
        digest=_digest(_content(parts, teacher, rules)),
    )


@dataclass(frozen=True, kw_only=True)
class VerifiedParts:
    """A loaded set of problems before its rules are fixed. Made by readers and generators."""

    train: tuple[Prompt, ...]
    validation: tuple[Prompt, ...]
    test: tuple[Prompt, ...]
    teacher: HashedTeacher
    counts: Mapping[str, int]


_PartsT = TypeVar("_PartsT", Parts, VerifiedParts)


def finish_verified(
    name: str,
    source: Source,
    parts: VerifiedParts,
    rules: TextRules,
    *,
    instruction: str | None = None,
) -> Task:
    """The task of verified answers, with its content hash.

    Raises:
        ValueError: If a split is empty.
    """
    _check_splits(name, parts)
    parts = _instructed(parts, instruction)
    content = [repr(rules), *parts.teacher.content()]
    for split in SPLITS:
        content.append(split)
        for prompt in getattr(parts, split):
            content += [repr(prompt), *_own_content(prompt)]
    return Task(
        name=name,
        source=str(source),
        train=parts.train,
        validation=parts.validation,
        test=parts.test,
        rules=rules,
        teacher=parts.teacher,
        counts=parts.counts,
        digest=_digest(content),
    )


def _check_splits(name: str, parts: Parts | VerifiedParts) -> None:
    for split in SPLITS:
        if not getattr(parts, split):
            raise ValueError(
                f"no {split} prompts are left of {name} after its filters, "
                f"{dict(parts.counts)}; a run needs all three splits, so loosen the filters or "
                "give it more data"
            )


def _instructed(parts: _PartsT, instruction: str | None) -> _PartsT:
    return dataclasses.replace(
        parts,
        train=asking(parts.train, instruction),
        validation=asking(parts.validation, instruction),
        test=asking(parts.test, instruction),
    )


def _known_words(parts: Parts) -> tuple[str, ...]:
    """The words of the catalogue, of the training prompts and of their demonstrations."""
    asked = (text for prompt in parts.train for text in (prompt.text, prompt.query))
    texts = chain(parts.documents.texts, asked, parts.teacher.phrases())
    return tuple(sorted(vocabulary(texts)))


def _asking_for_sets(parts: Parts, num_candidates: int) -> Parts:
    return dataclasses.replace(
        parts,
        train=asking_for_sets(parts.train, num_candidates),
        validation=asking_for_sets(parts.validation, num_candidates),
        test=asking_for_sets(parts.test, num_candidates),
    )


def oracle_text(prompt: Prompt, *, without: tuple[str, ...] = ()) -> str:
    """The canonical wording of each true attribute, or "" where the truth is not known.

    Args:
        prompt: Its ``truth`` lists each attribute's canonical wording before its paraphrases.
        without: Attributes left out.
    """
    canonical: dict[str, str] = {}
    for wording, attribute in prompt.truth.items():
        canonical.setdefault(attribute, wording)
    return ", ".join(text for attribute, text in canonical.items() if attribute not in without)


def _content(parts: Parts, teacher: HashedTeacher, rules: TextRules) -> Iterable[str]:
    yield repr(rules)
    if rules.new_words:
        yield "new words"
    if rules.void_overlong:
        yield "void overlong"
    if rules.known_words is not None:  # which they are, the texts below say
        yield "known words"
    for document_id, text in zip(parts.documents.ids, parts.documents.texts, strict=True):
        yield from (document_id, text)
    for split in SPLITS:
        yield split
        for prompt in getattr(parts, split):
            yield from (prompt.prompt_id, prompt.text, prompt.query, prompt.instruction)
            grades = sorted((d, g) for d, g in prompt.relevance.items() if g)  # 0 changes no reward
            yield json.dumps([grades, prompt.pool, list(prompt.truth.items())])
            yield from _own_content(prompt)
    yield from teacher.content()


def _own_content(prompt: Prompt) -> Iterator[str]:
    """What only data of one's own have: earlier turns, an answer, other columns."""
    if prompt.turns or prompt.row:
        yield repr(prompt.turns)
        yield json.dumps(prompt.row, sort_keys=True)


def _digest(texts: Iterable[str]) -> str:
    """Each text enters with its length, so that no two lists of texts look the same."""
    digest = blake2b(digest_size=16)
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()
