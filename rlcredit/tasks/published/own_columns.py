"""Lines of prompts: what each column means, and what becomes of a line."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from rlcredit.rewards.verifier import NumericProblem, TextProblem
from rlcredit.tasks.published.json_lines import text_of
from rlcredit.tasks.template import Template
from rlcredit.text.numerals import number
from rlcredit.text.response import segment_key
from rlcredit.text.words import is_word
from rlcredit.types import Problem, Prompt, Turn

RELEVANT = 3
"""The grade of a candidate that is relevant without a grade."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The names of the columns; all but the prompt's may be missing."""

    prompt: str = "prompt"
    """A text, or a list of turns ``{"role": ..., "content": ...}`` that ends with the user's."""
    id: str = "id"
    """One word; missing: the number of the line."""
    query: str = "query"
    """What a person would type into a search box; missing: the prompt."""
    answer: str = "answer"
    """What a right response says; a reward of one's own reads it too."""
    candidates: str = "candidates"
    """Texts to rank: a list of texts, or of ``{"id": ..., "text": ...}``."""
    relevance: str = "relevance"
    """Grades from 0 to 3 by id, or a list of grades, one for each candidate; true is 3."""
    demonstration: str = "demonstration"
    """A response to learn from in a warm start, or a list of them."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a line says."""

    prompt: Prompt
    candidates: Mapping[str, str]
    """document_id -> text."""
    demonstrations: tuple[str, ...]

    @property
    def key(self) -> str:
        """What makes two prompts the same: all that a policy reads, case and spaces aside."""
        return segment_key(
            " ".join([*(turn.content for turn in self.prompt.turns), self.prompt.text])
        )


@dataclass(frozen=True, kw_only=True)
class GivenTeacher:
    """Writes the demonstrations that the lines give."""

    demonstrations: Mapping[str, tuple[str, ...]]
    """prompt_id of each training prompt -> its demonstrations."""

    def content(self) -> Iterator[str]:
        """All that a demonstration depends on, for hashing."""
        for prompt_id, own in self.demonstrations.items():
            yield from (prompt_id, *own)

    def phrases(self) -> Iterator[str]:
        """All that a demonstration may say."""
        for own in self.demonstrations.values():
            yield from own

    def __call__(self, prompt: Prompt, generator: torch.Generator) -> str:
        """One of the prompt's demonstrations, each as likely as the others.

        Raises:
            ValueError: If the prompt has none.
        """
        own = self.demonstrations.get(prompt.prompt_id, ())
        if not own:
            raise ValueError(
                f"prompt {prompt.prompt_id!r} has no demonstration, which a policy made from "
                "scratch and a warm start learn from; give the column "
                "dataset.columns.demonstration, or take a pretrained policy with "
                "policy.warm_start.steps=0"
            )
        return own[int(torch.randint(len(own), (), generator=generator))]


@dataclass(frozen=True, kw_only=True)
class _Line:
    """A line with what its columns are called."""

    record: Mapping[str, Any]
    columns: Columns
    place: str
    number: int

    @property
    def where(self) -> str:
        return f"line {self.number} of {self.place}"

    def text(self, column: str) -> str:
        """The text of a column that must be there."""
        return text_of(self.record, column, self.number, self.place)

    def text_or(self, column: str, default: str) -> str:
        """The text of a column that may be missing."""
        return self.text(column) if column in self.record else default


def read_rows(
    given: Mapping[str, tuple[str, Iterable[tuple[int, Mapping[str, Any]]]]],
    columns: Columns,
    *,
    numeric: bool,
    template: Template | None = None,
) -> Iterator[tuple[str, Row]]:
    """Split and row of each line.

    Args:
        given: Split -> what a sentence calls its rows, and their numbers and columns.
        columns: What the columns are called.
        numeric: Whether answers are numbers.
        template: Makes the last message of each row; None: the column of the prompt is it.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a line is damaged, an id stands twice, a renamed column in no line, or the
            template raises.
    """
    seen: dict[str, str] = {}
    found: set[str] = set()
    for split, (place, rows) in given.items():
        for position, record in rows:
            line = _Line(record=record, columns=columns, place=place, number=position)
            row = _row(line, split, numeric=numeric, template=template)
            key = row.prompt.prompt_id
            if key in seen:
                raise ValueError(f"{line.where}: id {key!r} is that of {seen[key]} too")
            seen[key] = line.where
            found.update(record)
            yield split, row
    for column in fields(Columns):
        name = getattr(columns, column.name)
        if name != column.default and name not in found:
            raise ValueError(
                f"dataset.columns.{column.name}={name}, and no line has such a column; found "
                f"{', '.join(sorted(found)) or 'no line'}"
            )


