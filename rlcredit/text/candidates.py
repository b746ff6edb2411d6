"""Candidates: several search texts that one response offers, each to be judged alone.

    <c1>tent for two, light</c1><c2>family tent, cheap</c2>        blocks, or
    1. tent for two, light                                         a numbered list, a line each
    2. family tent, cheap

Where a response holds a block, only blocks are read. The tag of a block must be closed by its own
number: a block that the length cap cut off is no candidate. Which number it is does not matter; the
order in the text does.
"""

import re
from collections.abc import Iterator

from rlcredit.text.spans import Span

_BLOCK = re.compile(r"<c(\d+)>((?:(?!</?c\d+>).)*)</c\1>", re.IGNORECASE | re.DOTALL)
_OPENED = re.compile(r"<c\d+>", re.IGNORECASE)
_LINE = re.compile(r"^[ \t]*\d+[.)][ \t]*(.*)$", re.MULTILINE)

MAX_CANDIDATES = 16
"""Most candidates a task may ask for; a response may hold more, and is then none of exactly K."""


def tags(num_candidates: int) -> list[tuple[str, str]]:
    """Opening and closing tag of each candidate.

    >>> tags(2)
    [('<c1>', '</c1>'), ('<c2>', '</c2>')]
    """
    return [(f"<c{number}>", f"</c{number}>") for number in range(1, num_candidates + 1)]


def written(candidates: list[str]) -> str:
    """A response that offers these candidates.

    >>> written(["tent, red", "boat"])
    '<c1>tent, red</c1><c2>boat</c2>'
    """
    pairs = zip(tags(len(candidates)), candidates, strict=True)
    return "".join(f"{opening}{text}{closing}" for (opening, closing), text in pairs)


def candidate_spans(text: str) -> tuple[Span, ...]:
    """The characters of each candidate, without white space around it; empty ones included.

    >>> [span.of("<c1> tent </c1> or <c2>boat</c2>") for span in
    ...  candidate_spans("<c1> tent </c1> or <c2>boat</c2>")]
    ['tent', 'boat']
    >>> candidate_spans("<c1>tent</c1><c2>bo")
    (Span(start=4, end=8),)
    >>> candidate_spans("tent, boat")
    ()
    """
    return tuple(_trimmed(text, start, end) for start, end in _found(text))


def instruction(num_candidates: int) -> str:
    """What a policy with a chat template is told about the format."""
    shown = written(["...", "..."]).replace("</c1><c2>", "</c1> <c2>")
    return (
        f"Offer exactly {num_candidates} alternatives, each between tags of its own, {shown} and "
        f"so on to </c{num_candidates}>, and nothing else."
    )


def _found(text: str) -> Iterator[tuple[int, int]]:
    if _OPENED.search(text):
        return (match.span(2) for match in _BLOCK.finditer(text))
    return (match.span(1) for match in _LINE.finditer(text))


def _trimmed(text: str, start: int, end: int) -> Span:
    inner = text[start:end]
    start += len(inner) - len(inner.lstrip()) if inner.strip() else 0
    return Span(start, start + len(inner.strip()))
