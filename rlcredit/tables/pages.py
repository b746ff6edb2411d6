"""A filled table as a page: a verdict and the primary measure in sight, the rest folded."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from rlcredit.evaluation.lines import with_interval
from rlcredit.report.page import page_environment, template
from rlcredit.report.sheets import Sheet
from rlcredit.tables.cards import cards
from rlcredit.tables.claims import findings
from rlcredit.tables.declare import Score
from rlcredit.tables.grid import Grid
from rlcredit.tables.render import claims_sheet, columns_of, data_sheets, notes, sheet_of

UNCORRECTED = "These intervals are not corrected for the number of comparisons."


@dataclass(frozen=True, kw_only=True)
class MarkedSheet:
    """A sheet with its best cells."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: frozenset[tuple[int, int]]
    """Row and column of each cell with the highest score of the rows that train."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """What is said and shown of one data set."""

    label: str
    verdicts: Sequence[str]
    short: MarkedSheet
    """The primary measure, and its difference from the control's."""
    folded: Sequence[MarkedSheet]
    """All columns."""
    figures: Sequence[str]


def html(grid: Grid, figures: Sequence[str]) -> str:
    """A page that opens from disk; every text is escaped."""
    size, claimed = grid.table.size(grid.size), bool(grid.table.claims)
    return (
        page_environment()
        .from_string(template("table.html"))
        .render(
            css=Markup(template("base.css")),  # our own file
            title=f"{grid.name} ({grid.size}: {size.label})",
            name=grid.name,
            question=grid.table.question,
            size=grid.size,
            label=size.label,
            sections=[_section(grid, data, figures) for data in grid.table.data],
            claims=claims_sheet(grid) if claimed else None,
            claimed=_claimed(grid),
            cards=cards(grid) if claimed else [],
            notes=notes(grid),
        )
    )


def _section(grid: Grid, data: str, figures: Sequence[str]) -> Section:
    label, primary = grid.table.data[data].label, grid.table.primary_of(data)
    short = sheet_of(label, columns_of(grid, data, [primary], main=True))
    whole, *apart = data_sheets(grid, data)
    return Section(
        label=label,
        verdicts=list(_verdicts(grid, data)),
        short=_marked(grid, data, short),
        folded=[
            _marked(grid, data, whole, title="All measures"),
            *(_marked(grid, data, each, title=each.title) for each in apart),
        ],
        figures=[name for name in figures if name.endswith(f"-{data}.svg")],
    )


def _marked(grid: Grid, data: str, sheet: Sheet, *, title: str = "") -> MarkedSheet:
    """A sheet with the highest score of each column of scores, where two rows train or more."""
    labels = {c.label: n for n, c in grid.table.columns_of(data).items() if isinstance(c, Score)}
    places = [(column, labels[head]) for column, head in enumerate(sheet.head) if head in labels]
    best = {
        (highest, column)
        for column, name in places
        if (highest := _highest(grid, data, name)) is not None
    }
    return MarkedSheet(title=title, head=sheet.head, rows=sheet.rows, best=frozenset(best))


def _highest(grid: Grid, data: str, column: str) -> int | None:
    """Number of the row that trains and has the highest mean; None where fewer than two do."""
    means = {
        number: estimate.mean
        for number, row in enumerate(grid.table.rows_of(data))
        if grid.table.rows[row].trains
        and (estimate := grid.cells[data, row, column].estimate) is not None
    }
    return max(means, key=lambda number: means[number]) if len(means) > 1 else None


def _verdicts(grid: Grid, data: str) -> Iterator[str]:
    """What the differences from the control say of the rows that train."""
    table, control = grid.table, grid.table.control
    rows = [row for row in table.rows_of(data) if table.rows[row].trains and row != control]
    known = {row: d for row in rows if (d := grid.differences[data, row]) is not None}
    if not known:
        return
    measure = table.columns_of(data)[table.primary_of(data)].label
    yield f"{measure}, compared with {table.rows[control].label}:"
    for word, sign in (("higher", 1), ("lower", -1)):
        told = [
            f"{table.rows[row].label} ({with_interval(d, sign=True)})"
            for row, d in known.items()
            if d.excludes_zero and d.mean * sign > 0
        ]
        if told:
            yield f"{word} for {'; '.join(told)}."
    unclear = [table.rows[row].label for row, d in known.items() if not d.excludes_zero]
    if unclear:
        yield f"no difference is seen for {'; '.join(unclear)}."
    if len(known) > 1:
        yield UNCORRECTED


def _claimed(grid: Grid) -> str:
    """How many claims came to which verdict."""
    counts = Counter(str(finding.verdict) for finding in findings(grid))
    return "Claims: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + "."
