"""Responses seen as texts of segments: what a segment is worth, and what is found without it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rlcredit.report.views import Hit, Seen, SegmentView
from rlcredit.rewards.costs import earned
from rlcredit.rewards.ranking import RankingReward
from rlcredit.scoring.coalitions import Part
from rlcredit.scoring.scorer import Scorer
from rlcredit.text.render import coalition_text
from rlcredit.text.response import segment_key
from rlcredit.types import Prompt

DEPTH = 10
"""Documents of a ranking that are shown."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentViews:
    """The parts are segments of one search text."""

    name: ClassVar[str] = "segment"
    scorer: Scorer
    reward: RankingReward
    """The scorer's own; its rankings are shown."""

    def __call__(self, prompt: Prompt, text: str) -> Seen:
        """View a response as its segments: each alone, the text without it, the text up to it."""
        part = self.scorer.cut(text)
        written = [part.scored.of(text), *_coalitions(part)]
        searched = [self.scorer.rules.search_text(each, query=prompt.query) for each in written]
        prompts = [prompt] * len(searched)
        rewards = earned(self.reward, prompts, written=written, searched=searched).tolist()
        found = rankings(self.reward, prompt, searched[: 1 + len(part.spans)])
        return Seen(
            reward=rewards[0],
            spans=part.spans,
            segments=_segments(part, prompt, rewards[1:], found[1:]),
            found=found[0],
        )


def rankings(reward: RankingReward, prompt: Prompt, texts: Sequence[str]) -> list[tuple[Hit, ...]]:
    """The first documents that each text finds."""
    return [
        tuple(
            Hit(document_id=document, grade=prompt.relevance.get(document, 0))
            for document, _ in ranking
        )
        for ranking in reward.run([prompt] * len(texts), texts, depth=DEPTH)
    ]


def _coalitions(part: Part) -> list[str]:
    """Texts of a response of n segments: n without one, n with one alone, n up to one.

    Only segments that count are left in, as in the estimators' games: taking away a phrase whose
    copy stands behind it would else change nothing.
    """
    counts = [valid and first for valid, first in zip(part.valid, part.first, strict=True)]
    n = len(counts)
    members = (
        [[counts[i] and i != k for i in range(n)] for k in range(n)]
        + [[counts[i] and i == k for i in range(n)] for k in range(n)]
        + [[counts[i] and i <= k for i in range(n)] for k in range(n)]
    )
    return [coalition_text(part.text, part.spans, each) for each in members]


def _segments(
    part: Part, prompt: Prompt, rewards: Sequence[float], found: Sequence[tuple[Hit, ...]]
) -> tuple[SegmentView, ...]:
    n = len(part.spans)
    truth = {segment_key(phrase) for phrase in prompt.truth}
    return tuple(
        SegmentView(
            text=(text := span.of(part.text)),
            counts=part.valid[i] and part.first[i],
            true=segment_key(text) in truth if truth else None,
            without=rewards[i],
            alone=rewards[n + i],
            up_to=rewards[2 * n + i],
            found_without=found[i],
        )
        for i, span in enumerate(part.spans)
    )
