"""The baseline that a search engine has anyway: the raw query, expanded by RM3 on BM25."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlcredit.evaluation.cells import Source
from rlcredit.retrieval.base import Documents
from rlcredit.retrieval.bm25 import BM25
from rlcredit.retrieval.rm3 import RM3
from rlcredit.rewards.ranking import Ranking, RankingReward
from rlcredit.types import Prompt


@dataclass(frozen=True, kw_only=True, eq=False)
class Expansion:
    """Expands queries with what BM25 finds for them among the documents that are ranked."""

    search: RankingReward
    documents: Documents
    rm3: RM3

    @classmethod
    def of(cls, documents: Documents, reward: Ranking, *, cache: Path) -> "Expansion":
        """RM3 with its usual settings, over the same pools (or catalogue) as the reward.

        A word that a raw query repeats counts each time, as Anserini's BM25 does.
        """
        return cls(
            search=reward.bind(BM25(k3=None).index(documents, cache=cache)),
            documents=documents,
            rm3=RM3(),
        )

    def __call__(self, prompts: Sequence[Prompt]) -> list[str]:
        """The expanded raw query of each prompt."""
        queries = [prompt.query for prompt in prompts]
        found = self.search.run(prompts, queries, depth=self.rm3.num_documents)
        return [
            self.rm3(query, [(self.documents.text(document), score) for document, score in ranking])
            for query, ranking in zip(queries, found, strict=True)
        ]


def reward_for(source: str, reward: RankingReward) -> RankingReward:
    """The reward that reads a source's texts as they are meant: RM3's repetitions are weights."""
    return reward.linear if source == Source.rm3 else reward
