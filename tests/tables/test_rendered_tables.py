"""The same cells in every format, the same bytes every time, every gap in sight."""

import csv
import dataclasses
import io

import pytest

from rlcredit.tables.declare import Score
from rlcredit.tables.pages import html
from rlcredit.tables.plots import learning
from rlcredit.tables.proof import explain_cell, table_folder, write_table
from rlcredit.tables.render import latex, markdown, values_csv


def test_writing_twice_gives_the_same_bytes(filled, tmp_path):
    first = [path.read_bytes() for path in write_table(filled(), tmp_path / "one")]
    second = [path.read_bytes() for path in write_table(filled(), tmp_path / "two")]
    assert first == second
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert {"table.md", "table.tex", "table.csv", "table.html", "cells.json"} <= names
    drawn = {
        f"{name}-esci.{kind}" for name in ("curves", "seconds", "cost") for kind in ("svg", "png")
    }
    assert drawn <= names


def test_curves_are_drawn_over_the_seconds_that_their_steps_took(filled, outputs):
    (curve, _) = learning(filled(), "esci")
    assert curve.steps.tolist() == [0, 1, 2]
    assert curve.seconds.tolist() == [0, 1.5, 3]
    assert curve.values.shape == (8, 3)


def test_a_column_of_another_sheet_is_shown_apart(filled, table):
    unseen = Score(label="unseen", measure="ndcg@10", sheet="TF-IDF, unseen")
    other = dataclasses.replace(table, scores={**table.scores, "unseen": unseen})
    page = markdown(dataclasses.replace(filled(), table=other))
    first, second = page.split("## ESCI & co")[1:3]
    assert "unseen" not in first
    assert second.startswith(": TF-IDF, unseen")
    assert "|  | unseen |" in second
    assert "interquartile" not in second


def test_every_format_shows_the_figure_its_label_and_its_size(filled):
    grid = filled()
    figure = f"{grid.cells['esci', 'ospo', 'ndcg'].estimate.mean:.3f}"
    for text in (markdown(grid), latex(grid), html(grid, [])):
        assert figure in text
        assert "not evidence" in text
        assert "supported" in text
    rows = {row["cell"]: row for row in csv.DictReader(io.StringIO(values_csv(grid)))}
    assert rows["esci/ospo/ndcg"]["mean"].startswith(figure[:4])
    assert len(rows["esci/ospo/ndcg"]["runs"].split()) == 8


def test_foreign_text_is_escaped(filled):
    grid = filled()
    assert "<script>" not in html(grid, [])
    assert "&lt;script&gt;" in html(grid, [])
    assert r"ESCI & co" not in latex(grid).split("% ESCI")[0]
    assert r"nDCG@10" in latex(grid)
    assert r"95 \%" not in latex(grid).splitlines()[0]


def test_rows_of_another_code_revision_are_marked(filled, outputs, make_run):
    assert "Code revision of all runs: abc" in markdown(filled())
    make_run(outputs / "esci/ospo/seed0", digest="ospo0", level=0.7, revision="def+changes")
    text = markdown(filled())
    assert "| OSPO <script> [b] [a] |" in text or "| OSPO <script> [a] [b] |" in text
    assert "code revision def+changes" in text


def test_a_gap_is_seen_in_the_table_and_said_below_it(filled, outputs):
    for seed in range(8):
        (outputs / f"esci/ospo/seed{seed}/summary.json").unlink()
    text = markdown(filled())
    row = next(line for line in text.splitlines() if line.startswith("| OSPO"))
    assert row.split("|")[2].strip() == "—"
    assert "0/8" in row
    assert "unfinished" in text


def test_a_cell_is_explained_by_its_runs(filled, tmp_path):
    write_table(filled(), table_folder(tmp_path, "table_x", "smoke"))
    text = "\n".join(explain_cell(tmp_path, "table_x/esci/ospo"))
    for part in (
        "plan: python train.py estimator=ospo seed=3",
        "code_revision: abc",
        "data_digest: ddd",
    ):
        assert part in text
    assert "config.yaml" in text
    assert "raw: seed 0 0." in text
    assert "evaluations:" not in "\n".join(explain_cell(tmp_path, "table_x/esci/ospo/ndcg"))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("table_x/esci/osp", "did you mean table_x/esci/ospo"),
        ("table_x/esci/ospo/mrr", "columns: ndcg, area, evaluations"),
    ],
)
def test_an_address_that_does_not_exist_is_answered_with_those_that_do(
    address, said, filled, tmp_path
):
    write_table(filled(), table_folder(tmp_path, "table_x", "smoke"))
    with pytest.raises(ValueError, match=said):
        explain_cell(tmp_path, address)
