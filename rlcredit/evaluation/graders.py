"""What grades a run: its training reward, and the measures of its evaluations.

:func:`grader_of` finds the grader of a reward by the reward's class. A reward of one's own needs
none: :class:`Grader` reports its mean. A class of rewards that can be measured better registers a
grader with ``@grader_of.register``.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, singledispatch
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from rlcredit.estimators.base import SetUtility
from rlcredit.evaluation.cells import NO_RETRIEVER, PASS, Cell, Source, Written
from rlcredit.evaluation.expansion import Expansion
from rlcredit.evaluation.scores import (
    lengths,
    run_texts,
    score_responses,
    scored_text,
    search_texts,
)
from rlcredit.evaluation.trec import write_qrels, write_runs
from rlcredit.files import replace_file
from rlcredit.retrieval.base import Documents, Retriever
from rlcredit.rewards.base import Reward, counts_of
from rlcredit.rewards.function import Function
from rlcredit.rewards.model import RewardModel
from rlcredit.rewards.ranking import Ranking, RankingReward
from rlcredit.rewards.solutions import distinct_solutions, mode, pass_at_k, width
from rlcredit.rewards.sum import WeightedSum
from rlcredit.rewards.verifier import Verifier, problem
from rlcredit.scoring.candidates import SetScorer
from rlcredit.tasks.base import Task
from rlcredit.text.copying import WordRuns
from rlcredit.text.response import TextRules
from rlcredit.types import Counts, Judgement, Prompt

REWARD, WELL_FORMED, SOLUTIONS = "reward", "well-formed", "solutions"
TERM = "reward/term"
"""In front of the names of a sum's terms."""
WIDTH, MODE = "width", "mode"


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a grader may be made from besides the reward and the task."""

    retrievers: Mapping[str, Retriever]
    """By name; the training retriever first."""
    cache: Path
    failures: Path
    """Folder for the texts on which a retriever fails."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Grader:
    """Grades responses by the mean of the training reward; other graders know more measures."""

    reward: Reward
    """What is trained on."""
    rules: TextRules
    """Of the task."""

    @property
    def utility(self) -> SetUtility | None:
        """What a set of candidates earns; None where responses are no sets."""
        return None

    @property
    def headline(self) -> str:
        """Name of the score that a run is judged by, within a split."""
        return REWARD

    @property
    def trained_on(self) -> str:
        """The retriever whose scores are marked in tables; "" where there is none."""
        return NO_RETRIEVER

    @property
    def rows(self) -> Sequence[tuple[str, str]]:
        """Name and text of what a run's header says of the reward."""
        return [("reward", type(self.reward).__name__)]

    @property
    def counts(self) -> Callable[[], Counts] | None:
        """What the reward was asked for so far, where it counts that."""
        return None

    @property
    def documents(self) -> WordRuns | None:
        """The words of the catalogue, where there is one."""
        return None

    def for_curves(self) -> "Grader":
        """The same with what costs least: for scores during training."""
        return self

    def scores(
        self, prompts: Sequence[Prompt], responses: Written, *, prompts_per_batch: int
    ) -> dict[Cell, tuple[float, ...]]:
        """One score per prompt and measure: here the mean reward of the prompt's responses.

        Args:
            prompts: P of them.
            responses: Who wrote -> [P][n] responses.
            prompts_per_batch: Bounds the memory of a call of the reward.
        """
        scores: dict[Cell, tuple[float, ...]] = {}
        for source, written in responses.items():
            means: list[float] = []
            for start in range(0, len(prompts), prompts_per_batch):
                rows = slice(start, start + prompts_per_batch)
                rewards = self.earned(prompts[rows], written[rows])
                means += rewards.double().mean(1).tolist()
            scores[Cell(NO_RETRIEVER, REWARD, source)] = tuple(means)
        return scores

    def earned(
        self, prompts: Sequence[Prompt], written: Sequence[Sequence[str]]
    ) -> Float[Tensor, "P n"]:
        """The training reward of each response: [P][n] of them."""
        if self.utility is not None:
            scorer = SetScorer(reward=self.reward, rules=self.rules, utility=self.utility)
            return scorer.earned(prompts, written)
        pairs = [
            (prompt, scored_text(self.rules, prompt, response))
            for prompt, own in zip(prompts, written, strict=True)
            for response in own
        ]
        rewards = self.reward([prompt for prompt, _ in pairs], [text for _, text in pairs])
        return rewards.view(len(written), -1)

    def figures(self, scores: Mapping[Cell, Sequence[float]]) -> dict[str, float]:
        """What is no mean over prompts, by name."""
        del scores
        return {}

    def write(
        self, folder: Path, prompts: Sequence[Prompt], responses: Written, *, phase: str
    ) -> None:
        """Files of an evaluation of the test split, from which others can compute measures."""