def _row(line: _Line, split: str, *, numeric: bool, template: Template | None) -> Row:
    columns, record = line.columns, line.record
    turns, system, text = _asked(line) if template is None else _templated(line, template)
    key = line.text_or(columns.id, f"{split}-{line.number}")
    if not is_word(key):
        raise ValueError(f"{line.where}: id {key!r} is not one word, as an id must be")
    candidates = _candidates(record.get(columns.candidates) or [], key, line.where)
    told = {getattr(columns, column.name) for column in fields(Columns)} - {columns.answer}
    return Row(
        prompt=Prompt(
            prompt_id=key,
            text=text,
            query=line.text_or(columns.query, text),
            relevance=_relevance(record.get(columns.relevance), candidates, line.where),
            pool=tuple(sorted(candidates)),
            instruction=system,
            problem=_problem(line, numeric=numeric),
            turns=turns,
            row={name: value for name, value in record.items() if name not in told},
        ),
        candidates=candidates,
        demonstrations=_demonstrations(record.get(columns.demonstration) or [], line.where),
    )


def _asked(line: _Line) -> tuple[tuple[Turn, ...], str, str]:
    """Earlier turns, system message, and the last message."""
    column = line.columns.prompt
    value = line.record.get(column)
    if not isinstance(value, list):
        text = line.text(column)
        if not text.strip():
            raise ValueError(f"{line.where}: {column} is empty; a policy needs something to read")
        return (), "", text
    turns = [_turn(each, line.where) for each in value]
    system = turns.pop(0).content if turns and turns[0].role == "system" else ""
    if not turns or turns[-1].role != "user" or not turns[-1].content.strip():
        raise ValueError(f"{line.where}: the last turn of {column} must be the user's, with a text")
    return tuple(turns[:-1]), system, turns[-1].content


def _templated(line: _Line, template: Template) -> tuple[tuple[Turn, ...], str, str]:
    """The same where a template makes the message."""
    if isinstance(line.record.get(line.columns.prompt), list):
        raise ValueError(
            f"{line.where}: {line.columns.prompt} is a list of turns, and dataset.template makes "
            "one message; leave the template out, or name another column for the prompt"
        )
    return (), "", template(line.record, line.where)


def _turn(value: object, where: str) -> Turn:
    if not isinstance(value, dict) or set(value) != {"role", "content"}:
        raise ValueError(f"{where}: a turn is role and content, not {value!r:.80}")
    role, content = value["role"], value["content"]
    if role not in ("system", "user", "assistant") or not isinstance(content, str):
        raise ValueError(
            f"{where}: a turn has the role system, user or assistant and a text, not {value!r:.80}"
        )
    return Turn(role=role, content=content)


def _candidates(values: object, key: str, where: str) -> dict[str, str]:
    if not isinstance(values, list):
        raise ValueError(f"{where}: candidates are a list, not {values!r:.80}")
    found: dict[str, str] = {}
    for position, value in enumerate(values):
        document, text = f"{key}/{position}", value
        if isinstance(value, dict):
            document, text = value.get("id"), value.get("text")
        if not isinstance(text, str) or not isinstance(document, str) or not is_word(document):
            raise ValueError(
                f"{where}: a candidate is a text, or a text with an id of one word, not "
                f"{value!r:.80}"
            )
        if document in found:
            raise ValueError(f"{where}: candidate {document!r} stands there twice")
        found[document] = text
    return found


def _relevance(value: object, candidates: Mapping[str, str], where: str) -> dict[str, int]:
    if value is None:
        return {}
    given = value
    if isinstance(given, list) and len(given) == len(candidates):
        given = dict(zip(candidates, given, strict=True))
    if not isinstance(given, dict) or not given.keys() <= candidates.keys():
        raise ValueError(
            f"{where}: relevance is a grade for each of the {len(candidates)} candidates, in their "
            f"order or by id, not {value!r:.80}"
        )
    grades = {key: RELEVANT if grade is True else grade for key, grade in given.items()}
    if not all(isinstance(g, int) and 0 <= g <= RELEVANT for g in grades.values()):
        raise ValueError(f"{where}: a grade is 0 to {RELEVANT}, true or false, not {value!r:.80}")
    return {key: int(grade) for key, grade in grades.items()}


def _problem(line: _Line, *, numeric: bool) -> Problem | None:
    if line.record.get(line.columns.answer) is None:
        return None
    answer = line.text(line.columns.answer)
    if not numeric:
        return TextProblem(answer=answer)
    if number(answer) is None:
        raise ValueError(
            f"{line.where}: answer {answer!r:.80} is no number; leave dataset.answers=text, or "
            "mend it"
        )
    return NumericProblem(answer=answer)


def _demonstrations(value: object, where: str) -> tuple[str, ...]:
    given = value if isinstance(value, list) else [value]
    own = tuple(text for text in given if isinstance(text, str) and text.strip())
    if len(own) < len(given):
        raise ValueError(f"{where}: a demonstration is a text or a list of texts: {value!r:.80}")
    return own
