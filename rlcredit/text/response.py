"""Which part of a response is searched with, and what becomes of it on the way to the retriever.

Knows strings only. A response is first cut down to its *scored text*, a span of it; the pieces of
that span (the whole, or a coalition of segments) then pass ``search_text``, the only way to a
retriever.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum, auto
from functools import cached_property, lru_cache

from rlcredit.text.candidates import MAX_CANDIDATES, candidate_spans
from rlcredit.text.spans import Span
from rlcredit.text.words import folded, words

READ_TAGS = frozenset({"<think>", "</think>", "<answer>", "</answer>"})
"""Tags that the rules below read."""

_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.IGNORECASE | re.DOTALL)
_THOUGHT = re.compile(
    r"\s*<think>.*?(?:</think>|\Z)|(?:(?!<think>).)*?</think>", re.IGNORECASE | re.DOTALL
)
_OPENED = re.compile(r"<think>\s*\Z", re.IGNORECASE)


class Compose(StrEnum):
    """What the retriever gets: the policy's own text, or the query with that text behind it."""

    own = auto()
    expand = auto()


def opened_thought(prompt: str) -> str:
    r"""The tag of a thought that a prompt opens for the response, with the white space behind it.

    Chat templates of models that always think end a prompt with it. A response to such a prompt is
    read with this text in front of it, so that a thought that the length cap cut off is known as
    one.

    >>> opened_thought("User: a tent. Assistant: <think>\n"), opened_thought("<think></think>")
    ('<think>\n', '')
    """
    opened = _OPENED.search(prompt)
    return opened.group() if opened else ""


@lru_cache(maxsize=2**16)  # coalitions repeat the same segments thousands of times a step
def segment_key(segment: str) -> str:
    """The segment, folded and single-spaced; two segments with one key are copies of each other.

    >>> segment_key("  Hiking   Boots")
    'hiking boots'
    """
    return " ".join(folded(segment).split())


_UNREADABLE = re.compile("[\x00-\x1f\x7f-\x9f\ufffd]")
"""Control characters, and the sign for bytes that are no character."""


@lru_cache(maxsize=2**16)
def words_of(phrase: str) -> frozenset[str]:
    """The different words of a phrase, folded."""
    return frozenset(words(phrase))


