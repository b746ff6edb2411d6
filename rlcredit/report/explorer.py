"""What the credit explorer shows: stored responses, judged by several methods side by side.

Nothing is sampled and nothing is trained. A run's stored responses are cut into the tokens of its
own tokenizer, scored again by its own reward, and every estimator that is asked attributes the same
groups. What a segment is worth alone, what is left without it, and what the retriever finds in
either case are computed beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from rlcredit.estimators.base import AdvantageEstimator
from rlcredit.rewards.ranking import RankingReward
from rlcredit.rollout.coalitions import Part
from rlcredit.rollout.score import Scorer
from rlcredit.text.render import coalition_text
from rlcredit.text.response import segment_key
from rlcredit.text.tokens import batch_char_spans, decoded
from rlcredit.trainer.evaluate import EVALUATION_STEP
from rlcredit.types import Advantages, Prompt, Randomness, Rollouts

DEPTH = 10
"""Documents of a ranking that are shown."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A retrieved document."""

    document_id: str
    grade: int


@dataclass(frozen=True, kw_only=True)
class SegmentView:
    """A segment, and the coalitions of segments that tell most about it, with their rewards."""

    text: str
    counts: bool
    """False where it is too long, or repeats an earlier one."""
    true: bool | None
    """Whether it is true for the query; None where the truth is not known."""
    alone: float
    without: float
    """Of all other segments together."""
    up_to: float
    """Of the text up to and with it."""
    found_without: tuple[Hit, ...]


@dataclass(frozen=True, kw_only=True)
class MethodView:
    """What one method says about one response, token by token."""

    advantages: tuple[float, ...]
    credit: tuple[float, ...] | None
    """In reward units; None where the method credits whole responses."""


@dataclass(frozen=True, kw_only=True)
class ResponseView:
    """One response."""

    text: str
    reward: float
    tokens: tuple[str, ...]
    segment_of: tuple[int, ...]
    """Segment of each token, -1 outside."""
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Explorer:
    """Makes the views.

    Raises:
        ValueError: When called with groups of different sizes, or an estimator refuses a group.
    """

    scorer: Scorer
    reward: RankingReward
    """The scorer's own; its rankings are shown."""
    estimators: Mapping[str, AdvantageEstimator]
    tokenizer: PreTrainedTokenizerBase
    seed: int

    def __call__(
        self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> list[PromptView]:
        """Views of the groups.

        Args:
            prompts: P of them.
            responses: [P][G] stored responses.
        """
        rollouts = retold(prompts, responses, self.tokenizer)
        randomness = Randomness(seed=self.seed, step=EVALUATION_STEP)
        judged: dict[str, Advantages] = {}
        for name, estimator in self.estimators.items():
            signals = self.scorer(rollouts, estimator.needs, randomness=randomness)
            judged[name] = estimator(signals)
        return [self._prompt(rollouts, judged, p) for p in range(len(prompts))]

    def _prompt(self, rollouts: Rollouts, judged: Mapping[str, Advantages], p: int) -> PromptView:
        prompt = rollouts.prompts[p]
        return PromptView(
            prompt_id=prompt.prompt_id,
            text=prompt.text,
            query=prompt.query,
            responses=tuple(
                self._response(rollouts, judged, p, g) for g in range(len(rollouts.texts[p]))
            ),
        )

    def _response(
        self, rollouts: Rollouts, judged: Mapping[str, Advantages], p: int, g: int
    ) -> ResponseView:
        prompt, text = rollouts.prompts[p], rollouts.texts[p][g]
        part = self.scorer.cut(text)
        written = [part.scored.of(text), *_coalitions(part)]
        searched = [self.scorer.rules.search_text(each, query=prompt.query) for each in written]
        rewards = self.reward([prompt] * len(searched), searched).tolist()
        found = self._found(prompt, searched[: 1 + len(part.spans)])
        length = int(rollouts.response_mask[p, g].sum())
        spans = [tuple(span) for span in rollouts.char_spans[p, g, :length].tolist()]
        return ResponseView(
            text=text,
            reward=rewards[0],
            tokens=tuple(text[start:end] for start, end in spans),
            segment_of=tuple(_segment_of(start, end, part) for start, end in spans),
            segments=_segments(part, prompt, rewards[1:], found[1:]),
            found=found[0],
            methods={name: _method(each, p, g, length) for name, each in judged.items()},
        )

    def _found(self, prompt: Prompt, texts: Sequence[str]) -> list[tuple[Hit, ...]]:
        rankings = self.reward.run([prompt] * len(texts), texts, depth=DEPTH)
        return [
            tuple(
                Hit(document_id=document, grade=prompt.relevance.get(document, 0))
                for document, _ in ranking
            )
            for ranking in rankings
        ]


def retold(
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[str]],
    tokenizer: PreTrainedTokenizerBase,
) -> Rollouts:
    """Stored texts as rollouts, in the tokens that the tokenizer gives them; no end token.

    A text is taken as its tokens spell it, which is the text itself for a byte-level tokenizer.

    Raises:
        ValueError: If the groups have different sizes.
    """
    sizes = {len(group) for group in responses}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(f"groups of {sorted(sizes)} responses; every prompt needs as many")
    flat = [text for group in responses for text in group]
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in flat]
    texts = decoded(tokenizer, rows)
    spans = batch_char_spans(tokenizer, rows, texts)
    length = max(1, *(len(row) for row in rows))
    shape = (len(prompts), sizes.pop())
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    chars = torch.zeros(len(rows), length, 2, dtype=torch.long)
    for index, (row, written) in enumerate(zip(rows, spans, strict=True)):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[index, : len(row)] = True
        chars[index, : len(row)] = torch.tensor(written, dtype=torch.long).reshape(-1, 2)
    groups = [tuple(texts[i : i + shape[1]]) for i in range(0, len(texts), shape[1])]
    return Rollouts(
        prompts=tuple(prompts),
        texts=tuple(groups),
        prompt_ids=torch.zeros(len(prompts), 1, dtype=torch.long),
        prompt_mask=torch.ones(len(prompts), 1, dtype=torch.bool),
        response_ids=ids.unflatten(0, shape),
        response_mask=mask.unflatten(0, shape),
        char_spans=chars.unflatten(0, shape),
        rollout_logprobs=torch.zeros(*shape, length),
        finished=torch.ones(shape, dtype=torch.bool),
    )


def _coalitions(part: Part) -> list[str]:
    """Of n segments: n texts without one, n with one alone, n up to one.

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


def _segment_of(start: int, end: int, part: Part) -> int:
    """The segment that a token overlaps most, -1 for none."""
    shared = [min(end, span.end) - max(start, span.start) for span in part.spans]
    most = max(shared, default=0)
    return shared.index(most) if most > 0 else -1


def _method(advantages: Advantages, p: int, g: int, length: int) -> MethodView:
    credit = advantages.credit
    return MethodView(
        advantages=tuple(advantages.values[p, g, :length].tolist()),
        credit=None if credit is None else tuple(credit[p, g, :length].tolist()),
    )
