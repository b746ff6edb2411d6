"""The matrix trained-on x tested-on: what a policy's texts are worth to retrievers it never met."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table
from rich.text import Text

from rlcredit.evaluation.cells import Cell, Source
from rlcredit.evaluation.lines import with_interval
from rlcredit.evaluation.names import SOURCES, mean_name
from rlcredit.evaluation.stats import Interval, crossed_interval
from rlcredit.run.results import TIGHT

UNSEEN = "unseen, mean"
"""The mean over the retrievers that a row was not trained on."""
MARK = "*"
GAP = "—"


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The scores of one writer: S seeds of a method, their warm starts, or a baseline."""

    method: str
    trained_on: str | None
    """The retriever whose reward it was trained on; None: not trained by any."""
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    sources: tuple[Source, ...]
    scores: Mapping[Cell, NDArray[np.float64]]
    """[S, Q]."""
    before: Mapping[Cell, NDArray[np.float64]] | None = None
    """[S, Q]: of the same seeds before training; None for what is not trained."""

    @property
    def label(self) -> str:
        """Name of the row, as in the first column."""
        return self.method if self.trained_on is None else f"{self.trained_on} ({self.method})"


@dataclass(frozen=True, kw_only=True)
class TransferCell:
    """One figure of the matrix."""

    trained_on: str | None
    method: str
    source: Source
    tested_on: str
    """A retriever, or ``UNSEEN``."""
    measure: str
    in_distribution: bool
    score: Interval
    gain: Interval | None
    """After minus before training, paired by seed and prompt; None for what is not trained."""
    seeds: tuple[int, ...]
    prompts: int
    runs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Every writer scored by every retriever and measure."""

    title: str
    tested_on: tuple[str, ...]
    measures: tuple[str, ...]
    """The first one is the headline."""
    rows: tuple[Scored, ...]
    notes: tuple[str, ...]
    families: NDArray[np.int64] | None = None
    """[Q], the number of each query's family; None: each is its own."""

    def cells(self) -> Iterator[TransferCell]:
        """All figures: by measure, row, who wrote, retriever."""
        for measure in self.measures:
            for row in self.rows:
                for source in row.sources:
                    yield from self._row(row, source, measure)

    def _row(self, row: Scored, source: Source, measure: str) -> Iterator[TransferCell]:
        unseen = tuple(name for name in self.tested_on if name != row.trained_on)
        columns: dict[str, tuple[str, ...]] = {name: (name,) for name in self.tested_on}
        if row.trained_on is not None and unseen:
            columns[UNSEEN] = unseen
        for name, retrievers in columns.items():
            cells = [Cell(retriever, measure, source) for retriever in retrievers]
            after = np.mean([row.scores[cell] for cell in cells], axis=0)
            gain = None
            if row.before is not None:
                before = np.mean([row.before[cell] for cell in cells], axis=0)
                gain = crossed_interval(after - before, self.families)
            yield TransferCell(
                trained_on=row.trained_on,
                method=row.method,
                source=source,
                tested_on=name,
                measure=measure,
                in_distribution=name == row.trained_on,
                score=crossed_interval(after, self.families),
                gain=gain,
                seeds=row.seeds,
                prompts=after.shape[1],
                runs=row.runs,
            )


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One table: a measure's scores, or their gains over the warm start."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sheets(matrix: Matrix, cells: Sequence[TransferCell], *, short: bool = False) -> list[Sheet]:
    """Scores of every measure, and behind those of the headline its gains over the warm start."""
    found: list[Sheet] = []
    for number, measure in enumerate(matrix.measures):
        own = [cell for cell in cells if cell.measure == measure]
        found.append(_sheet(matrix, own, gains=False, short=short))
        if number == 0:
            found.append(_sheet(matrix, own, gains=True, short=short))
    return found


def _sheet(matrix: Matrix, cells: Sequence[TransferCell], *, gains: bool, short: bool) -> Sheet:
    columns = (*matrix.tested_on, *((UNSEEN,) if any(c.tested_on == UNSEEN for c in cells) else ()))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for cell in cells:
        figure = cell.gain if gains else cell.score
        if figure is None:
            continue
        label = f"{cell.trained_on} ({cell.method})" if cell.trained_on else cell.method
        text = with_interval(figure, sign=gains, short=short) + (
            MARK if cell.in_distribution else ""
        )
        rows.setdefault((label, SOURCES[cell.source]), {})[cell.tested_on] = text
    name = mean_name(cells[0].measure)
    return Sheet(
        title=f"{name}, gain over the warm start" if gains else name,
        head=("trained on", "text", *columns),
        rows=tuple(
            (label, text, *(row.get(column, GAP) for column in columns))
            for (label, text), row in rows.items()
        ),
    )


def markdown(matrix: Matrix, cells: Sequence[TransferCell]) -> str:
    """The matrix as a page of Markdown."""
    parts = [f"# {matrix.title}"]
    for sheet in sheets(matrix, cells):
        lines = [_pipes(sheet.head), "|" + "---|" * len(sheet.head), *map(_pipes, sheet.rows)]
        parts.append("\n".join([f"## {sheet.title}", "", *lines]))
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in matrix.notes)]) + "\n"


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


_FIGURES = ("score", "gain")
_BOUNDS = ("mean", "low", "high")
_HEAD = (
    *("trained_on", "method", "text", "tested_on", "in_distribution", "measure"),
    *(f"{figure}_{bound}" for figure in _FIGURES for bound in _BOUNDS),
    *("seeds", "prompts", "runs"),
)


def values_csv(cells: Sequence[TransferCell]) -> str:
    """One line per figure, unrounded."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_HEAD)
    for cell in cells:
        figures = [getattr(cell, name) for name in _FIGURES]
        writer.writerow(
            [
                *(cell.trained_on, cell.method, cell.source, cell.tested_on),
                *(cell.in_distribution, cell.measure),
                *(getattr(figure, bound, None) for figure in figures for bound in _BOUNDS),
                *(" ".join(map(str, cell.seeds)), cell.prompts, " ".join(cell.runs)),
            ]
        )
    return out.getvalue()


def record(cells: Sequence[TransferCell]) -> list[dict[str, Any]]:
    """The figures as plain values, for JSON."""
    return [asdict(cell) for cell in cells]


def console_table(matrix: Matrix, cells: Sequence[TransferCell]) -> Table:
    """Scores of the headline measure, as the console shows them."""
    headline = replace(matrix, measures=matrix.measures[:1])
    sheet = sheets(headline, cells, short=True)[0]
    table = Table(
        title=Text(f"{matrix.title}\n{sheet.title}, with 95 % intervals; {MARK} trained on"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        **TIGHT,
    )
    for number, name in enumerate(sheet.head):
        table.add_column(Text(name), overflow="fold", justify="right" if number > 1 else "left")
    for row in sheet.rows:
        table.add_row(*map(Text, row))
    return table
