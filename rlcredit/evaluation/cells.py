"""What a score is the score of."""

from collections.abc import Mapping, Sequence
from enum import StrEnum, auto
from typing import NamedTuple

from rlcredit.retrieval.measures import NDCG, AveragePrecision, Measure, Recall, ReciprocalRank

MEASURES = (NDCG(), ReciprocalRank(), Recall())
"""Measures of every run: nDCG@10, reciprocal rank (as deep as run files are), recall@10."""
TREC_MEASURES: tuple[Measure, ...] = (
    *MEASURES,
    NDCG(cutoff=100),
    Recall(cutoff=50),
    Recall(cutoff=100),
    AveragePrecision(),
)
"""The measures of every run, and those of retrieval papers; for scores of stored responses."""

NO_RETRIEVER = ""
"""In a cell's place for a retriever, where nothing is searched."""
WORDS = "words"
"""Words of a searched text: what a query costs who types or runs it."""
PASS = "pass"
"""Pass@k of verified answers; ``pass@1`` is their accuracy."""


class Source(StrEnum):
    """Who wrote the text that is searched with."""

    sampled = auto()
    """The policy, at the temperature of training; a prompt's score is the mean over its samples."""
    greedy = auto()
    """The policy, taking the most probable token."""
    query = auto()
    """The person: the raw query."""
    rm3 = auto()
    """A search engine without a policy: the raw query, expanded by RM3 on BM25."""
    oracle = auto()
    """The truth: every true attribute in its canonical wording. Generated data only."""


class Cell(NamedTuple):
    """What a score is the score of."""

    retriever: str
    """"" where an answer is verified and nothing is searched."""
    measure: str
    source: Source

    @property
    def name(self) -> str:
        """The name in metrics: ``bm25/ndcg@10_sampled``; of verified answers ``pass@1_greedy``."""
        if self.retriever:
            return f"{self.retriever}/{self.measure.lower()}_{self.source}"
        return self.measure if self.source is Source.sampled else f"{self.measure}_{self.source}"

    @property
    def is_minor(self) -> bool:
        """Pass@k of a k that is no power of two: on disk, but not in the table at the end."""
        name, _, k = self.measure.partition("@")
        return name == PASS and int(k).bit_count() > 1


Written = Mapping[Source, Sequence[Sequence[str]]]
"""Texts by who wrote them: [P][texts per prompt]."""
