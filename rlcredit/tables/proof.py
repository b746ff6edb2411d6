"""What stands behind each cell, in a file that ``rlcredit explain`` reads back."""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rlcredit.files import replace_file
from rlcredit.tables.grid import Grid
from rlcredit.tables.jobs import SeedRun, command
from rlcredit.tables.pages import html
from rlcredit.tables.plots import figures
from rlcredit.tables.records import revision
from rlcredit.tables.render import latex, markdown, values_csv

CELLS_FILE = "cells.json"
FORMATS = ("md", "tex", "csv", "html")


def table_folder(outputs: Path, name: str, size: str) -> Path:
    """Where a table is rendered; tables of the size that counts here are kept in the repository."""
    place = "reference/tables" if size == "sample" else f"tables/{size}"
    return outputs / place / name


def write_table(grid: Grid, folder: Path) -> list[Path]:
    """Markdown, LaTeX, CSV, HTML, figures, and the proof; what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = figures(grid, folder)
    texts = {
        "table.md": markdown(grid),
        "table.tex": latex(grid),
        "table.csv": values_csv(grid),
        "table.html": html(grid, drawn),
        CELLS_FILE: json.dumps(proof(grid), indent=1, ensure_ascii=False) + "\n",
    }
    for name, text in texts.items():
        replace_file(folder / name, text)
    return [folder / name for name in (*texts, *drawn)]


def proof(grid: Grid) -> dict[str, Any]:
    """Rows by address (``table_search/esci/ospo``) with their runs and their cells."""
    return {
        "size": grid.size,
        "label": grid.table.size(grid.size).label,
        "rows": {
            f"{grid.name}/{data}/{row}": {
                "label": grid.table.rows[row].label,
                "runs": [_run(run) for run in runs],
                "cells": {
                    column: {
                        "mean": cell.estimate.mean if cell.estimate else None,
                        "low": cell.estimate.low if cell.estimate else None,
                        "high": cell.estimate.high if cell.estimate else None,
                        "interquartile_mean": cell.interquartile,
                        "per_seed": {str(seed): value for seed, value in cell.per_seed.items()},
                        "gaps": list(cell.gaps),
                    }
                    for (d, r, column), cell in grid.cells.items()
                    if (d, r) == (data, row)
                },
            }
            for (data, row), runs in grid.runs.items()
        },
    }


def _run(run: SeedRun) -> dict[str, Any]:
    job, record = run.job, run.record
    known: dict[str, Any] = {"seed": job.seed, "digest": job.digest, "command": job.command}
    if record is None:
        return known | {"missing": run.gap}
    words = record.overrides
    return (
        known
        | {
            "made_by": None if words is None else command(words, job.conf),
            "folder": record.place,
            "config": record.config,
            "code_revision": revision(record),
            "data": record.summary.data,
            "data_digest": record.summary.data_digest,
            "wall_time_s": record.summary.wall_time_s,
            "test_touches": record.summary.test_touches,
            "versions": dict(record.summary.versions),
        }
        | ({"numerics": run.changed} if run.changed else {})
    )


def explain_cell(outputs: Path, address: str) -> list[str]:
    """Lines about a row (``table_search/esci/ospo``) or one cell of it (``.../ndcg``).

    Raises:
        ValueError: If no rendered table has it.
    """
    parts = address.strip("/").split("/")
    key, column = "/".join(parts[:3]), parts[3] if len(parts) > 3 else None
    rows: dict[str, dict[str, Any]] = {}
    lines: list[str] = []
    for path in sorted(outputs.glob(f"**/tables/**/{CELLS_FILE}")):
        rendered = json.loads(path.read_text(encoding="utf-8"))
        rows |= rendered["rows"]
        if key in rendered["rows"]:
            lines.append(f"{path.parent} (size {rendered['size']}: {rendered['label']})")
            lines += _lines(rendered["rows"][key], column)
    if not lines:
        near = get_close_matches(key, rows, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise ValueError(
            f"no rendered table below {outputs} has {key!r}; {hint}an address is table/data/row "
            "or table/data/row/column, and rlcredit tables --size smoke renders tables"
        )
    return lines


def _commands(run: Mapping[str, Any]) -> list[str]:
    """What made a run; and what the table would run, where that was asked for in other words."""
    planned = run["command"]
    made = run.get("made_by", planned)
    own = [] if made == planned else [f"    plan: {planned}"]
    known = made or f"what made it is not known ({run['folder']} does not say)"
    return [f"  seed {run['seed']}: {known}", *own]


def _lines(row: Mapping[str, Any], column: str | None) -> list[str]:
    lines = [f"  {row['label']}"]
    for run in row["runs"]:
        lines += _commands(run)
        names = ("missing", "folder", "config", "digest", "code_revision", "data", "data_digest")
        names += ("numerics", "wall_time_s", "test_touches", "versions")
        lines += [f"    {name}: {run[name]}" for name in names if name in run]
    cells = row["cells"]
    if column is not None and column not in cells:
        raise ValueError(f"no column {column!r} in this row; columns: {', '.join(cells)}")
    for name, cell in cells.items():
        if column in (None, name):
            lines.append(f"  {name}: mean {cell['mean']} [{cell['low']}, {cell['high']}]")
            values = ", ".join(f"seed {seed} {value!r}" for seed, value in cell["per_seed"].items())
            lines.append(f"    raw: {values or 'none'}")
            lines += [f"    gap: {gap}" for gap in cell["gaps"]]
    return lines
