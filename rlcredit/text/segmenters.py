"""Segmenters that cut at delimiters: what is written later never moves a segment that is closed."""

import re
from dataclasses import dataclass

from rlcredit.text.spans import Span

_SENTENCE_END = re.compile(r"(?<![.!?])[.!?]++(?=\s|\Z)|[。！？｡।॥؟۔።]++|\n")
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """The non-empty stretches between delimiters, without outer white space.

    >>> Phrases()("red, , big tent")
    [Span(start=0, end=3), Span(start=7, end=15)]

    Raises:
        ValueError: If the delimiter is empty.
    """

    delimiter: str = ","
    """What stands between two segments."""

    def __post_init__(self) -> None:
        """Check the delimiter."""
        if not self.delimiter:
            raise ValueError("delimiter='' cuts nowhere; give the text that stands between phrases")

    def __call__(self, text: str) -> list[Span]:
        """Cut at every delimiter; empty phrases are left out."""
        cuts = [match.span() for match in re.finditer(re.escape(self.delimiter), text)]
        return _pieces(text, cuts)


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """Sentences with their closing ``.``, ``!`` or ``?``; a line break ends one too.

    A full stop inside a word (``3.5``) ends nothing; an abbreviation's does. The full stops of
    Chinese, Japanese, Hindi, Arabic, Urdu and Amharic end a sentence without a blank behind them.

    >>> Sentences()("Red tent. Big!")
    [Span(start=0, end=9), Span(start=10, end=14)]
    >>> [span.of("赤い。軽い。") for span in Sentences()("赤い。軽い。")]
    ['赤い。', '軽い。']
    """

    def __call__(self, text: str) -> list[Span]:
        """Cut behind every end of a sentence; white space around sentences is left out."""
        ends = [match.end() for match in _SENTENCE_END.finditer(text)]
        return _pieces(text, [(end, end) for end in ends])


@dataclass(frozen=True, kw_only=True)
class Pattern:
    r"""What a regular expression matches, each match a segment, without outer white space.

    >>> text = "1. red\n2. big tent"
    >>> [span.of(text) for span in Pattern(pattern=r"(?m)^\d+\. .*$")(text)]
    ['1. red', '2. big tent']

    Raises:
        ValueError: If it is no regular expression, or matches the empty text.
    """

    pattern: str
    """In Python's syntax."""

    def __post_init__(self) -> None:
        """Check the expression."""
        try:
            empty = re.fullmatch(self.pattern, "")
        except re.error as error:
            raise ValueError(
                f"segmenter.pattern={self.pattern} is no regular expression: {error}"
            ) from error
        if empty:
            raise ValueError(
                f"segmenter.pattern={self.pattern} matches the empty text, which is no segment; "
                "write + for *"
            )

    def __call__(self, text: str) -> list[Span]:
        """Find every match from left to right; one of white space alone is left out."""
        found: list[Span] = []
        for match in re.finditer(self.pattern, text):
            inner = match.group().strip()
            if inner:
                start = match.start() + match.group().index(inner)
                found.append(Span(start, start + len(inner)))
        return found


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Runs of ``num_words`` words; the last run may be shorter.

    >>> Windows(num_words=2)("a big red")
    [Span(start=0, end=5), Span(start=6, end=9)]

    Raises:
        ValueError: If a window has no word.
    """

    num_words: int = 4
    """Words of a segment."""

    def __post_init__(self) -> None:
        """Check the width."""
        if self.num_words < 1:
            raise ValueError(f"num_words={self.num_words}, but a window has at least 1 word")

    def __call__(self, text: str) -> list[Span]:
        """Cut behind every ``num_words`` words."""
        words = [match.span() for match in _WORD.finditer(text)]
        windows = [words[i : i + self.num_words] for i in range(0, len(words), self.num_words)]
        return [Span(window[0][0], window[-1][1]) for window in windows]


def _pieces(text: str, cuts: list[tuple[int, int]]) -> list[Span]:
    """What lies between the cuts (half-open, in order), stripped; empty pieces are left out."""
    starts = [0, *(end for _, end in cuts)]
    ends = [*(start for start, _ in cuts), len(text)]
    spans = []
    for start, end in zip(starts, ends, strict=True):
        piece = text[start:end]
        inner = piece.strip()
        if inner:
            start += piece.index(inner)
            spans.append(Span(start, start + len(inner)))
    return spans
