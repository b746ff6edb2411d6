"""A segmenter of one's own: a function that says where a text is cut."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rlcredit.code import Code
from rlcredit.identity import CODE
from rlcredit.text.spans import Span


@dataclass(frozen=True, kw_only=True)
class SegmentFunction:
    """A function ``text -> [(start, end), ...]`` of a package from outside.

    It gives the segments of a text as half-open characters, in text order and without overlap. A
    text has the same segments each time it is asked about.
    """

    path: str = field(metadata=CODE)
    """Module and name of the function: ``my_pkg.cuts:clauses``."""

    @cached_property
    def _code(self) -> Code:
        return Code.of(self.path, setting="segmenter.path")

    def content(self) -> tuple[str, ...]:
        """The version of the function's code; empty where it has none.

        Raises:
            ValueError: If the function cannot be imported or called.
        """
        version = self._code.version
        return () if version is None else (version,)

    def __call__(self, text: str) -> list[Span]:
        """Cut a text.

        Raises:
            RuntimeError: If the function raises, or gives anything but segments of the text.
        """
        try:
            given = self._code.function(text)
        except Exception as error:  # a person's own code may raise anything
            raise RuntimeError(
                f"{self.path} raised {type(error).__name__}: {error} on {text!r:.80}"
            ) from error
        if not isinstance(given, Iterable):
            raise RuntimeError(f"{self.path} gave {given!r:.80}, {_RULE}")
        spans = [self._span(each, text) for each in given]
        reached = 0
        for span in spans:
            if span.start < reached:
                raise RuntimeError(
                    f"{self.path} gave {tuple(span)} behind a segment that ends at {reached}, on "
                    f"{text!r:.80}; segments are in text order and do not overlap"
                )
            reached = span.end
        return spans

    def _span(self, given: object, text: str) -> Span:
        pair: tuple[Any, ...] = tuple(given) if isinstance(given, Iterable) else ()
        whole = len(pair) == 2 and all(type(bound) is int for bound in pair)
        if not whole or not 0 <= pair[0] < pair[1] <= len(text):
            raise RuntimeError(f"{self.path} gave {given!r:.80} on {text!r:.80}, {_RULE}")
        return Span(*pair)


_RULE = (
    "and a segment is a pair (start, end) of whole numbers with 0 <= start < end <= the text's "
    "length"
)
