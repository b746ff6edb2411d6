"""The table at the end of a run."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from rlcredit.evaluation.cells import WORDS, Source
from rlcredit.evaluation.figures import Comparison
from rlcredit.evaluation.lines import with_interval
from rlcredit.evaluation.names import POLICY, SOURCES, mean_name, retriever_name

TIGHT: dict[str, Any] = {"pad_edge": False, "show_edge": False, "padding": (0, 1, 0, 0)}
"""Eighty columns hold a table without edges."""


def results_table(
    comparisons: Sequence[Comparison], *, title: str, trained_on: str, short: bool
) -> Table:
    """Before -> after and the paired difference, by measure, retriever and who wrote the query.

    Args:
        comparisons: Of one split.
        title: Says the data and their source.
        trained_on: The retriever whose reward was trained on; the others are unseen.
        short: Write figures so that the table fits into 80 columns.
    """
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, **TIGHT)
    for name in ("", "text"):
        table.add_column(name, overflow="fold")
    for name in ("before", "after", "after - before"):
        table.add_column(name, justify="right", overflow="fold")
    measure = retriever = None
    for row in sorted(comparisons, key=lambda c: _place(c, comparisons, trained_on)):
        cell = row.cell
        if cell.measure != measure:
            if measure is not None:
                table.add_section()
            table.add_row(Text(mean_name(cell.measure), style="bold"))
            retriever = None
        star = "*" if trained_on and cell.retriever == trained_on else ""
        name = "" if cell.retriever == retriever else f" {retriever_name(cell.retriever)}{star}"
        table.add_row(Text(name), Text(SOURCES[cell.source]), *_figures(row, short=short))
        measure, retriever = cell.measure, cell.retriever
    return table


def _place(
    row: Comparison, rows: Sequence[Comparison], trained_on: str
) -> tuple[int, bool, int, int]:
    measures = list(dict.fromkeys(r.cell.measure for r in rows))
    retrievers = list(dict.fromkeys(r.cell.retriever for r in rows))
    return (
        measures.index(row.cell.measure),
        row.cell.retriever != trained_on,
        retrievers.index(row.cell.retriever),
        list(Source).index(row.cell.source),
    )


def _figures(row: Comparison, *, short: bool) -> list[Text]:
    before = Text(with_interval(row.before, short=short))
    if row.cell.source not in POLICY:  # the policy has no part in it: one figure, no difference
        return [before]
    style = ""
    if row.difference.excludes_zero and row.cell.measure != WORDS:  # longer is not better
        style = "green" if row.difference.mean > 0 else "red"
    difference = with_interval(row.difference, sign=True, short=short)
    return [before, Text(with_interval(row.after, short=short)), Text(difference, style)]