@dataclass(frozen=True, kw_only=True)
class TextRules:
    """The task's rules for the scored text; with the defaults the text is taken as it stands.

    Raises:
        ValueError: If a limit is below 1.
    """

    max_phrases: int | None = None
    """The scored text ends after so many comma-separated phrases, whether they count or not."""
    max_words: int | None = None
    """A phrase of more words counts as nothing."""
    unique: bool = False
    """A phrase that repeats an earlier one (case and spaces aside) counts as nothing."""
    known_words: tuple[str, ...] | None = field(default=None, repr=False)
    """A phrase of other words, of none, or with a control character or U+FFFD counts as nothing;
    None: any words count."""
    new_words: bool = field(default=False, repr=False)
    """A phrase all of whose words were said by phrases before it counts as nothing."""
    void_overlong: bool = field(default=False, repr=False)
    """A text of more phrases than ``max_phrases`` counts as nothing (the overlong responses of
    DAPO, arXiv:2503.14476, sec. 3.4); else it is cut there, and what follows is free."""
    num_candidates: int = 0
    """K: a response offers so many search texts, each with the limits above; 0: it is one."""
    compose: Compose = Compose.own
    """``expand`` puts the query in front, which makes writing nothing as good as the raw query."""

    def __post_init__(self) -> None:
        """Check the limits."""
        for name, limit in (("max_phrases", self.max_phrases), ("max_words", self.max_words)):
            if limit is not None and limit < 1:
                raise ValueError(f"{name}={limit}, but a limit is at least 1; null switches it off")
        if not 0 <= self.num_candidates <= MAX_CANDIDATES:
            raise ValueError(
                f"num_candidates={self.num_candidates}, but a response offers 1 to "
                f"{MAX_CANDIDATES} candidates; 0 makes it one text"
            )

    def scored_span(self, response: str) -> Span:
        """The part of a response that is searched with, without outer white space.

        Reasoning at the head (``<think>..</think>``; to the end where it is never closed) is left
        out, and so is all before a ``</think>`` that nothing opened. Of what remains it is the
        content of the first ``<answer>..</answer>`` (to the end where it is never closed), or all
        of it where there is none. ``max_phrases`` cuts it short, unless it offers candidates: then
        each of them is cut.

        >>> TextRules(max_phrases=2).scored_span("<answer> tent, red, big</answer>")
        Span(start=9, end=18)
        """
        thought = _THOUGHT.match(response)
        start, end = (thought.end() if thought else 0), len(response)
        answer = _ANSWER.search(response, start)
        if answer:
            start, end = answer.span(1)
        span = Span(start, end) if self.num_candidates else self._cut(response, start, end)
        return _trimmed(response, span)

    def candidate_spans(self, response: str) -> tuple[Span, ...]:
        """What is scored of each candidate that the response offers, empty ones included.

        >>> TextRules(num_candidates=2, max_phrases=1).candidate_spans("<c1>a, b</c1><c2></c2>")
        (Span(start=4, end=5), Span(start=17, end=17))
        """
        scored = self.scored_span(response)
        found = candidate_spans(scored.of(response))
        moved = [(scored.start + span.start, scored.start + span.end) for span in found]
        return tuple(_trimmed(response, self._cut(response, *bounds)) for bounds in moved)

    def pieces(self, response: str) -> tuple[Span, ...]:
        """The texts that are searched with: the scored text, or each candidate."""
        if self.num_candidates:
            return self.candidate_spans(response)
        return (self.scored_span(response),)

    def _cut(self, response: str, start: int, end: int) -> Span:
        """The first ``max_phrases`` phrases; none under ``void_overlong`` where there are more."""
        if self.max_phrases is None:
            return Span(start, end)
        commas = (match.start() for match in re.finditer(",", response[start:end]))
        cut = next((at for count, at in enumerate(commas, 1) if count == self.max_phrases), None)
        if cut is None:
            return Span(start, end)
        return Span(start, start if self.void_overlong else start + cut)

    def is_valid(self, segment: str) -> bool:
        """Whether the task counts the segment by itself: 1 to ``max_words`` words, all known.

        What it repeats is no matter here: without what it repeats, it would count.
        """
        key = segment_key(segment)
        short = self.max_words is None or key.count(" ") < self.max_words
        return bool(key) and short and self._is_known(segment)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.known_words or ())

    def _is_known(self, segment: str) -> bool:
        if self.known_words is None:
            return True
        own = words_of(segment)
        readable = not _UNREADABLE.search(segment_key(segment))  # by now its spaces are blanks
        return bool(own) and own <= self._known and readable

    @property
    def _count_phrases(self) -> bool:
        """Whether the scored text is a list of phrases, of which some count and others do not."""
        limited = self.max_words is not None or self.known_words is not None
        return limited or self.unique or self.new_words

    def search_text(self, text: str, *, query: str) -> str:
        """What the retriever gets for a piece of scored text; "" if nothing of it counts.

        White space is normalised. Where phrases can count or not, the text is a list of them, and
        those that count are joined by ", ". A coalition's text goes through as a response's does:
        what it repeats is what it says itself. With ``compose=expand`` the query comes first.

        >>> TextRules(max_words=2, unique=True).search_text("red, a b c,, Red,tent", query="")
        'red, tent'
        >>> TextRules(new_words=True).search_text("red tent, tent, red boat", query="")
        'red tent, red boat'
        """
        own = " ".join(text.split())
        if self._count_phrases:
            own = ", ".join(self._counted(own))
        return own if self.compose is Compose.own else f"{query} {own}".strip()

    def _counted(self, text: str) -> list[str]:
        """Thousands of texts a step come through here, hence one loop, and calls remembered."""
        limit = len(text) if self.max_words is None else self.max_words
        counted: list[str] = []
        seen: set[str] = set()
        said: set[str] = set()
        for phrase in text.split(","):
            key = segment_key(phrase)
            if not key or key.count(" ") >= limit or (self.unique and key in seen):
                continue
            if not self._is_known(phrase):
                continue
            if self.new_words:
                if words_of(phrase) <= said:
                    continue
                said |= words_of(phrase)
            seen.add(key)
            counted.append(phrase.strip())
        return counted


@dataclass(frozen=True, kw_only=True)
class Verbatim(TextRules):
    """The scored text line by line as it stands, for answers whose lines mean something."""

    def search_text(self, text: str, *, query: str) -> str:
        """The text without outer white space."""
        del query
        return text.strip()


def _trimmed(response: str, span: Span) -> Span:
    """The span without white space around it."""
    scored = span.of(response)
    inner = scored.strip()
    start = span.start + (len(scored) - len(scored.lstrip()) if inner else 0)
    return Span(start, start + len(inner))
