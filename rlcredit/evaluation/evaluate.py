"""Scores a policy on held-out prompts: sampled and greedy, by all that grades its task.

In a task of search three baselines go through the same scorer: the raw query, its expansion by RM3,
and an oracle that writes what is true.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlcredit.estimators.base import AdvantageEstimator
from rlcredit.evaluation.cells import Cell, Source
from rlcredit.evaluation.credit_check import CreditCheck, check_credit, merge
from rlcredit.evaluation.graders import Grader
from rlcredit.policy.base import Policy
from rlcredit.rollout.base import Rollout
from rlcredit.rollout.observe import observe
from rlcredit.scoring.samples import Completion, completions
from rlcredit.scoring.scorer import Scorer, reads_segments
from rlcredit.types import Prompt, Randomness, Rollouts

EVALUATION_STEP = -1
"""No training step has this number, so evaluations draw from streams of their own: every evaluation
of a run with the same seed from the same ones (common random numbers)."""

SMALLEST_GROUP = 3
"""Samples below which no estimator is asked for credit: some compare three rollouts or more."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What one policy scored on one split."""

    split: str
    phase: str
    """``before``, ``after``, or the step."""
    prompt_ids: tuple[str, ...]
    scores: Mapping[Cell, tuple[float, ...]]
    """One score per prompt, in the order of ``prompt_ids``."""
    responses: Mapping[Source, tuple[tuple[str, ...], ...]]
    """The policy's texts: [P][samples], and [P][1] for greedy decoding."""
    credit: CreditCheck | None
    """None where the method gives no segment credit, or the data know no truth."""
    examples: tuple[Completion, ...]
    """Sampled responses drawn at random, in the order of the prompts."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What is no mean over prompts, by name (``width``, ``mode``)."""
    families: tuple[int, ...] = ()
    """The family of each prompt, where prompts reword one intent; empty: each is its own."""

    @property
    def family_numbers(self) -> NDArray[np.int64]:
        """[P] numbers of families."""
        return np.array(self.families or range(len(self.prompt_ids)), dtype=np.int64)

    def values(self, cell: Cell) -> NDArray[np.float64]:
        """[P] scores."""
        return np.array(self.scores[cell], dtype=np.float64)

    def metrics(self) -> dict[str, float]:
        """Mean scores of the policy, as ``eval/<split>/<retriever>/<measure>_<source>``."""
        policy = (Source.sampled, Source.greedy)
        means = {
            f"eval/{self.split}/{cell.name}": float(self.values(cell).mean())
            for cell in self.scores
            if cell.source in policy
        }
        return means | {f"eval/{self.split}/{name}": each for name, each in self.figures.items()}


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Samples and scores; the same prompts and seed draw the same numbers at every call."""

    grader: Grader
    rollout: Rollout
    scorer: Scorer
    """The training reward's, for examples and the check of credit."""
    estimator: AdvantageEstimator
    samples: int
    seed: int
    max_credit_prompts: int = 32
    """Credit is checked on the first prompts alone: its coalitions cost more than the scores."""
    num_examples: int = 3
    prompts_per_batch: int = 64

    def __post_init__(self) -> None:
        """Refuse an evaluation of nothing."""
        if self.samples < 1:
            raise ValueError(
                f"evaluation.samples={self.samples}: at least one sampled response per prompt"
            )

    def __call__(
        self, policy: Policy, prompts: Sequence[Prompt], *, split: str, phase: str
    ) -> Evaluation:
        """Score a policy.

        Raises:
            ValueError: If there are no prompts.
        """
        if not prompts:
            raise ValueError(
                f"the {split} split holds no prompt to evaluate on; set evaluation.max_prompts to "
                "1 or more, or give the data set more held-out queries"
            )
        responses: dict[Source, list[tuple[str, ...]]] = {Source.sampled: [], Source.greedy: []}
        checks: list[CreditCheck] = []
        shown: list[Completion] = []
        reads = reads_segments(self.estimator, self.scorer.reward)
        for start in range(0, len(prompts), self.prompts_per_batch):
            batch = prompts[start : start + self.prompts_per_batch]
            responses[Source.greedy] += self._roll(policy, batch, start, greedy=True).texts
            left = self.max_credit_prompts - start
            sampled = self._roll(policy, batch, start, greedy=False, spans=left > 0 and reads)
            responses[Source.sampled] += sampled.texts
            if left > 0:
                check, own = self._credit(policy, first_prompts(sampled, left), start)
                checks += [check] if check else []
                shown += own
        scores = self.grader.scores(prompts, responses, prompts_per_batch=self.prompts_per_batch)
        return Evaluation(
            split=split,
            phase=phase,
            prompt_ids=tuple(prompt.prompt_id for prompt in prompts),
            scores=scores,
            responses={source: tuple(texts) for source, texts in responses.items()},
            credit=merge(checks),
            examples=self._drawn(shown),
            figures=self.grader.figures(scores),
            families=families_of(prompts),
        )

    def _roll(
        self,
        policy: Policy,
        prompts: Sequence[Prompt],
        offset: int,
        *,
        greedy: bool,
        spans: bool = False,
    ) -> Rollouts:
        return self.rollout(
            policy,
            prompts,
            group_size=1 if greedy else self.samples,
            randomness=Randomness(seed=self.seed, step=EVALUATION_STEP),
            offset=offset,
            greedy=greedy,
            spans=spans,
        )

    def _credit(
        self, policy: Policy, rollouts: Rollouts, offset: int
    ) -> tuple[CreditCheck | None, list[Completion]]:
        """Credit as in training, on held-out responses, and the responses as people read them."""
        randomness = Randomness(seed=self.seed, step=EVALUATION_STEP)
        needs = self.estimator.needs
        groups = [
            slice(p * self.samples, (p + 1) * self.samples) for p in range(len(rollouts.texts))
        ]
        seen = observe(
            policy,
            rollouts,
            needs,
            rollout=self.rollout,
            scorer=self.scorer,
            randomness=randomness,
            offset=offset,
            chunks=groups,
        )
        signals = self.scorer(rollouts, needs, randomness=randomness, offset=offset, seen=seen)
        enough = self.samples >= max(SMALLEST_GROUP, self.estimator.smallest_group)
        advantages = self.estimator(signals) if enough else None
        shown = completions(rollouts, signals, advantages)
        if advantages is None or signals.segments is None:
            return None, shown
        return check_credit(rollouts, signals.segments, advantages), shown

    def _drawn(self, shown: Sequence[Completion]) -> tuple[Completion, ...]:
        """A few prompts and one response to each, the same ones at every evaluation of a run."""
        draws = Randomness(seed=self.seed, step=EVALUATION_STEP).generator("examples")
        num_prompts = len(shown) // self.samples
        chosen = torch.randperm(num_prompts, generator=draws)[: self.num_examples].sort().values
        samples = torch.randint(self.samples, chosen.shape, generator=draws)
        return tuple(shown[row] for row in (chosen * self.samples + samples).tolist())


def families_of(prompts: Sequence[Prompt]) -> tuple[int, ...]:
    """A number for each prompt, the same for prompts whose truth is the same.

    Generated queries reword one pair of a product and a person, of which the truth is known; a
    prompt without a known truth is a family of its own.
    """
    numbers: dict[tuple[str, ...], int] = {}
    keys = [tuple(sorted(prompt.truth)) or ("", prompt.prompt_id) for prompt in prompts]
    return tuple(numbers.setdefault(key, len(numbers)) for key in keys)


def first_prompts(rollouts: Rollouts, count: int) -> Rollouts:
    """The rollouts of the first ``count`` prompts."""
    tensors = {
        f.name: getattr(rollouts, f.name)[:count]
        for f in fields(rollouts)
        if isinstance(getattr(rollouts, f.name), Tensor)
    }
    return replace(
        rollouts, prompts=rollouts.prompts[:count], texts=rollouts.texts[:count], **tensors
    )
