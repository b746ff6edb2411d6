"""What the credit explorer shows of a response, as plain records."""

from collections.abc import Mapping
from dataclasses import dataclass

from rlcredit.text.spans import Span


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A retrieved document."""

    document_id: str
    grade: int


@dataclass(frozen=True, kw_only=True)
class SegmentView:
    """A part of a response, and the coalitions that tell most about it, with their rewards."""

    text: str
    counts: bool
    """False where it is no player: too long, a repetition, an empty candidate."""
    true: bool | None
    """Whether it is true for the query; None where the truth is not known."""
    alone: float
    without: float
    """Reward of all other parts together."""
    up_to: float
    """Reward of the parts up to and with it."""
    found_without: tuple[Hit, ...]


@dataclass(frozen=True, kw_only=True)
class MethodView:
    """What one method says about one response, token by token."""

    advantages: tuple[float, ...]
    credit: tuple[float, ...] | None
    """Credit in reward units; None where the method credits whole responses."""


@dataclass(frozen=True, kw_only=True)
class ResponseView:
    """One response."""

    text: str
    reward: float
    tokens: tuple[str, ...]
    segment_of: tuple[int, ...]
    """Part of each token, -1 outside."""
    segments: tuple[SegmentView, ...]
    found: tuple[Hit, ...]
    methods: Mapping[str, MethodView]


@dataclass(frozen=True, kw_only=True)
class PromptView:
    """One prompt with its group of responses."""

    prompt_id: str
    text: str
    query: str
    responses: tuple[ResponseView, ...]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A response without its tokens: what it earned, its parts, and what is found with it."""

    reward: float
    spans: tuple[Span, ...]
    """Characters of each part in the response's text."""
    segments: tuple[SegmentView, ...]
    found: tuple[Hit, ...]
