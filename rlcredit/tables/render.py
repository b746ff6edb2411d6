"""A filled table as Markdown, LaTeX (booktabs) and CSV: the same cells three times.

Nothing here depends on the time or the machine: the same records give the same bytes.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence

from rlcredit.evaluation.lines import with_interval
from rlcredit.evaluation.stats import SEEDS_FOR_IQM
from rlcredit.report.sheets import Sheet, sheet_latex, sheet_markdown
from rlcredit.tables.cards import cards, comparison
from rlcredit.tables.claims import findings
from rlcredit.tables.declare import Row, Score, Table
from rlcredit.tables.grid import Cell, Grid

GAP = "—"
CHANGED = "‡"
MARKS = "abcdefghijklmnopqrstuvwxyz"
PAPER = "paper"
_SEED = re.compile(r"seed (\d+): (.*)", re.DOTALL)


def sheets(grid: Grid) -> list[Sheet]:
    """One sheet per data set; one of claims where the table makes some, and a card for each."""
    found = [sheet for data in grid.table.data for sheet in data_sheets(grid, data)]
    return [*found, claims_sheet(grid), *cards(grid)] if grid.table.claims else found


def data_sheets(grid: Grid, data: str) -> Iterator[Sheet]:
    """Sheets of a data set: the comparison, then the columns that are shown apart."""
    label, columns = grid.table.data[data].label, grid.table.columns_of(data)
    apart = {name: column.sheet for name, column in columns.items() if isinstance(column, Score)}
    yield sheet_of(
        label, columns_of(grid, data, [c for c in columns if not apart.get(c)], main=True)
    )
    for title in dict.fromkeys(filter(None, apart.values())):
        chosen = [name for name in columns if apart.get(name) == title]
        yield sheet_of(f"{label}: {title}", columns_of(grid, data, chosen, main=False))


def sheet_of(title: str, columns: Iterable[tuple[str, ...]]) -> Sheet:
    """Columns with their headings as rows."""
    head, *rows = zip(*columns, strict=True)
    return Sheet(title=title, head=head, rows=tuple(rows))


def columns_of(
    grid: Grid, data: str, names: Sequence[str], *, main: bool
) -> Iterator[tuple[str, ...]]:
    """Heading and one text per row, column by column, of the named columns.

    Args:
        grid: The table.
        data: The data set.
        names: Columns of the table.
        main: Whether the comparison with the control stands behind them.
    """
    table = grid.table
    rows, columns = table.rows_of(data), table.columns_of(data)
    yield "", *(table.rows[row].label + _marks(grid, data, row) for row in rows)
    for number, name in enumerate(names):
        digits = getattr(columns[name], "digits", 3)
        yield (
            columns[name].label,
            *(_figure(grid.cells[data, row, name], digits=digits) for row in rows),
        )
        if main and number == 0 and grid.size == PAPER:
            yield "published (not ours)", *(_published(table.rows[row]) for row in rows)
    if main:
        yield from _comparison_columns(grid, data)


def _comparison_columns(grid: Grid, data: str) -> Iterator[tuple[str, ...]]:
    """The primary measure against the control's and its interquartile mean, and the seeds."""
    table, seeds = grid.table, grid.table.size(grid.size).seeds
    rows, primary = table.rows_of(data), table.primary_of(data)
    label = table.columns_of(data)[primary].label
    if table.control in rows:
        differences = [grid.differences[data, row] for row in rows]
        yield (
            f"{label}, minus {table.rows[table.control].label}",
            *(GAP if d is None else with_interval(d, sign=True) for d in differences),
        )
    cells = [grid.cells[data, row, primary] for row in rows]
    if len(seeds) >= SEEDS_FOR_IQM:
        middles = [cell.interquartile for cell in cells]
        yield (
            f"{label}, interquartile mean over seeds",
            *(GAP if middle is None else f"{middle:.3f}" for middle in middles),
        )
    yield "seeds", *(f"{len(cell.per_seed)}/{len(seeds)}" for cell in cells)


def _published(row: Row) -> str:
    return "; ".join(f"{key} {value:g}" for key, value in row.published.items()) or GAP


def _figure(cell: Cell, *, digits: int) -> str:
    if cell.estimate is None:
        return GAP
    text = with_interval(cell.estimate, form=f".{digits}f")
    return text + ("*" if cell.gaps else "")


def _marks(grid: Grid, data: str, row: str) -> str:
    known, changed = grid.revisions(), f" {CHANGED}" if grid.changed(data, row) else ""
    if len(known) < 2:
        return changed
    own = grid.row_revisions(data, row)
    return "".join(f" [{_mark(known.index(revision))}]" for revision in own) + changed