@singledispatch
def grader_of(reward: Reward, task: Task, surroundings: Surroundings) -> Grader:
    """The grader of a reward; of a class that nobody has registered, its mean.

    Args:
        reward: What is trained on, or a search reward's settings.
        task: What is trained for.
        surroundings: What it may be made from.

    Raises:
        ValueError: If the reward cannot grade the task.
    """
    del surroundings
    if task.rules.num_candidates:
        raise ValueError(
            f"dataset.candidates={task.rules.num_candidates} asks for sets, and only a reward of "
            f"search says what a set earns; {type(reward).__name__} does not. Set "
            "dataset.candidates=0, or use reward=ndcg"
        )
    return Grader(reward=reward, rules=task.rules)


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnGrader(Grader):
    """Grades by the mean of the training reward, where it is said what a set earns."""

    set_utility: SetUtility
    said: str
    """What a run's header says of the reward."""

    @property
    def utility(self) -> SetUtility | None:
        """What a set of candidates earns; None where responses are no sets."""
        return self.set_utility if self.rules.num_candidates else None

    @property
    def rows(self) -> Sequence[tuple[str, str]]:
        """The reward in words."""
        return [("reward", self.said)]

    @property
    def counts(self) -> Callable[[], Counts]:
        """Requests to the reward."""
        return lambda: counts_of([self.reward])


@grader_of.register
def _(reward: Function | RewardModel, task: Task, surroundings: Surroundings) -> OwnGrader:
    """Import the function, or load the model; ValueError if that is not possible."""
    del surroundings
    bound = reward.bind()
    return OwnGrader(reward=bound, rules=task.rules, set_utility=reward.utility, said=bound.said)


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchGrader(Grader):
    """Texts are searched with, by the retriever that is trained on and by others."""

    reward: RankingReward
    """The training retriever's."""
    rewards: Mapping[str, RankingReward]
    """Retriever name -> its reward; the training retriever first."""
    catalogue: Documents
    set_utility: SetUtility
    expansion: Expansion

    @property
    def utility(self) -> SetUtility:
        """What a set of candidates earns."""
        return self.set_utility

    @property
    def headline(self) -> str:
        """nDCG@10 of sampled responses, by the training retriever."""
        return f"{self.trained_on}/ndcg@10_sampled"

    @property
    def trained_on(self) -> str:
        """The training retriever."""
        return next(iter(self.rewards))

    @property
    def rows(self) -> Sequence[tuple[str, str]]:
        """The retrievers, and what words cost where they do."""
        trained, *unseen = self.rewards
        rows = [("retriever", f"{trained}; unseen in training: {', '.join(unseen) or 'none'}")]
        costs = self.reward.costs
        if costs:
            unknown = f"; {costs.unknown:g} more if no document has it" if costs.unknown else ""
            rows.append(("a word costs", f"{costs.word:g} in training{unknown}"))
        return rows

    @property
    def counts(self) -> Callable[[], Counts]:
        """Requests to the training retriever's engine."""
        return lambda: self.reward.counts

    @property
    def documents(self) -> WordRuns:
        """The words of the catalogue."""
        return WordRuns.of(self.catalogue.texts)

    def for_curves(self) -> "SearchGrader":
        """Measures of the training retriever alone."""
        return replace(self, rewards={self.trained_on: self.reward})

    def scores(
        self, prompts: Sequence[Prompt], responses: Written, *, prompts_per_batch: int
    ) -> dict[Cell, tuple[float, ...]]:
        """Every measure of every response and baseline by every retriever, and their words."""
        scores = score_responses(
            self.rewards,
            self.rules,
            prompts,
            responses,
            expansion=self.expansion,
            prompts_per_batch=prompts_per_batch,
        )
        texts = search_texts(self.rules, prompts, responses, expansion=self.expansion)
        return scores | lengths(texts)

    def write(
        self, folder: Path, prompts: Sequence[Prompt], responses: Written, *, phase: str
    ) -> None:
        """TREC judgements and run files, in ``trec/``."""
        texts = run_texts(self.rules, prompts, responses, expansion=self.expansion)
        write_qrels(folder / "trec" / "test.qrels", prompts)
        write_runs(folder / "trec" / f"test-{phase}", prompts, texts, self.rewards)


