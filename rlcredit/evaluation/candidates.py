"""Scores of responses that offer several candidates: the best, the mean, the worst of K."""

from collections.abc import Iterator, Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from rlcredit.evaluation.cells import MEASURES, Cell, Source, Written
from rlcredit.evaluation.trec import DEPTH
from rlcredit.retrieval.measures import Measure
from rlcredit.rewards.ranking import RankingReward
from rlcredit.scoring.candidates import CandidateSet
from rlcredit.text.response import TextRules
from rlcredit.types import Prompt

MEAN, WORST = "mean-of-k", "worst-of-k"
"""Follow the first measure's name; a measure's name alone is that of the best of K."""
COMPLETE, DISTINCT, REPEATING = "complete", "distinct", "repeating"
"""Share of responses with exactly K candidates; of candidates that repeat no earlier one; of
responses that repeat one. They know no retriever, and stand in the training retriever's rows."""

CandidateSets = Mapping[Source, Sequence[Sequence[CandidateSet]]]
"""Candidates by who wrote them: [P][n]."""


def offered_sets(rules: TextRules, prompts: Sequence[Prompt], responses: Written) -> CandidateSets:
    """The candidates of every response."""
    return {
        source: [
            [CandidateSet.of(rules, prompt, response) for response in own]
            for prompt, own in zip(prompts, written, strict=True)
        ]
        for source, written in responses.items()
    }


def set_texts(offers: CandidateSets, num_candidates: int) -> dict[str, Sequence[Sequence[str]]]:
    """Texts of run files: ``<who>.c<k>`` -> [P][n] of candidate k, "" where a set is not whole."""
    return {
        f"{source}.c{k + 1}": [
            [_whole(offer, num_candidates)[k] for offer in own] for own in offered
        ]
        for source, offered in offers.items()
        for k in range(num_candidates)
    }


def score_sets(
    rewards: Mapping[str, RankingReward],
    prompts: Sequence[Prompt],
    offers: CandidateSets,
    *,
    num_candidates: int,
    measures: Sequence[Measure] = MEASURES,
    prompts_per_batch: int,
) -> dict[Cell, tuple[float, ...]]:
    """Best of K by every measure and retriever, mean and worst by the first: a score per prompt.

    A response without exactly K candidates that count scores 0, as it does in training.

    Args:
        rewards: Retriever name -> its reward; the training retriever first.
        prompts: P of them.
        offers: Who wrote -> [P][n] sets.
        num_candidates: K.
        measures: Those of a run, or more.
        prompts_per_batch: Bounds the memory of a ranking.
    """
    scores: dict[Cell, list[float]] = {}
    for source, offered in offers.items():
        for start in range(0, len(prompts), prompts_per_batch):
            rows = slice(start, start + prompts_per_batch)
            batch = _batch(rewards, prompts[rows], offered[rows], source, num_candidates, measures)
            for cell, values in batch:
                scores.setdefault(cell, []).extend(values.tolist())
        first = next(iter(rewards))
        for name, shares in _shapes(offered, num_candidates):
            scores[Cell(first, name, source)] = shares
    return {cell: tuple(values) for cell, values in scores.items()}


def _batch(
    rewards: Mapping[str, RankingReward],
    prompts: Sequence[Prompt],
    offered: Sequence[Sequence[CandidateSet]],
    source: Source,
    num_candidates: int,
    measures: Sequence[Measure],
) -> Iterator[tuple[Cell, Float[Tensor, " P"]]]:
    pairs = [
        (prompt, text)
        for prompt, own in zip(prompts, offered, strict=True)
        for offer in own
        for text in _whole(offer, num_candidates)
    ]
    for name, reward in rewards.items():
        ranked, judged = reward.ranked(
            [p for p, _ in pairs], [text for _, text in pairs], depth=DEPTH
        )
        for measure in measures:
            values = measure(ranked, judged).double().view(len(prompts), -1, num_candidates)
            yield Cell(name, measure.name, source), values.amax(-1).mean(1)
            if measure is measures[0]:
                yield Cell(name, f"{measure.name}-{MEAN}", source), values.mean(-1).mean(1)
                yield Cell(name, f"{measure.name}-{WORST}", source), values.amin(-1).mean(1)


def _shapes(
    offered: Sequence[Sequence[CandidateSet]], num_candidates: int
) -> Iterator[tuple[str, list[float]]]:
    """Shares of each prompt's responses, or of their candidates."""
    yield COMPLETE, [_mean([sum(o.listed) == num_candidates for o in own]) for own in offered]
    yield DISTINCT, [_mean([flag for o in own for flag in o.first]) for own in offered]
    yield REPEATING, [_mean([not all(o.first) for o in own]) for own in offered]


def _whole(offer: CandidateSet, num_candidates: int) -> list[str]:
    """The K texts of a whole set; of another, K empty ones, which score 0."""
    texts = [text for text in offer.texts if text]
    return texts if len(texts) == num_candidates else [""] * num_candidates


def _mean(flags: Sequence[bool]) -> float:
    """0 where there is nothing."""
    return sum(flags) / len(flags) if flags else 0.0
