"""What a table is: rows that are overrides, columns that are measures, sizes, seeds, claims.

A table is written down (``conf/experiment/table_*.yaml``) before its runs: its primary measure,
steps, decoding and tuning budget with it. A job is a row on a data set with a seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto

from rlcredit.evaluation.cells import Cell, Source

ESTIMATOR = "estimator="
TRAINED_ON = "bm25"
"""The retriever that jobs train on, where their data set does not name another."""


class Phase(StrEnum):
    """Which of a run's two looks at the test split."""

    before = auto()
    after = auto()


class Reduce(StrEnum):
    """How a logged series becomes one number per run."""

    mean = auto()
    total = auto()
    last = auto()
    area = auto()
    """Mean height of the curve over steps (its area, divided by the steps)."""
    reaches = auto()
    """The first step at which the column's level is reached."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method, or one way to do without."""

    label: str
    overrides: list[str]
    """Words as on the command line of train.py."""
    by_size: dict[str, list[str]] = field(default_factory=dict)
    """Size -> further overrides."""
    phase: Phase = Phase.after
    """``before``: the policy of the row's run before training (warm start, raw query, oracle)."""
    source: Source | None = None
    """Who wrote the searched text; None: the policy, decoded as the column says."""
    published: dict[str, float] = field(default_factory=dict)
    """What was measured -> the paper's number; shown at size=paper in a column of its own."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Size -> why there is no such row there."""

    @property
    def method(self) -> str:
        """Estimator and other words, as plots know a method (:mod:`rlcredit.report.colours`)."""
        chosen = [word for word in self.overrides if word.startswith(ESTIMATOR)]
        names = [word.removeprefix(ESTIMATOR) for word in chosen]
        return " ".join([*names, *(word for word in self.overrides if word not in chosen)])

    @property
    def trains(self) -> bool:
        """Whether its figures are those of a trained policy."""
        return self.source is None and self.phase is Phase.after


@dataclass(frozen=True, kw_only=True)
class Data:
    """A data set."""

    label: str
    overrides: list[str]
    by_size: dict[str, list[str]] = field(default_factory=dict)
    """Size -> further overrides."""
    retriever: dict[str, str] = field(default_factory=dict)
    """Size -> the retriever that its jobs train on there, and that scores what BM25 scores
    elsewhere: columns and the curve."""
    rows: list[str] = field(default_factory=list)
    """Rows that are run on it; none: all of the table's."""
    columns: list[str] = field(default_factory=list)
    """Columns that it has; none: all of the table's."""
    primary: str = ""
    """Column on which methods are compared; empty: the table's."""
    curve: str = ""
    """Metric of the learning curves; empty: the table's."""
    fresh: bool = False
    """Whether a seed draws data of its own too (``dataset.seed``): its test queries are no other
    seed's, and seeds are all that could have come out otherwise."""
    path: str = ""
    """Folder of files that its jobs read; where they are absent none is run. Empty: no files."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A column: a measure on the test split, one value per query."""

    label: str
    measure: str
    """``ndcg@10``, ``rr``, ``r@10``: as in summary.json."""
    retriever: str = TRAINED_ON
    """Empty where answers are verified and nothing is searched."""
    decoding: Source = Source.sampled
    at_least: float | None = None
    """The share of queries whose value is at least this, instead of the mean value."""
    among: float | None = None
    """The mean over the queries whose value is at least this, which differ from seed to seed."""
    sheet: str = ""
    """Heading under which it is shown apart; empty: in the data set's first sheet."""

    def __post_init__(self) -> None:
        """Refuse a share among a share."""
        if self.at_least is not None and self.among is not None:
            raise ValueError(
                f"column {self.label!r}: at_least={self.at_least:g} and among={self.among:g};"
                " give one of them"
            )

    def trained_on(self, retriever: str) -> "Score":
        """The same where another retriever is trained on."""
        return replace(self, retriever=retriever) if self.retriever == TRAINED_ON else self

    def name(self, source: Source | None) -> str:
        """The name in summary.json; that of who wrote the text, if that is not the policy."""
        return Cell(self.retriever, self.measure, source or self.decoding).name


@dataclass(frozen=True, kw_only=True)
class Logged:
    """A column: something of metrics.jsonl, one value per run."""

    label: str
    metric: str
    reduce: Reduce = Reduce.mean
    level: float = 0.0
    """Level that ``reaches`` asks for."""
    digits: int = 3

    def trained_on(self, retriever: str) -> "Logged":
        """The same where another retriever is trained on."""
        return replace(self, metric=_metric(self.metric, retriever))


