"""The next purchase: H&M Personalized Fashion Recommendations, or a generated clothes shop."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from rlcredit.identity import ASIDE
from rlcredit.tasks.base import SearchTask
from rlcredit.tasks.generated import hm_catalogue
from rlcredit.tasks.generated.hm_customers import generated_parts
from rlcredit.tasks.instructions import check_instruction
from rlcredit.tasks.published.hm_customers import Filters, published_parts
from rlcredit.tasks.published.hm_files import (
    ARTICLES,
    CUSTOMERS,
    KAGGLE,
    TRANSACTIONS,
    has_customers,
)
from rlcredit.tasks.published.tables import file_digest, table_file
from rlcredit.tasks.settings import Limits, Parts, Source, finish, reading, text_rules
from rlcredit.text.response import Compose, TextRules

POOL = 100


@dataclass(frozen=True, kw_only=True)
class HM:
    """Customers' histories, and the one article each buys next (grade 3) among 99 others.

    ``generated`` makes 1,440 articles and 576 + 80 + 160 customers (train, validation, test).
    ``path`` reads the published files: the history is all that was bought before the customer's
    last day, the target one article of that day that was not bought before and whose name the
    prompt does not show. What was left out is counted. Customers are split by a hash of their id.
    Limits of None mean all.

    Raises:
        ValueError: If a number is out of its range, the source needs a path and has none, or the
            source is the hub, where the set is not published.
    """

    source: Source = Source.generated
    path: str | None = field(default=None, metadata=ASIDE)
    """Folder of the published files; ``source=path`` only."""
    seed: int = 0
    """Seed of the generated shop, or of the random part of the pools. Not the run's seed."""
    max_phrases: int | None = None
    """The scored text ends after so many phrases. None: 8 where generated, else no limit; 0: no
    limit."""
    max_words: int | None = None
    """A longer phrase counts as nothing. None: 3 where generated, else no limit; 0: no limit."""
    unique: bool | None = None
    """A repeated phrase counts once. None: true where generated, else false."""
    known_words: bool | None = None
    """A phrase counts only if all its words stand in the catalogue, the training prompts or what
    their teacher says. None: true where generated, else false."""
    new_words: bool | None = None
    """A phrase all of whose words were said before counts as nothing. None: true where generated,
    else false."""
    void_overlong: bool | None = None
    """A text of more phrases than ``max_phrases`` counts as nothing. None: true where generated,
    else false."""
    candidates: int = 0
    """K: each response offers so many alternative search texts (arXiv:2603.29871); 0: it is one."""
    compose: Compose = Compose.own
    instruction: str | None = None
    """What a policy is asked instead of the task's own instruction, with ``{query}`` for what it is
    asked about; None: the task's own."""
    pool_size: int = POOL
    """Articles to rank: the target and others the customer did not buy."""
    history_tokens: int = 48
    """The prompt shows the latest articles, whole, in at most so many words and punctuation
    marks."""
    min_history: int = 2
    """Published customers with fewer different articles before their last day are dropped."""
    days: int | None = 28
    """Only purchases of so many days before the newest one are read from the published files."""
    validation_share: float = 0.1
    """Share of the published customers that becomes validation."""
    test_share: float = 0.2
    """Share of the published customers that becomes test."""
    max_documents: int | None = 4000
    """Published catalogue: all targets, and random other articles that were sold, up to this."""
    max_train: int | None = 1000
    """Most training prompts; None: all."""
    max_validation: int | None = 150
    """Most validation prompts; None: all."""
    max_test: int | None = 200
    """Most test prompts; None: all."""

    def __post_init__(self) -> None:
        """Check what no loader could make sense of."""
        check_instruction(self.instruction)
        if self.source is Source.hub:
            raise ValueError(
                "dataset.source=hub, but H&M's data are not on the hub; accept the rules of the "
                f"Kaggle competition {KAGGLE}, unpack {ARTICLES}.csv, {TRANSACTIONS}.csv and "
                f"{CUSTOMERS}.csv into a folder, and run: rlcredit train dataset=hm "
                "dataset.source=path dataset.path=<that folder>"
            )
        if self.source is Source.path and self.path is None:
            raise ValueError(
                f"dataset.source=path needs dataset.path=<folder with {ARTICLES}.parquet and "
                f"{TRANSACTIONS}.parquet, or .csv>"
            )
        for name, least in (("pool_size", 2), ("history_tokens", 1), ("min_history", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"dataset.{name}={getattr(self, name)} is below {least}")
        if self.days is not None and self.days < 2:
            raise ValueError(f"dataset.days={self.days}, but a history and a target need 2 days")
        shares = (self.validation_share, self.test_share)
        if min(shares) <= 0 or sum(shares) >= 1:
            raise ValueError(
                f"dataset.validation_share={shares[0]} and dataset.test_share={shares[1]} must be "
                "above 0 and leave something for training"
            )
        self._limits()
        self._rules()

    @property
    def reading(self) -> int:
        """Version of how texts are read."""
        return reading(self.source, self._rules())

    def content(self) -> tuple[str, ...]:
        """The generator's version, or the hashes of the files."""
        if self.source is not Source.path:
            return (hm_catalogue.VERSION,)
        folder = self._folder()
        optional = (CUSTOMERS,) if has_customers(folder) else ()
        names = (ARTICLES, TRANSACTIONS, *optional)
        return tuple(file_digest(table_file(folder, name)) for name in names)

    def load(self) -> SearchTask:
        """Generate or read the set.

        Raises:
            FileNotFoundError: If the folder or a file is missing.
            ValueError: If a file is damaged, lacks a column, or a split is left empty.
        """
        generated = self.source is Source.generated
        return generated_task(self) if generated else self._finished(self._published())

    def _finished(self, parts: Parts) -> SearchTask:
        return finish(
            "hm",
            self.source,
            parts,
            self._rules(),
            known_words=self.known_words,
            instruction=self.instruction,
        )

    def _generated(self) -> Parts:
        made = hm_catalogue.generate(self.seed, pool_size=self.pool_size)
        return generated_parts(made, limits=self._limits(), history_tokens=self.history_tokens)

    def _published(self) -> Parts:
        return published_parts(
            self._folder(),
            filters=Filters(
                days=self.days,
                min_history=self.min_history,
                history_tokens=self.history_tokens,
                validation_share=self.validation_share,
                test_share=self.test_share,
            ),
            limits=self._limits(),
            pool_size=self.pool_size,
            seed=self.seed,
        )

    def _folder(self) -> Path:
        return Path(self.path or "")

    def _limits(self) -> Limits:
        return Limits(
            train=self.max_train,
            validation=self.max_validation,
            test=self.max_test,
            documents=self.max_documents,
        )

    def _rules(self) -> TextRules:
        return text_rules(
            self.source,
            max_phrases=self.max_phrases,
            max_words=self.max_words,
            unique=self.unique,
            new_words=self.new_words,
            void_overlong=self.void_overlong,
            num_candidates=self.candidates,
            compose=self.compose,
        )


@lru_cache(maxsize=4)
def generated_task(settings: HM) -> SearchTask:
    """The generated set, made once for all jobs of a process."""
    return settings._finished(settings._generated())