def _mark(number: int) -> str:
    return MARKS[number % len(MARKS)] * (number // len(MARKS) + 1)


def claims_sheet(grid: Grid) -> Sheet:
    """Each claim with what became of it."""
    rows = [
        (
            finding.claim.text,
            finding.claim.source,
            comparison(grid.table, finding.key) if finding.claim.treatment else GAP,
            GAP if finding.effect is None else with_interval(finding.effect, sign=True),
            GAP if finding.adjusted is None else f"{finding.adjusted:.4f}",
            str(finding.seeds),
            finding.verdict + (f" ({finding.why})" if finding.why else ""),
        )
        for finding in findings(grid)
    ]
    head = ("claim", "source", "comparison", "effect", "adjusted p", "seeds", "verdict")
    return Sheet(title="Claims", head=head, rows=tuple(rows))


def notes(grid: Grid) -> list[str]:
    """What must be known to read the figures: declaration, intervals, gaps, revisions."""
    table, size = grid.table, grid.table.size(grid.size)
    lines = [
        f"Size {grid.size}: {size.label}.",
        f"Declared before the runs: primary measure {_primaries(table)}; {table.steps}; "
        f"{table.decoding}; tuning: {table.tuning}; seeds {', '.join(map(str, size.seeds))}.",
        "Intervals: 95 %, Student's over seeds and families of queries, min(seeds, families) - 1 "
        "degrees of freedom; of columns with one value per run, over seeds alone. With one seed "
        "they say nothing about other seeds.",
    ]
    revisions = grid.revisions()
    if len(revisions) == 1:
        lines.append(f"Code revision of all runs: {revisions[0]}.")
    lines += [f"[{_mark(n)}] code revision {r}" for n, r in enumerate(revisions) if revisions[1:]]
    if any(run.record and run.record.kept for runs in grid.runs.values() for run in runs):
        lines.append(
            "The record of a kept run is the score of every test query and every logged number "
            "(parquet files in outputs/reference/jobs); rankings and responses are not kept."
        )
    lines += [
        f"{CHANGED} {data}/{row}: made before numbers changed without a setting: "
        f"{'; '.join(grid.changed(data, row))}. The same command makes other numbers today."
        for data, row in grid.runs
        if grid.changed(data, row)
    ]
    if grid.size == PAPER:
        lines.append("Published numbers stand in a column of their own and are not ours.")
    lines += [
        f"Left out at this size: {row.label}, because {row.left_out[grid.size]}."
        for row in table.rows.values()
        if grid.size in row.left_out
    ]
    lines += [*grid.problems, *grid.unpaired()]
    return lines + [f"{GAP} or *: {gap}" for gap in _gaps(grid)]


def _primaries(table: Table) -> str:
    """The measure, or that of each data set where they differ."""
    by_data = {data: table.columns_of(data)[table.primary_of(data)].label for data in table.data}
    if len(set(by_data.values())) == 1:
        return next(iter(by_data.values()))
    return ", ".join(f"{table.data[data].label}: {label}" for data, label in by_data.items())


def _gaps(grid: Grid) -> Iterator[str]:
    """Each reason once, with the rows, columns and seeds that it concerns."""
    places: dict[str, dict[str, None]] = {}
    columns: dict[str, dict[str, None]] = {}
    seeds: dict[str, dict[str, None]] = {}
    for (data, row, column), cell in grid.cells.items():
        for gap in cell.gaps:
            found = _SEED.match(gap)
            why = found[2] if found else gap
            places.setdefault(why, {})[f"{data}/{row}"] = None
            columns.setdefault(why, {})[column] = None
            if found:
                seeds.setdefault(why, {})[found[1]] = None
    whole = max(len(grid.table.columns_of(data)) for data in grid.table.data)
    for why, where in places.items():
        own = ", ".join(columns[why]) if len(columns[why]) < whole else "all columns"
        of_seeds = f", seeds {', '.join(seeds[why])}" if why in seeds else ""
        yield f"{why} [{own}; {', '.join(where)}{of_seeds}]"


def markdown(grid: Grid) -> str:
    """The table as a page of Markdown."""
    parts = [f"# {grid.name}", grid.table.question]
    parts += [sheet_markdown(sheet) for sheet in sheets(grid)]
    parts.append("\n".join(f"- {note}" for note in notes(grid)))
    return "\n\n".join(parts) + "\n"


def latex(grid: Grid) -> str:
    """Tabulars for booktabs."""
    parts = [f"% {grid.name}, size {grid.size}. Needs \\usepackage{{booktabs}}."]
    parts += [sheet_latex(sheet) for sheet in sheets(grid)]
    return "\n".join([*parts, *(f"% {note}" for note in notes(grid))]) + "\n"


def values_csv(grid: Grid) -> str:
    """One line per cell: figures, interquartile mean, seeds and the runs they came from."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ("cell", "mean", "low", "high", "interquartile_mean", "per_seed", "runs", "size")
    writer.writerow([*head, "gaps", "numerics"])
    label = f"{grid.size}: {grid.table.size(grid.size).label}"
    for (data, row, _), cell in grid.cells.items():
        estimate = cell.estimate
        bounds = (estimate.mean, estimate.low, estimate.high) if estimate else (None, None, None)
        seeds = " ".join(f"{seed}:{value!r}" for seed, value in cell.per_seed.items())
        figures = (*bounds, cell.interquartile, seeds, " ".join(cell.runs), label)
        notes = ("; ".join(cell.gaps), "; ".join(grid.changed(data, row)))
        writer.writerow([cell.address, *figures, *notes])
    return out.getvalue()
