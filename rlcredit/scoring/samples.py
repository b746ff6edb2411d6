"""Responses as people read them: text, reward, and what each segment earned."""

from dataclasses import dataclass

from rlcredit.credit.spread import segment_credit
from rlcredit.types import Advantages, Responses, Signals


@dataclass(frozen=True, kw_only=True)
class SegmentCredit:
    """One segment of a response."""

    text: str
    credit: float | None
    """Credit in reward units; None where the method credits whole responses only."""
    counts: bool
    """False for a segment that is too long, or repeats an earlier one."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One response with its reward."""

    prompt_id: str
    prompt: str
    response: str
    reward: float
    segments: tuple[SegmentCredit, ...]


def completions(
    responses: Responses, signals: Signals, advantages: Advantages | None
) -> list[Completion]:
    """All P * G responses of a batch, prompt by prompt."""
    return [
        _completion(responses, signals, advantages, p, g)
        for p, texts in enumerate(responses.texts)
        for g in range(len(texts))
    ]


def _completion(
    responses: Responses, signals: Signals, advantages: Advantages | None, p: int, g: int
) -> Completion:
    prompt, text = responses.prompts[p], responses.texts[p][g]
    return Completion(
        prompt_id=prompt.prompt_id,
        prompt=prompt.text,
        response=text,
        reward=float(signals.rewards[p, g]),
        segments=_segments(text, signals, advantages, p, g),
    )


def _segments(
    text: str, signals: Signals, advantages: Advantages | None, p: int, g: int
) -> tuple[SegmentCredit, ...]:
    segments = signals.segments
    if segments is None:
        return ()
    num_segments = int(segments.mask[p, g].sum())
    credit: list[float | None] = [None] * num_segments
    if advantages is not None and advantages.credit is not None:
        one = slice(p, p + 1), slice(g, g + 1)
        means = segment_credit(advantages.credit[one], segments.ids[one], segments.mask.shape[2])
        credit = [None if c != c else c for c in means[0, 0, segments.mask[p, g]].tolist()]
    spans = segments.spans[p, g][segments.mask[p, g]].tolist()
    counts = (segments.valid & segments.first)[p, g][segments.mask[p, g]].tolist()
    return tuple(
        SegmentCredit(text=text[start:end], credit=earned, counts=counted)
        for (start, end), earned, counted in zip(spans, credit, counts, strict=True)
    )
