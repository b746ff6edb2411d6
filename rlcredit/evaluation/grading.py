"""What grades a run: its training reward, and the measures of its evaluations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from rlcredit.data.base import Task
from rlcredit.estimators.base import SetUtility
from rlcredit.evaluation.cells import Cell, Written
from rlcredit.evaluation.expansion import Expansion
from rlcredit.evaluation.scores import run_texts, score_responses
from rlcredit.evaluation.trec import write_qrels, write_runs
from rlcredit.evaluation.verified import VerifiedGrader
from rlcredit.retrieval.base import Documents, Retriever
from rlcredit.rewards.base import Reward
from rlcredit.rewards.engine import Counts
from rlcredit.rewards.ranking import Ranking, RankingReward
from rlcredit.rewards.verifier import Verifier
from rlcredit.text.copying import WordRuns
from rlcredit.text.response import TextRules
from rlcredit.types import Prompt


@runtime_checkable
class Grader(Protocol):
    """All that differs between a task of search and one of verified answers."""

    @property
    def reward(self) -> Reward:
        """What is trained on."""
        ...

    @property
    def utility(self) -> SetUtility | None:
        """What a set of candidates earns; None where answers are no sets."""
        ...

    @property
    def headline(self) -> str:
        """Name of the score that a run is judged by, within a split."""
        ...

    @property
    def trained_on(self) -> str:
        """The retriever whose scores are marked in tables; "" where there is none."""
        ...

    @property
    def rows(self) -> Sequence[tuple[str, str]]:
        """Name and text of what a run's header says of the reward."""
        ...

    @property
    def counts(self) -> Callable[[], Counts] | None:
        """What the reward was asked for so far, where it counts that."""
        ...

    @property
    def documents(self) -> WordRuns | None:
        """Runs of words of the catalogue, where there is one."""
        ...

    def for_curves(self) -> "Grader":
        """The same with what costs least: for scores during training."""
        ...

    def scores(
        self, prompts: Sequence[Prompt], responses: Written, *, prompts_per_batch: int
    ) -> dict[Cell, tuple[float, ...]]:
        """One score per prompt and measure."""
        ...

    def figures(self, scores: Mapping[Cell, Sequence[float]]) -> dict[str, float]:
        """What is no mean over prompts, by name."""
        ...

    def write(
        self, folder: Path, prompts: Sequence[Prompt], responses: Written, *, phase: str
    ) -> None:
        """Files of an evaluation of the test split, from which others can compute measures."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchGrader:
    """Texts are searched with, by the retriever that is trained on and by others."""

    rules: TextRules
    """Rules of the task."""
    catalogue: Documents
    rewards: Mapping[str, RankingReward]
    """Retriever name -> its reward; the training retriever first."""
    utility: SetUtility
    expansion: Expansion

    @property
    def reward(self) -> RankingReward:
        """The reward by the training retriever."""
        return self.rewards[self.trained_on]

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
        """A line of the header that names the retrievers."""
        trained, *unseen = self.rewards
        return [("retriever", f"{trained}; unseen in training: {', '.join(unseen) or 'none'}")]

    @property
    def counts(self) -> Callable[[], Counts]:
        """What the training retriever's engine was asked for so far."""
        return lambda: self.reward.counts

    @property
    def documents(self) -> WordRuns:
        """Runs of words of the catalogue."""
        return WordRuns.of(self.catalogue.texts)

    def for_curves(self) -> "SearchGrader":
        """The same grader with the training retriever alone."""
        return replace(self, rewards={self.trained_on: self.reward})

    def scores(
        self, prompts: Sequence[Prompt], responses: Written, *, prompts_per_batch: int
    ) -> dict[Cell, tuple[float, ...]]:
        """Score every response by every retriever and measure, per prompt."""
        return score_responses(
            self.rewards,
            self.rules,
            prompts,
            responses,
            expansion=self.expansion,
            prompts_per_batch=prompts_per_batch,
        )

    def figures(self, scores: Mapping[Cell, Sequence[float]]) -> dict[str, float]:
        """All of search is means."""
        del scores
        return {}

    def write(
        self, folder: Path, prompts: Sequence[Prompt], responses: Written, *, phase: str
    ) -> None:
        """TREC judgements and run files, in ``trec/``."""
        texts = run_texts(self.rules, prompts, responses, expansion=self.expansion)
        write_qrels(folder / "trec" / "test.qrels", prompts)
        write_runs(folder / "trec" / f"test-{phase}", prompts, texts, self.rewards)


@dataclass(frozen=True, kw_only=True)
class TaskGraders:
    """Makes the grader of a task; implements :class:`rlcredit.rewards.base.Graders`."""

    task: Task
    retrievers: Mapping[str, Retriever]
    """Retrievers by name; the training retriever first."""
    cache: Path
    failures: Path
    """Folder for the texts on which a retriever fails."""

    def by_ranking(self, settings: Ranking) -> Grader:
        """Index the documents for every retriever.

        Raises:
            ValueError: If the task has none.
        """
        task = self.task.searched()
        return SearchGrader(
            rules=task.rules,
            catalogue=task.documents,
            rewards={
                name: settings.bind(
                    retriever.index(task.documents, cache=self.cache), failures=self.failures
                )
                for name, retriever in self.retrievers.items()
            },
            utility=settings.utility,
            expansion=Expansion.of(task.documents, settings, cache=self.cache),
        )

    def by_rule(self, settings: Verifier) -> Grader:
        """Check that there is something to verify.

        Raises:
            ValueError: If the prompts are no problems.
        """
        return VerifiedGrader.of(self.task, settings)
