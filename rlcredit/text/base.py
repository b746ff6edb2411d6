"""What a segmenter is."""

from typing import Protocol, runtime_checkable

from rlcredit.text.spans import Span


@runtime_checkable
class Segmenter(Protocol):
    """Cuts a text into the segments that can earn credit."""

    def __call__(self, text: str) -> list[Span]:
        """Non-empty, disjoint spans in text order; [] for a text without any."""
        ...
