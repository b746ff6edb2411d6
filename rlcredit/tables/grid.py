"""Cells of a declared table, filled from finished runs, each with the runs it came from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rlcredit.evaluation.stats import (
    Interval,
    area_under_curve,
    crossed_interval,
    interquartile_mean,
    seed_interval,
)
from rlcredit.tables.declare import Logged, Reduce, Row, Score, Table
from rlcredit.tables.jobs import SeedRun
from rlcredit.tables.records import Record, Scores, revision


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure with its proof, or the reasons why there is none."""

    address: str
    """``esci/ospo/ndcg``."""
    estimate: Interval | None
    per_seed: Mapping[int, float]
    """Seed -> mean over its queries."""
    runs: tuple[str, ...]
    gaps: tuple[str, ...]
    by_query: NDArray[np.float64] | None = None
    """[S, Q], where the column has a value per query."""
    queries: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Seed -> ids of the queries that it was scored on, of a column of scores."""
    families: NDArray[np.int64] | None = None
    """[Q], the number of each query's family, where the runs recorded it."""

    def __post_init__(self) -> None:
        """A figure without the runs it came from is not one."""
        if self.estimate is not None and not len(self.runs) == len(self.per_seed) > 0:
            raise ValueError(
                f"{self.address}: a mean of {len(self.per_seed)} seeds with {len(self.runs)} runs "
                "behind it; a figure needs the run of each of its seeds"
            )

    @property
    def interquartile(self) -> float | None:
        """Mean of the middle half of five seeds or more."""
        return interquartile_mean(np.array(list(self.per_seed.values())))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table, filled as far as there are runs."""

    name: str
    size: str
    table: Table
    runs: Mapping[tuple[str, str], Sequence[SeedRun]]
    """(data, row) -> one entry per declared seed."""
    problems: tuple[str, ...] = ()
    """Files that cannot be read, whether or not a cell needs them."""
    cells: Mapping[tuple[str, str, str], Cell] = field(init=False)
    """(data, row, column) -> cell."""
    differences: Mapping[tuple[str, str], Interval | None] = field(init=False)
    """(data, row) -> primary measure minus the control row's, paired by seed and query."""

    def __post_init__(self) -> None:
        """Fill the cells."""
        cells = {
            (data, row, column): self._cell(data, row, column)
            for (data, row) in self.runs
            for column in self.table.columns_of(data)
        }
        object.__setattr__(self, "cells", cells)
        differences = {place: self._difference(*place) for place in self.runs}
        object.__setattr__(self, "differences", differences)

    def _cell(self, data: str, row: str, column: str) -> Cell:
        address, runs = f"{data}/{row}/{column}", self.runs[data, row]
        asked = self.table.columns_of(data)[column]
        if isinstance(asked, Score):
            fresh = self.table.data[data].fresh
            return score_cell(address, runs, self.table.rows[row], asked, fresh=fresh)
        return logged_cell(address, runs, self.table.rows[row], asked)

    def _difference(self, data: str, row: str) -> Interval | None:
        control, primary = self.table.control, self.table.primary_of(data)
        if row == control or (data, control) not in self.runs:
            return None
        return paired_difference(self.cells[data, row, primary], self.cells[data, control, primary])

    def unpaired(self) -> list[str]:
        """Why differences of the primary measure are absent although both rows have figures."""
        found: list[str] = []
        for data, row in self.runs:
            primary = self.table.primary_of(data)
            control = self.cells.get((data, self.table.control, primary))
            if row != self.table.control and control is not None:
                why = why_unpaired(self.cells[data, row, primary], control)
                found += [why] if why else []
        return found

    def changed(self, data: str, row: str) -> list[str]:
        """What has changed without a setting since a row's runs were made; none: nothing."""
        return list(dict.fromkeys(run.changed for run in self.runs[data, row] if run.changed))

    def revisions(self) -> list[str]:
        """Code revisions of the runs that are shown, in order of appearance."""
        return list(
            dict.fromkeys(revision for runs in self.runs.values() for revision in _of(runs))
        )

    def row_revisions(self, data: str, row: str) -> list[str]:
        """Code revisions of a row's runs."""
        return list(dict.fromkeys(_of(self.runs[data, row])))


def _of(runs: Sequence[SeedRun]) -> Iterator[str]:
    for run in runs:
        if run.record is not None:
            yield revision(run.record)