def _metric(name: str, retriever: str) -> str:
    """The validation metric of a retriever in the place of BM25's."""
    return name.replace(f"/{TRAINED_ON}/", f"/{retriever}/")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How big, how often, and what the result may be called."""

    label: str
    overrides: list[str]
    seeds: list[int]
    runs_here: bool = True
    """False: composed and priced, not run (it needs GPUs)."""
    gpus: int = 0
    parameters: dict[str, float] = field(default_factory=dict)
    """Name of a policy -> its parameters; for the estimate of GPU hours."""
    scores: dict[str, Score] = field(default_factory=dict)
    """Columns of this size alone."""

    def parameters_of(self, policy: str) -> float:
        """Number of parameters of a policy, by its name.

        Raises:
            ValueError: If they are not declared.
        """
        if policy not in self.parameters:
            raise ValueError(
                f"policy.name={policy}: its number of parameters is not declared in this size's "
                f"parameters; known: {', '.join(self.parameters) or 'none'}"
            )
        return self.parameters[policy]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of a paper and the comparison that tests it: treatment minus control."""

    text: str
    """The claim in our words."""
    source: str
    treatment: str = ""
    """Row; empty: not tested here, and ``why`` says why."""
    control: str = ""
    data: str = ""
    column: str = ""
    larger: bool = True
    """Whether the claim says that the treatment's value is the larger one."""
    estimand: str = ""
    """The quantity that the comparison estimates, over which seeds and queries."""
    falsifier: str = ""
    """What outcome would count against the claim."""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """The whole declaration."""

    question: str
    primary: str
    """Column on which methods are compared."""
    steps: str
    decoding: str
    tuning: str
    """The tuning budget, equal for all rows."""
    control: str = ""
    """Row from which differences of the primary measure are taken; empty: none."""
    curve: str = ""
    """Validation metric of the learning curves; empty: no curves."""
    data: dict[str, Data] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    scores: dict[str, Score] = field(default_factory=dict)
    logged: dict[str, Logged] = field(default_factory=dict)
    sizes: dict[str, Size] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    conf: str = ""
    """Folder below ``conf/`` that its jobs are composed from, with ``conf/`` behind it; empty:
    ``conf/`` alone, whose defaults may change."""
    shown_at: str = field(default="", init=False)
    """The size whose rows, columns and curves these are (:meth:`at`); empty: of none."""

    def __post_init__(self) -> None:
        """Refuse names that do not exist."""
        for what, name, known in self._references():
            if name and name not in known:
                raise ValueError(f"{what}={name!r} is not declared; known: {', '.join(known)}")
        twice = set(self.scores) & set(self.logged)
        if twice:
            raise ValueError(f"columns {sorted(twice)} are declared as scores and as logged")

    def _references(self) -> Iterator[tuple[str, str, list[str]]]:
        rows, columns = list(self.rows), [*self.scores, *self.logged]
        yield "table.primary", self.primary, columns
        yield "table.control", self.control, rows
        for key, data in self.data.items():
            place = f"table.data.{key}"
            yield from ((f"{place}.rows", row, rows) for row in data.rows)
            yield from ((f"{place}.columns", column, columns) for column in data.columns)
            yield f"{place}.primary", self.primary_of(key), list(self.columns_of(key))
        for key, claim in self.claims.items():
            place = f"table.claims.{key}"
            yield f"{place}.data", claim.data, list(self.data)
            if claim.data in self.data:
                yield f"{place}.treatment", claim.treatment, self.rows_of(claim.data)
                yield f"{place}.control", claim.control, self.rows_of(claim.data)
                yield f"{place}.column", claim.column, list(self.columns_of(claim.data))

    def at(self, size: str) -> "Table":
        """The table as it is at one size: its rows, its columns, who is trained on.

        Raises:
            ValueError: If the table has no such size.
        """
        self.size(size)
        table = replace(self)
        object.__setattr__(table, "shown_at", size)
        return table

    def rows_of(self, data: str) -> list[str]:
        """Names of the rows that are run on a data set, in the table's order."""
        chosen = self.data[data].rows
        here = [name for name, row in self.rows.items() if self.shown_at not in row.left_out]
        return [row for row in here if not chosen or row in chosen]

    def columns_of(self, data: str) -> dict[str, Score | Logged]:
        """The columns that a data set has, in the table's order."""
        chosen, trained_on = self.data[data].columns, self._trained_on(data)
        columns: dict[str, Score | Logged] = {
            **{name: column.trained_on(trained_on) for name, column in self.scores.items()},
            **(self.sizes[self.shown_at].scores if self.shown_at else {}),
            **{name: column.trained_on(trained_on) for name, column in self.logged.items()},
        }
        return {name: c for name, c in columns.items() if not chosen or name in chosen}

    def _trained_on(self, data: str) -> str:
        return self.data[data].retriever.get(self.shown_at, TRAINED_ON)

    def primary_of(self, data: str) -> str:
        """The column on which methods are compared on a data set."""
        return self.data[data].primary or self.primary

    def curve_of(self, data: str) -> str:
        """The metric of a data set's learning curves; empty: none."""
        return _metric(self.data[data].curve or self.curve, self._trained_on(data))

    def reads_validation(self, data: str) -> bool:
        """Whether scores of the validation split are shown of a data set."""
        logged = [c.metric for c in self.columns_of(data).values() if isinstance(c, Logged)]
        return any(metric.startswith("eval/") for metric in (*logged, self.curve_of(data)))

    def size(self, name: str) -> Size:
        """A size by name.

        Raises:
            ValueError: If the table has no such size.
        """
        if name not in self.sizes:
            raise ValueError(f"SIZE={name!r}: this table has {', '.join(self.sizes)}")
        return self.sizes[name]

    def overrides(self, row: str, data: str, size: str, seed: int) -> list[str]:
        """Words of a job, without ``seed`` itself; later ones win."""
        chosen, searched = self.rows[row], self.data[data].retriever.get(size)
        return [
            *self.size(size).overrides,
            *self.data[data].overrides,
            *self.data[data].by_size.get(size, []),
            *([f"retriever={searched}"] if searched else []),
            *([f"dataset.seed={seed}"] if self.data[data].fresh else []),
            *chosen.overrides,
            *chosen.by_size.get(size, []),
        ]
