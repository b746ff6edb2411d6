"""The texts that a policy and the baselines are scored by, and their scores."""

from collections.abc import Iterator, Mapping, Sequence

from rlcredit.evaluation.candidates import offered_sets, score_sets, set_texts
from rlcredit.evaluation.cells import MEASURES, NO_RETRIEVER, WORDS, Cell, Source, Written
from rlcredit.evaluation.expansion import Expansion, reward_for
from rlcredit.evaluation.trec import DEPTH
from rlcredit.retrieval.measures import Measure
from rlcredit.rewards.ranking import RankingReward
from rlcredit.tasks.settings import oracle_text
from rlcredit.text.response import TextRules
from rlcredit.types import Prompt


def score_responses(
    rewards: Mapping[str, RankingReward],
    rules: TextRules,
    prompts: Sequence[Prompt],
    responses: Written,
    *,
    expansion: Expansion,
    measures: Sequence[Measure] = MEASURES,
    prompts_per_batch: int = 64,
) -> dict[Cell, tuple[float, ...]]:
    """Every measure of every response and baseline by every retriever: one score per prompt.

    Args:
        rewards: Retriever name -> its reward; the training retriever first.
        rules: Of the task.
        prompts: P of them.
        responses: Who wrote -> [P][n] responses.
        expansion: Of the raw queries.
        measures: Those of a run, or more.
        prompts_per_batch: Bounds the memory of a ranking.
    """
    texts = search_texts(rules, prompts, responses, expansion=expansion)
    scores = score_texts(
        rewards, prompts, texts, measures=measures, prompts_per_batch=prompts_per_batch
    )
    if rules.num_candidates:
        scores |= score_sets(
            rewards,
            prompts,
            offered_sets(rules, prompts, responses),
            num_candidates=rules.num_candidates,
            measures=measures,
            prompts_per_batch=prompts_per_batch,
        )
    return scores


def lengths(texts: Written) -> dict[Cell, tuple[float, ...]]:
    """Words of the searched texts: the mean per prompt, of everyone who wrote words.

    RM3 did not: its text repeats a term as often as its weight is large.

    Args:
        texts: Who wrote -> [P][n] search texts.
    """
    return {
        Cell(NO_RETRIEVER, WORDS, source): tuple(
            sum(len(text.split()) for text in own) / len(own) for own in written
        )
        for source, written in texts.items()
        if source is not Source.rm3
    }


def run_texts(
    rules: TextRules, prompts: Sequence[Prompt], responses: Written, *, expansion: Expansion
) -> dict[str, Sequence[Sequence[str]]]:
    """What run files are written of: name -> [P][n] texts; a column for each candidate of a set."""
    texts = search_texts(rules, prompts, responses, expansion=expansion)
    sets = offered_sets(rules, prompts, responses) if rules.num_candidates else {}
    named = {str(source): rows for source, rows in texts.items()}
    return set_texts(sets, rules.num_candidates) | named


def search_texts(
    rules: TextRules, prompts: Sequence[Prompt], responses: Written, *, expansion: Expansion
) -> Written:
    """What the retrievers get: the scored texts, and the baselines'.

    Responses that offer candidates are no single texts, and left out here.

    Args:
        rules: Of the task.
        prompts: P of them.
        responses: Who wrote -> [P][n] responses.
        expansion: Of the raw queries.
    """
    alone = {} if rules.num_candidates else responses
    texts: dict[Source, list[list[str]]] = {
        source: [
            [scored_text(rules, prompt, response) for response in own]
            for prompt, own in zip(prompts, written, strict=True)
        ]
        for source, written in alone.items()
    }
    texts[Source.query] = [[prompt.query] for prompt in prompts]
    texts[Source.rm3] = [[text] for text in expansion(prompts)]
    if all(prompt.truth for prompt in prompts):
        texts[Source.oracle] = [
            [scored_text(rules, prompt, oracle_text(prompt))] for prompt in prompts
        ]
    return texts


def score_texts(
    rewards: Mapping[str, RankingReward],
    prompts: Sequence[Prompt],
    texts: Written,
    *,
    measures: Sequence[Measure] = MEASURES,
    prompts_per_batch: int = 64,
) -> dict[Cell, tuple[float, ...]]:
    """Every measure of every text by every retriever: one score per prompt, the mean of its texts.

    Args:
        rewards: Retriever name -> its reward.
        prompts: P of them.
        texts: Who wrote -> [P][n] search texts.
        measures: Those of a run, or more.
        prompts_per_batch: Bounds the memory of a ranking.
    """
    scores: dict[Cell, list[float]] = {}
    for start in range(0, len(prompts), prompts_per_batch):
        rows = slice(start, start + prompts_per_batch)
        batch = {source: written[rows] for source, written in texts.items()}
        for cell, values in _batch_scores(rewards, prompts[rows], batch, measures):
            scores.setdefault(cell, []).extend(values)
    return {cell: tuple(values) for cell, values in scores.items()}


def _batch_scores(
    rewards: Mapping[str, RankingReward],
    prompts: Sequence[Prompt],
    texts: Written,
    measures: Sequence[Measure],
) -> Iterator[tuple[Cell, list[float]]]:
    for name, reward in rewards.items():
        sources: dict[RankingReward, list[Source]] = {}
        for source in texts:
            sources.setdefault(reward_for(source, reward), []).append(source)
        for asked, own in sources.items():
            pairs = [
                (prompt, text)
                for source in own
                for prompt, written in zip(prompts, texts[source], strict=True)
                for text in written
            ]
            sizes = [len(prompts) * len(texts[source][0]) for source in own]
            ranked, judged = asked.ranked(
                [p for p, _ in pairs], [text for _, text in pairs], depth=DEPTH
            )
            for measure in measures:
                parts = measure(ranked, judged).double().split(sizes)
                for source, part in zip(own, parts, strict=True):
                    means = part.view(len(prompts), -1).mean(1)
                    yield Cell(name, measure.name, source), means.tolist()


def scored_text(rules: TextRules, prompt: Prompt, response: str) -> str:
    """The part of a response that is searched with, as the retriever gets it."""
    return rules.search_text(rules.scored_span(response).of(response), query=prompt.query)
