"""What the credit explorer shows: stored responses, judged by several methods side by side.

Nothing is sampled and nothing is trained. A run's stored responses are cut into the tokens of its
own tokenizer, scored again by its own reward, and every estimator that is asked attributes the same
groups. What a part is worth alone, what is left without it, and what the retriever finds in either
case are computed beside it; parts are segments, or the candidates of a set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from rlcredit.estimators.base import AdvantageEstimator
from rlcredit.evaluation.evaluate import EVALUATION_STEP
from rlcredit.report.views import MethodView, PromptView, ResponseView, Seen
from rlcredit.scoring.responses import of_texts
from rlcredit.scoring.scorer import Scorer
from rlcredit.text.spans import Span
from rlcredit.text.tokens import Tokenizer
from rlcredit.types import Advantages, Prompt, Randomness, Responses


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
    tokenizer: Tokenizer
    seed: int

    def __call__(
        self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> list[PromptView]:
        """Views of the groups.

        Args:
            prompts: P of them.
            responses: [P][G] stored responses.
        """
        read = of_texts(prompts, responses, self.tokenizer)
        randomness = Randomness(seed=self.seed, step=EVALUATION_STEP)
        judged: dict[str, Advantages] = {}
        for name, estimator in self.estimators.items():
            signals = self.scorer(read, estimator.needs, randomness=randomness)
            judged[name] = estimator(signals)
        return [self._prompt(read, judged, p) for p in range(len(prompts))]

    def _prompt(self, read: Responses, judged: Mapping[str, Advantages], p: int) -> PromptView:
        prompt = read.prompts[p]
        return PromptView(
            prompt_id=prompt.prompt_id,
            text=prompt.text,
            query=prompt.query,
            responses=tuple(self._response(read, judged, p, g) for g in range(len(read.texts[p]))),
        )

    def _response(
        self, read: Responses, judged: Mapping[str, Advantages], p: int, g: int
    ) -> ResponseView:
        text = read.texts[p][g]
        seen = self.views(read.prompts[p], text)
        length = int(read.response_mask[p, g].sum())
        spans = [tuple(span) for span in read.spans[p, g, :length].tolist()]
        return ResponseView(
            text=text,
            reward=seen.reward,
            tokens=tuple(text[start:end] for start, end in spans),
            segment_of=tuple(_part_of(start, end, seen.spans) for start, end in spans),
            segments=seen.segments,
            found=seen.found,
            methods={name: _method(each, p, g, length) for name, each in judged.items()},
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