@grader_of.register
def _(reward: Ranking, task: Task, surroundings: Surroundings) -> SearchGrader:
    """Index the documents for every retriever; ValueError if the task has none."""
    searched = task.searched()
    rewards = {
        name: reward.bind(
            retriever.index(searched.documents, cache=surroundings.cache),
            catalogue=searched.documents,
            failures=surroundings.failures,
        )
        for name, retriever in surroundings.retrievers.items()
    }
    return SearchGrader(
        rules=searched.rules,
        reward=next(iter(rewards.values())),
        rewards=rewards,
        catalogue=searched.documents,
        set_utility=reward.utility,
        expansion=Expansion.of(searched.documents, reward, cache=surroundings.cache),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class VerifiedGrader(Grader):
    """Every answer is right or wrong by rule.

    Scores of sampled responses: ``pass@1`` (their accuracy) to ``pass@n``, ``well-formed`` and
    ``solutions`` (distinct correct ones of a prompt); of the greedy one: ``pass@1_greedy`` and
    ``well-formed_greedy``. Figures: ``width`` and ``mode`` of the sampled ones
    (arXiv:2602.01062, table 3).
    """

    reward: Verifier

    @property
    def headline(self) -> str:
        """Accuracy of sampled responses."""
        return f"{PASS}@1"

    @property
    def rows(self) -> Sequence[tuple[str, str]]:
        """The three rewards."""
        figures = f"{self.reward.correct:g} correct, {self.reward.well_formed:g} well-formed"
        return [("reward", f"verified by rule: {figures}, {self.reward.malformed:g} else")]

    def scores(
        self, prompts: Sequence[Prompt], responses: Written, *, prompts_per_batch: int
    ) -> dict[Cell, tuple[float, ...]]:
        """One score per prompt and measure; ``prompts_per_batch`` bounds nothing here."""
        del prompts_per_batch
        scores: dict[Cell, tuple[float, ...]] = {}
        for source, judged in self._judged(prompts, responses).items():
            correct = [sum(each.correct for each in own) for own in judged]
            for k in range(1, len(judged[0]) + 1):
                values = [
                    pass_at_k(len(own), count, k)
                    for own, count in zip(judged, correct, strict=True)
                ]
                scores[Cell(NO_RETRIEVER, f"{PASS}@{k}", source)] = tuple(values)
            scores[Cell(NO_RETRIEVER, WELL_FORMED, source)] = tuple(
                sum(each.well_formed for each in own) / len(own) for own in judged
            )
            if source is Source.sampled:
                found = tuple(float(distinct_solutions(own)) for own in judged)
                scores[Cell(NO_RETRIEVER, SOLUTIONS, source)] = found
        return scores

    def figures(self, scores: Mapping[Cell, Sequence[float]]) -> dict[str, float]:
        """Width and mode."""
        found = scores[Cell(NO_RETRIEVER, SOLUTIONS, Source.sampled)]
        distinct = [int(count) for count in found]
        return {WIDTH: float(width(distinct)), MODE: mode(distinct)}

    def write(
        self, folder: Path, prompts: Sequence[Prompt], responses: Written, *, phase: str
    ) -> None:
        """``solutions/test-<phase>.jsonl``: each prompt's samples, correct ones, and solutions."""
        path = folder / "solutions" / f"test-{phase}.jsonl"
        judged = self._judged(prompts, responses)[Source.sampled]
        lines: list[str] = []
        for prompt, own in zip(prompts, judged, strict=True):
            right = [each.solution for each in own if each.correct]
            record = {"prompt_id": prompt.prompt_id, "samples": len(own), "correct": len(right)}
            record |= {"solutions": sorted(set(right))}
            lines.append(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        replace_file(path, "".join(lines))

    def _judged(
        self, prompts: Sequence[Prompt], responses: Written
    ) -> dict[Source, list[list[Judgement]]]:
        """[P][n] judgements of what each wrote."""
        return {
            source: [
                [
                    problem(prompt).judge(scored_text(self.rules, prompt, response))
                    for response in own
                ]
                for prompt, own in zip(prompts, written, strict=True)
            ]
            for source, written in responses.items()
        }


@grader_of.register
def _(reward: Verifier, task: Task, surroundings: Surroundings) -> VerifiedGrader:
    """Check that every prompt has something to verify; ValueError if one has not."""
    del surroundings
    for prompt in (*task.train, *task.validation, *task.test):
        problem(prompt)
    return VerifiedGrader(reward=reward, rules=task.rules)


@dataclass(frozen=True, kw_only=True, eq=False)
class SumGrader(OwnGrader):
    """Grades by the measures of one term, by the mean of the sum, and by each term's mean.

    Scores of the terms are called ``reward/term/<name>``.
    """

    measuring: Grader
    """The grader of the first term that has measures of its own; without one, this grader's mean is
    all there is."""
    terms: Mapping[str, OwnGrader]
    """Graders of the terms' means."""

    @property
    def headline(self) -> str:
        """That of the measuring term."""
        return self.measuring.headline

    @property
    def trained_on(self) -> str:
        """The retriever of the measuring term."""
        return self.measuring.trained_on

    @property
    def rows(self) -> Sequence[tuple[str, str]]:
        """The sum, and what the measuring term says."""
        others = [row for row in self.measuring.rows if row[0] != "reward"]
        return [("reward", self.said), *others]

    @property
    def documents(self) -> WordRuns | None:
        """The words of the measuring term's catalogue."""
        return self.measuring.documents

    def for_curves(self) -> "SumGrader":
        """The same with what costs least of the measuring term."""
        return replace(self, measuring=self.measuring.for_curves())

    def scores(
        self, prompts: Sequence[Prompt], responses: Written, *, prompts_per_batch: int
    ) -> dict[Cell, tuple[float, ...]]:
        """One score per prompt and measure."""
        size = prompts_per_batch
        found = dict(self.measuring.scores(prompts, responses, prompts_per_batch=size))
        found |= super().scores(prompts, responses, prompts_per_batch=size)
        for name, term in self.terms.items():
            own = term.scores(prompts, responses, prompts_per_batch=size)
            found |= {cell._replace(measure=f"{TERM}/{name}"): own[cell] for cell in own}
        return found

    def figures(self, scores: Mapping[Cell, Sequence[float]]) -> dict[str, float]:
        """Those of the measuring term."""
        return self.measuring.figures(scores)

    def write(
        self, folder: Path, prompts: Sequence[Prompt], responses: Written, *, phase: str
    ) -> None:
        """The files of the measuring term."""
        self.measuring.write(folder, prompts, responses, phase=phase)


@grader_of.register
def _(reward: WeightedSum, task: Task, surroundings: Surroundings) -> SumGrader:
    """Find the grader of every term; ValueError if one cannot grade the task."""
    graders = {name: grader_of(term, task, surroundings) for name, term in reward.terms.items()}
    bound = reward.bind({name: grader.reward for name, grader in graders.items()})
    measuring = next((name for name, each in graders.items() if each.headline != REWARD), None)
    own = partial(OwnGrader, rules=task.rules, set_utility=reward.utility)
    whole = own(reward=bound, said=bound.said)
    return SumGrader(
        reward=bound,
        rules=task.rules,
        set_utility=reward.utility,
        said=bound.said if measuring is None else f"{bound.said}; measured as {measuring} is",
        measuring=whole if measuring is None else graders[measuring],
        terms={name: own(reward=term, said=name) for name, term in bound.terms.items()},
    )
