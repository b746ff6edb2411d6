"""Product search: ESCI, the Shopping Queries Dataset (arXiv:2206.06588), or a generated one."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from rlcredit.identity import ASIDE
from rlcredit.tasks.base import SearchTask
from rlcredit.tasks.generated import esci_catalogue, esci_distractors
from rlcredit.tasks.generated.esci_distractors import with_distractors
from rlcredit.tasks.generated.esci_intents import with_two_intents
from rlcredit.tasks.generated.esci_prompts import generated_parts
from rlcredit.tasks.instructions import check_instruction
from rlcredit.tasks.published.esci_files import EXAMPLES, PRODUCTS, read_files
from rlcredit.tasks.published.esci_prompts import Filters, published_parts
from rlcredit.tasks.published.hub import hub_tables
from rlcredit.tasks.published.queries import PoolPlan
from rlcredit.tasks.published.tables import Table, file_digest, table_file
from rlcredit.tasks.settings import (
    Limits,
    Parts,
    Source,
    finish,
    reading,
    text_rules,
)
from rlcredit.tasks.stored_texts import with_stored_texts
from rlcredit.text.response import Compose, TextRules

GENERATED_POOL, PUBLISHED_POOL = 100, 101


@dataclass(frozen=True, kw_only=True)
class ESCI:
    """Queries and products with grades E S C I = 3 2 1 0; unjudged products have grade 0.

    ``generated`` makes 1,920 products and 576 + 80 + 160 queries (train, validation, test).
    ``path`` reads the published files, ``hub`` the same data from the Hugging Face hub. Queries
    without an Exact product are dropped and counted. The published split is respected, and the
    validation queries are a part of its training queries. Limits of None mean all.

    Raises:
        ValueError: If a number is out of its range, or the source needs a path and has none.
    """

    source: Source = Source.generated
    path: str | None = field(default=None, metadata=ASIDE)
    """Folder of the published files; ``source=path`` only."""
    seed: int = 0
    """Seed of the generated catalogue, or of the random part of the pools. Not the run's seed."""
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
    ambiguous_share: float = 0.0
    """Share of the generated queries that name two possible intents, one of which is meant."""
    size: int | None = None
    """Products of the generated catalogue: the 1,920 that the queries are about, and distractors of
    Zipfian words up to so many. None: the 1,920."""
    cache: str = field(default="outputs/cache", metadata=ASIDE)
    """Folder in which the texts of a large catalogue are kept, memory-mapped."""
    pool_size: int | None = None
    """Products to rank per query. None: 100 where generated, else 101. A published query's judged
    products all enter, and a smaller catalogue gives smaller pools."""
    num_near: int = 50
    """Products of a published query's pool that are lexically nearest to it and its Exact titles.
    ESCI does not judge all products, so a few of them may be relevant."""
    locale: str = "us"
    """Country whose published queries are read; the files have us, es and jp."""
    small_version: bool = True
    """Only the queries of ESCI's reduced, harder set."""
    validation_share: float = 0.15
    """Share of the published training queries that becomes validation."""
    document_words: int | None = 64
    """Published product texts are cut to so many words; title, brand and colour come first."""
    max_documents: int | None = 4000
    """Published catalogue: all products judged for a kept query, and random others up to this."""
    max_train: int | None = 1000
    """Most training prompts; None: all."""
    max_validation: int | None = 150
    """Most validation prompts; None: all."""
    max_test: int | None = 200
    """Most test prompts; None: all."""
    hub_name: str = "tasksource/esci"
    """Name on the hub, or a local folder of the same layout; ``source=hub`` only."""
    revision: str | None = None
    """Commit on the hub; None: the newest."""

    def __post_init__(self) -> None:
        """Check what no loader could make sense of."""
        if self.source is Source.path and self.path is None:
            raise ValueError(
                "dataset.source=path needs dataset.path=<folder with "
                f"{EXAMPLES}.parquet and {PRODUCTS}.parquet>"
            )
        if not 0 < self.validation_share < 1:
            raise ValueError(f"dataset.validation_share={self.validation_share} is not in (0, 1)")
        self._check_generated()
        if self.pool_size is not None and self.pool_size < 2:
            raise ValueError(f"dataset.pool_size={self.pool_size}, but a ranking needs 2 products")
        if self.num_near < 0:
            raise ValueError(f"dataset.num_near={self.num_near} is below 0")
        check_instruction(self.instruction)
        self._limits()
        self._rules()

    def _check_generated(self) -> None:
        """Check what concerns the generated set alone."""
        if not 0 <= self.ambiguous_share <= 1:
            raise ValueError(f"dataset.ambiguous_share={self.ambiguous_share} is not in [0, 1]")
        if self.ambiguous_share and self.source is not Source.generated:
            raise ValueError(
                f"dataset.ambiguous_share={self.ambiguous_share}, dataset.source={self.source}: "
                "only generated queries can be given a second intent; leave it at 0"
            )
        if self.size is not None and self.source is not Source.generated:
            raise ValueError(
                f"dataset.size={self.size}, dataset.source={self.source}: only a generated "
                "catalogue has a size to choose; set dataset.max_documents"
            )
        if self.size is not None and self.size < esci_catalogue.SIZE:
            raise ValueError(
                f"dataset.size={self.size}, but the generated queries are about "
                f"{esci_catalogue.SIZE} products; give as many or more"
            )

    @property
    def reading(self) -> int:
        """Version of how texts are read."""
        return reading(self.source, self._rules())

    def content(self) -> tuple[str, ...]:
        """The generator's version, or the hashes of the files."""
        if self.source is Source.path:
            files = (table_file(self._folder(), name) for name in (EXAMPLES, PRODUCTS))
            return tuple(map(file_digest, files))
        if self.size is None or self.size == esci_catalogue.SIZE:
            return (esci_catalogue.VERSION,)
        return (esci_catalogue.VERSION, esci_distractors.VERSION)

    def load(self) -> SearchTask:
        """Generate or read the set.

        Raises:
            FileNotFoundError: If the folder or a file is missing.
            ConnectionError: If the hub cannot be reached and the set is not in its cache.
            ValueError: If a file is damaged, lacks a column, or a split is left empty.
        """
        if self.source is Source.generated:
            return generated_task(self)
        return self._finished(self._from_hub() if self.source is Source.hub else self._from_path())

    def _finished(self, parts: Parts) -> SearchTask:
        return finish(
            "esci",
            self.source,
            parts,
            self._rules(),
            known_words=self.known_words,
            instruction=self.instruction,
        )

    def _generated(self) -> Parts:
        size = self.pool_size or GENERATED_POOL
        made = esci_catalogue.generate(self.seed, pool_size=size)
        if self.ambiguous_share:
            made = with_two_intents(
                made, share=self.ambiguous_share, seed=self.seed, pool_size=size
            )
        parts = generated_parts(made, limits=self._limits())
        if self.size is None or self.size == esci_catalogue.SIZE:
            return parts
        documents = with_distractors(
            parts.documents,
            size=self.size,
            seed=self.seed,
            folder=self._catalogues(),
        )
        return replace(parts, documents=documents, counts={**parts.counts, "products": self.size})

    def _from_path(self) -> Parts:
        return self._published(*read_files(self._folder()))

    def _from_hub(self) -> Parts:
        return self._published(*hub_tables(self.hub_name, revision=self.revision))

    def _published(self, examples: Table, products: Table) -> Parts:
        parts = published_parts(
            examples,
            products,
            filters=Filters(
                locale=self.locale,
                small_version=self.small_version,
                validation_share=self.validation_share,
                document_words=self.document_words,
            ),
            limits=self._limits(),
            pools=PoolPlan(
                size=self.pool_size or PUBLISHED_POOL, num_near=self.num_near, seed=self.seed
            ),
        )
        return replace(parts, documents=with_stored_texts(parts.documents, self._catalogues()))

    def _catalogues(self) -> Path:
        return Path(self.cache) / "catalogues"

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
def generated_task(settings: ESCI) -> SearchTask:
    """The generated set, made once for all jobs of a process."""
    return settings._finished(settings._generated())
