"""Any collection in BEIR's layout (arXiv:2104.08663): one's own documents, queries, judgements."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rlcredit.identity import ASIDE
from rlcredit.tasks.base import SearchTask
from rlcredit.tasks.instructions import check_instruction
from rlcredit.tasks.published.beir_files import Collection, content_of, read_collection
from rlcredit.tasks.published.queries import (
    PoolPlan,
    Query,
    catalogue,
    chosen_queries,
    parts_of,
)
from rlcredit.tasks.settings import Limits, Parts, Source, finish, text_rules
from rlcredit.tasks.splits import share_of
from rlcredit.text.response import Compose, TextRules, segment_key

INSTRUCTION = (
    "You expand search queries. Given a query, list what a text that answers it would say. Write "
    "short phrases separated by commas inside <answer></answer>."
)
RELEVANT = 3
"""The grade that recall and reciprocal rank count, and that a query must have one of."""


@dataclass(frozen=True, kw_only=True)
class BEIR:
    """A folder of corpus.jsonl, queries.jsonl and qrels/, in BEIR's or TREC's columns.

    The splits of the files are respected. Where no file has training judgements, the queries of the
    others are dealt out by a hash of their text; where none has validation judgements, a part of
    the training queries is taken. Queries without a relevant document are dropped and counted.

    Raises:
        ValueError: If a number is out of its range, or an instruction has no place for the query.
    """

    path: str = field(metadata=ASIDE)
    """The folder."""
    lowest_relevant: int = 1
    """The lowest grade of the files that is relevant: it and those above become grade 3."""
    grades: dict[int, int] = field(default_factory=dict)
    """Grade of the files -> grade from 0 to 3, for gains by grade (``reward.measure.gains``);
    empty: by ``lowest_relevant``."""
    seed: int = 0
    """Seed of the random part of the pools. Not the run's seed."""
    max_phrases: int | None = None
    """The scored text ends after so many phrases. None: no limit."""
    max_words: int | None = None
    """A longer phrase counts as nothing. None: no limit."""
    unique: bool = False
    """A repeated phrase counts once."""
    known_words: bool = False
    """A phrase counts only if all its words stand in the collection or the training side."""
    new_words: bool = False
    """A phrase all of whose words were said before counts as nothing."""
    candidates: int = 0
    """K: each response offers so many alternative search texts (arXiv:2603.29871); 0: it is one."""
    compose: Compose = Compose.own
    instruction: str | None = None
    """What a policy is asked instead of the task's own instruction, with ``{query}`` for what it is
    asked about; None: the task's own."""
    pool_size: int = 101
    """Documents to rank per query under ``reward.scope=pool``: judged ones, near ones, others."""
    num_near: int = 50
    """Documents of a pool that are lexically nearest to the query and its relevant documents."""
    validation_share: float = 0.15
    """Share of the training queries that becomes validation where no file says which."""
    test_share: float = 0.2
    """Share of all queries that becomes test where no file of training judgements is there."""
    document_words: int | None = 128
    """Documents are cut to so many words, title first."""
    max_documents: int | None = None
    """All judged documents, and random others up to this."""
    max_train: int | None = None
    """Most training prompts; None: all."""
    max_validation: int | None = 150
    """Most validation prompts; None: all."""
    max_test: int | None = 200
    """Most test prompts; None: all."""

    def __post_init__(self) -> None:
        """Check what no loader could make sense of."""
        check_instruction(self.instruction)
        for name in ("validation_share", "test_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"dataset.{name}={getattr(self, name)} is not in (0, 1)")
        if self.pool_size < 2:
            raise ValueError(f"dataset.pool_size={self.pool_size}, but a ranking needs 2 documents")
        if self.num_near < 0:
            raise ValueError(f"dataset.num_near={self.num_near} is below 0")
        if not all(0 <= grade <= RELEVANT for grade in self.grades.values()):
            raise ValueError(
                f"dataset.grades={self.grades}: a grade becomes 0 (irrelevant) to {RELEVANT} "
                "(relevant, what recall and reciprocal rank count)"
            )
        self._limits()
        self._rules()

    @property
    def reading(self) -> int:
        """Version of how texts are read."""
        return 1

    def content(self) -> tuple[str, ...]:
        """The hashes of the files."""
        return content_of(Path(self.path))

    def load(self) -> SearchTask:
        """Read the folder.

        Raises:
            FileNotFoundError: If the folder or a file is missing.
            ValueError: If a file is damaged, or a split is left empty.
        """
        read = read_collection(Path(self.path), max_words=self.document_words)
        counts: Counter[str] = Counter()
        queries = chosen_queries(
            self._judged(read, counts),
            read.titles,
            validation_share=0.0 if "validation" in read.judgements else self.validation_share,
            limits=self._limits(),
            counts=counts,
        )
        kept = catalogue(list(read.texts), queries, self.max_documents)
        texts = {document: read.texts[document] for document in kept}
        return finish(
            "beir",
            Source.path,
            self._parts(queries, texts, read, counts),
            self._rules(),
            known_words=self.known_words,
            instruction=self.instruction,
        )

    def _parts(
        self, queries: list[Query], texts: dict[str, str], read: Collection, counts: Counter[str]
    ) -> Parts:
        counts["documents"] = len(texts)
        pools = PoolPlan(size=self.pool_size, num_near=self.num_near, seed=self.seed)
        return parts_of(
            queries, texts, read.titles, pools=pools, instruction=INSTRUCTION, counts=counts
        )

    def _judged(self, read: Collection, counts: Counter[str]) -> list[Query]:
        """The queries with grades of 0 to 3, each on its side."""
        by_hash = "train" not in read.judgements
        if by_hash:
            counts["queries dealt out by a hash (no training judgements)"] = sum(
                map(len, read.judgements.values())
            )
        return [
            Query(
                query_id=query,
                text=read.queries[query],
                split=self._dealt(read.queries[query]) if by_hash else split,
                grades={document: self._grade(grade) for document, grade in judged.items()},
            )
            for split, own in read.judgements.items()
            for query, judged in own.items()
        ]

    def _dealt(self, text: str) -> str:
        drawn = share_of(segment_key(text), purpose="test")
        return "test" if drawn < self.test_share else "train"

    def _grade(self, grade: int) -> int:
        if not self.grades:
            return RELEVANT if grade >= self.lowest_relevant else 0
        if grade > 0 and grade not in self.grades:
            raise ValueError(
                f"the files have grade {grade}, and dataset.grades={self.grades} does not say what "
                "it is worth; add it"
            )
        return self.grades.get(grade, 0)

    def _limits(self) -> Limits:
        return Limits(
            train=self.max_train,
            validation=self.max_validation,
            test=self.max_test,
            documents=self.max_documents,
        )

    def _rules(self) -> TextRules:
        return text_rules(
            Source.path,
            max_phrases=self.max_phrases,
            max_words=self.max_words,
            unique=self.unique,
            new_words=self.new_words,
            void_overlong=False,
            num_candidates=self.candidates,
            compose=self.compose,
        )
