"""Responses as text: the part that is scored, its segments, their tokens and their coalitions."""

from rlcredit.text.base import Segmenter
from rlcredit.text.function import SegmentFunction
from rlcredit.text.response import Compose, TextRules
from rlcredit.text.segmenters import Pattern, Phrases, Sentences, Windows
from rlcredit.text.spans import Span

__all__ = [
    "Compose",
    "Pattern",
    "Phrases",
    "SegmentFunction",
    "Segmenter",
    "Sentences",
    "Span",
    "TextRules",
    "Windows",
]