def score_cell(
    address: str, runs: Sequence[SeedRun], row: Row, column: Score, *, fresh: bool = False
) -> Cell:
    """The mean over seeds and queries of a measure on the test split.

    Args:
        address: Of the cell.
        runs: One per declared seed.
        row: Who wrote the text.
        column: The measure.
        fresh: Whether each seed has queries of its own.
    """
    name = column.name(row.source)
    gaps: list[str] = []
    scored = {run.job.seed: s for run in runs if (s := _scores(run, row, name, gaps)) is not None}
    if not fresh:
        scored = _alike(scored, gaps)
    values = {seed: _counted(s.values[name], column.at_least) for seed, s in scored.items()}
    queries = {seed: s.prompt_ids for seed, s in scored.items()}
    if not values:
        return Cell(address=address, estimate=None, per_seed={}, runs=(), gaps=tuple(gaps))
    if column.among is not None or fresh:
        means = _means_among(values, column.among, gaps)
        return replace(_seed_cell(address, runs, means, gaps), queries=queries)
    families = next((s.families for s in scored.values() if s.families is not None), None)
    table = _defined(name, np.stack(list(values.values())), gaps)
    estimate = _crossed(table, families)
    kept = values if estimate is not None else {}
    shown = table[:, np.isfinite(table).all(0)]
    return Cell(
        address=address,
        estimate=estimate,
        per_seed={seed: float(row.mean()) for seed, row in zip(kept, shown, strict=False)},
        runs=_folders(runs, kept),
        gaps=tuple(gaps),
        by_query=table,
        queries=queries,
        families=families,
    )


def _scores(run: SeedRun, row: Row, name: str, gaps: list[str]) -> Scores | None:
    """What a run scored for a row; None with its reason among the gaps."""
    if run.record is None:
        gaps.append(f"seed {run.job.seed}: {run.gap}")
        return None
    scores = run.record.scores.get(row.phase)
    if scores is None or name not in scores.values:
        why = [problem for problem in run.record.problems if "scores" in problem]
        gaps.append(f"seed {run.job.seed}: {'; '.join([f'{name} was not scored', *why])}")
        return None
    return scores


def _alike(scored: Mapping[int, Scores], gaps: list[str]) -> dict[int, Scores]:
    """The seeds that were scored on the first one's queries; the others are gaps."""
    first = next((s.prompt_ids for s in scored.values()), ())
    other = [seed for seed, s in scored.items() if s.prompt_ids != first]
    gaps += [f"seed {seed}: scored on other queries than the seeds before it" for seed in other]
    return {seed: s for seed, s in scored.items() if seed not in other}


def _defined(name: str, table: NDArray[np.float64], gaps: list[str]) -> NDArray[np.float64]:
    """[S, Q]: a query that is undefined for some seed is undefined for all."""
    defined = np.isfinite(table).all(0)
    if defined.all():
        return table
    gaps.append(
        f"{name} is undefined for {int((~defined).sum())} of {table.shape[1]} queries: left out"
    )
    return np.where(defined, table, np.nan)


def _crossed(table: NDArray[np.float64], families: NDArray[np.int64] | None) -> Interval | None:
    """The interval over the queries that are defined in every run; None without any."""
    defined = np.isfinite(table).all(0)
    if not defined.any():
        return None
    return crossed_interval(table[:, defined], None if families is None else families[defined])


def _counted(values: NDArray[np.float64], least: float | None) -> NDArray[np.float64]:
    """Values as they are, or 1 where they reach a level and 0 where not; NaN stays."""
    if least is None:
        return values
    return np.where(np.isnan(values), np.nan, (values >= least).astype(np.float64))


def _means_among(
    values: Mapping[int, NDArray[np.float64]], least: float | None, gaps: list[str]
) -> dict[int, float]:
    """Mean of the defined values of each seed that reach a level; a seed without any is a gap."""
    level = -np.inf if least is None else least
    reached = {seed: row[row >= level] for seed, row in values.items()}
    none = [seed for seed, row in reached.items() if not row.size]
    why = "no query is defined" if least is None else f"no query reaches {least:g}"
    gaps += [f"seed {seed}: {why}" for seed in none]
    return {seed: float(row.mean()) for seed, row in reached.items() if row.size}


