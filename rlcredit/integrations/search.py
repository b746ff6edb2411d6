"""The search tasks without a run: prompts with judgements, and a retriever as the reward."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rlcredit.estimators import Max
from rlcredit.estimators.base import AdvantageEstimator
from rlcredit.retrieval.base import Retriever
from rlcredit.retrieval.bm25 import BM25
from rlcredit.retrieval.measures import NDCG, Measure
from rlcredit.rewards.ranking import Ranking, RankingReward
from rlcredit.scoring.credit import Credit
from rlcredit.tasks.base import Dataset, SearchTask
from rlcredit.types import Prompt

_CACHE = Path("outputs/cache")


@dataclass(frozen=True, kw_only=True)
class Search:
    """A task of search, and the reward of texts that are searched with.

    >>> from rlcredit.tasks.esci import ESCI
    >>> found = Search.of(ESCI())
    >>> prompt = found.task.train[0]
    >>> done = found.credit("loo")([prompt], [["<answer>suitcase, blue</answer>", "no, <answer>"]])
    >>> [part.text for part in done.completions[0].segments]
    ['suitcase', 'blue']
    """

    task: SearchTask
    reward: RankingReward

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        *,
        retriever: Retriever | None = None,
        measure: Measure | None = None,
        word_cost: float = 0.0,
        cache: Path = _CACHE,
    ) -> "Search":
        """Load or generate the data, and index the documents.

        Args:
            dataset: ``ESCI()`` or ``HM()`` of :mod:`rlcredit.tasks`, generated unless told.
            retriever: None: BM25.
            measure: None: nDCG@10.
            word_cost: What any word costs, in units of the measure.
            cache: Folder of indexes that are worth keeping.

        Raises:
            FileNotFoundError: If files of the data are missing.
            ValueError: If the data are damaged.
        """
        task = dataset.load()
        ranking = Ranking(
            measure=NDCG() if measure is None else measure, utility=Max(), word_cost=word_cost
        )
        index = (BM25() if retriever is None else retriever).index(task.documents, cache=cache)
        return cls(task=task, reward=ranking.bind(index, catalogue=task.documents))

    @cached_property
    def prompts(self) -> Mapping[str, Prompt]:
        """All prompts, by their ids."""
        task = self.task
        return {one.prompt_id: one for one in (*task.train, *task.validation, *task.test)}

    def credit(self, estimator: AdvantageEstimator | str, *, seed: int = 0) -> Credit:
        """The credit of an estimator, on the rules of the task."""
        return Credit(reward=self.reward, estimator=estimator, rules=self.task.rules, seed=seed)
