"""What the credit explorer shows: stored responses, judged by several methods side by side.

Nothing is sampled and nothing is trained. A run's stored responses are cut into the tokens of its
own tokenizer, scored again by its own reward, and every estimator that is asked attributes the same
groups. What a part is worth alone, what is left without it, and what the retriever finds in either
case are computed beside it; parts are segments, or the candidates of a set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from transformers import PreTrainedTokenizerBase

from rlcredit.estimators.base import AdvantageEstimator
from rlcredit.evaluation.evaluate import EVALUATION_STEP
from rlcredit.report.views import MethodView, PromptView, ResponseView, Seen
from rlcredit.rollout.score import Scorer
from rlcredit.text.spans import Span
from rlcredit.text.tokens import batch_char_spans, decoded
from rlcredit.types import Advantages, Prompt, Randomness, Rollouts


@runtime_checkable
class Views(Protocol):
    """One response at a time, seen as its parts."""

    name: ClassVar[str]
    """What the page calls a part."""

    def __call__(self, prompt: Prompt, text: str) -> Seen:
        """What it earned, what its parts are worth, and what is found with and without them."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Explorer:
    """Makes the views.

    Raises:
        ValueError: When called with groups of different sizes, or an estimator refuses a group.
    """

    scorer: Scorer
    views: Views
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
        text = rollouts.texts[p][g]
        seen = self.views(rollouts.prompts[p], text)
        length = int(rollouts.response_mask[p, g].sum())
        spans = [tuple(span) for span in rollouts.spans[p, g, :length].tolist()]
        return ResponseView(
            text=text,
            reward=seen.reward,
            tokens=tuple(text[start:end] for start, end in spans),
            segment_of=tuple(_part_of(start, end, seen.spans) for start, end in spans),
            segments=seen.segments,
            found=seen.found,
            methods={name: _method(each, p, g, length) for name, each in judged.items()},
        )


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


def _part_of(start: int, end: int, parts: Sequence[Span]) -> int:
    """The part that a token overlaps most, -1 for none."""
    shared = [min(end, span.end) - max(start, span.start) for span in parts]
    most = max(shared, default=0)
    return shared.index(most) if most > 0 else -1


def _method(advantages: Advantages, p: int, g: int, length: int) -> MethodView:
    credit = advantages.credit
    return MethodView(
        advantages=tuple(advantages.values[p, g, :length].tolist()),
        credit=None if credit is None else tuple(credit[p, g, :length].tolist()),
    )