def logged_cell(address: str, runs: Sequence[SeedRun], row: Row, column: Logged) -> Cell:
    """The mean over seeds of a number that each run logged."""
    gaps: list[str] = []
    values: dict[int, float] = {}
    for run in runs:
        if run.record is None:
            gaps.append(f"seed {run.job.seed}: {run.gap}")
            continue
        points = curve(run.record, column.metric)
        gaps += [problem for problem in run.record.problems if "metrics" in problem]
        if row.source is not None or row.phase == "before" or run.record.summary.steps == 0:
            continue  # nothing was trained for this row
        if column.reduce is Reduce.reaches and not _reaches(points, column.level):
            level = f"{column.metric}: {column.level:g}"
            gaps.append(f"seed {run.job.seed}: {level} was not reached, the last step counts")
        try:
            values[run.job.seed] = reduce(points, column.reduce, level=column.level)
        except ValueError as error:
            gaps.append(f"seed {run.job.seed}: {column.metric}: {error}")
    return _seed_cell(address, runs, values, gaps)


def _seed_cell(
    address: str, runs: Sequence[SeedRun], values: Mapping[int, float], gaps: Sequence[str]
) -> Cell:
    """The mean over seeds of one number each."""
    return Cell(
        address=address,
        estimate=seed_interval(np.array(list(values.values()))) if values else None,
        per_seed=values,
        runs=_folders(runs, values),
        gaps=tuple(gaps),
    )


def _folders(runs: Sequence[SeedRun], seeds: Mapping[int, object]) -> tuple[str, ...]:
    return tuple(
        run.record.place for run in runs if run.record is not None and run.job.seed in seeds
    )


def curve(record: Record, metric: str) -> NDArray[np.float64]:
    """[points, 2]: step and value, of the lines that have the metric."""
    points = [
        (line["step"], line[metric]) for line in record.logged if metric in line and "step" in line
    ]
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def reduce(points: NDArray[np.float64], how: Reduce, *, level: float = 0.0) -> float:
    """One number of a series.

    Raises:
        ValueError: If nothing was logged, or it is not finite, or is no curve.
    """
    if len(points) == 0:
        raise ValueError("was not logged")
    steps, values = points.T
    if not np.isfinite(values).all():
        raise ValueError("is not finite at some steps")
    match how:
        case Reduce.mean:
            return float(values.mean())
        case Reduce.total:
            return float(values.sum())
        case Reduce.last:
            return float(values[-1])
        case Reduce.area:
            return area_under_curve(steps, values)
        case Reduce.reaches:
            return _first_step(steps, values, level)


def _first_step(steps: NDArray[np.float64], values: NDArray[np.float64], level: float) -> float:
    """The last step stands for "later", lest only the seeds that get there be counted."""
    return float(steps[np.argmax(values >= level)] if (values >= level).any() else steps[-1])


def _reaches(points: NDArray[np.float64], level: float) -> bool:
    """Whether a series gets to a level; one without points is another gap."""
    return len(points) == 0 or bool((points[:, 1] >= level).any())


def why_unpaired(treatment: Cell, control: Cell) -> str:
    """Why two cells with figures cannot be subtracted query by query; empty: they can."""
    if treatment.estimate is None or control.estimate is None:
        return ""
    shared = treatment.queries.keys() & control.queries.keys()
    if all(treatment.queries[seed] == control.queries[seed] for seed in shared):
        return ""
    return (
        f"{treatment.address} and {control.address} were scored on different queries, so there is "
        "no difference of them; run one of them again on the queries of the other"
    )


def paired_difference(treatment: Cell, control: Cell) -> Interval | None:
    """Interval of treatment minus control over common seeds; None without any.

    None as well where they were scored on different queries (:func:`why_unpaired`).
    """
    seeds = [seed for seed in treatment.per_seed if seed in control.per_seed]
    if not seeds or why_unpaired(treatment, control):
        return None
    if treatment.by_query is None or control.by_query is None:
        per_seed = [treatment.per_seed[seed] - control.per_seed[seed] for seed in seeds]
        return seed_interval(np.array(per_seed))
    rows = [[list(cell.per_seed).index(seed) for seed in seeds] for cell in (treatment, control)]
    gap = treatment.by_query[rows[0]] - control.by_query[rows[1]]
    return _crossed(gap, control.families if treatment.families is None else treatment.families)
