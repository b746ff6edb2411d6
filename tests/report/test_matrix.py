"""The matrix trained-on x tested-on: figures, marks, gaps."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from rlcredit.evaluation.cells import Cell, Source
from rlcredit.evaluation.stats import crossed_interval
from rlcredit.report.matrix import UNSEEN, Matrix, Scored, markdown, sheets, values_csv

RETRIEVERS, MEASURES = ("a", "b", "c"), ("nDCG@10", "AP")
RNG = np.random.default_rng(0)


def drawn():
    """Scores of 3 seeds and 8 prompts."""
    return {
        Cell(name, measure, Source.greedy): RNG.random((3, 8))
        for name in RETRIEVERS
        for measure in MEASURES
    }


ON_A = Scored(
    method="ospo",
    trained_on="a",
    seeds=(0, 1, 2),
    runs=("x", "y", "z"),
    sources=(Source.greedy,),
    scores=drawn(),
    before=drawn(),
)
START = Scored(
    method="warm | start",
    trained_on=None,
    seeds=(),
    runs=(),
    sources=(Source.greedy,),
    scores=drawn(),
)
MATRIX = Matrix(
    title="Of a toy", tested_on=RETRIEVERS, measures=MEASURES, rows=(ON_A, START), notes=("so",)
)
CELLS = list(MATRIX.cells())


def cell_of(trained_on, tested_on, measure="nDCG@10"):
    (found,) = (
        c
        for c in CELLS
        if (c.trained_on, c.tested_on, c.measure) == (trained_on, tested_on, measure)
    )
    return found


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("tested_on", RETRIEVERS)
def test_scores_and_paired_gains_are_over_seeds_and_prompts(tested_on, measure):
    cell = Cell(tested_on, measure, Source.greedy)
    after, before = ON_A.scores[cell], ON_A.before[cell]
    found = cell_of("a", tested_on, measure)
    assert found.score == crossed_interval(after)
    assert found.gain == crossed_interval(after - before)
    assert found.score.low < found.score.mean < found.score.high
    assert (found.seeds, found.prompts, found.runs) == ((0, 1, 2), 8, ("x", "y", "z"))
    assert cell_of(None, tested_on, measure).gain is None


def test_rewordings_of_one_intent_are_one_piece_of_evidence():
    families = np.repeat([0, 1, 2, 3], 2)
    found = next(replace(MATRIX, families=families).cells())
    after = ON_A.scores[Cell("a", MEASURES[0], Source.greedy)]
    assert found.score == crossed_interval(after, families) != crossed_interval(after)


def test_only_the_retriever_trained_on_is_in_distribution():
    marked = {(c.trained_on, c.tested_on) for c in CELLS if c.in_distribution}
    assert marked == {("a", "a")}


def test_the_mean_over_unseen_retrievers_leaves_the_seen_one_out():
    cells = [Cell(name, "AP", Source.greedy) for name in "bc"]
    after = (ON_A.scores[cells[0]] + ON_A.scores[cells[1]]) / 2
    before = (ON_A.before[cells[0]] + ON_A.before[cells[1]]) / 2
    found = cell_of("a", UNSEEN, "AP")
    assert found.score == crossed_interval(after)
    assert found.gain.mean == pytest.approx((after - before).mean())
    assert not [c for c in CELLS if c.trained_on is None and c.tested_on == UNSEEN]


def test_a_matrix_of_one_retriever_has_no_unseen_mean():
    alone = replace(MATRIX, tested_on=("a",))
    assert {cell.tested_on for cell in alone.cells()} == {"a"}


def test_markdown_has_a_table_per_measure_and_marks_and_escapes():
    page = markdown(MATRIX, CELLS)
    titles = [line[3:] for line in page.splitlines() if line.startswith("## ")]
    assert titles == ["nDCG@10", "nDCG@10, gain over the warm start", "MAP"]
    rows = [line for line in page.splitlines() if line.startswith("| a (ospo)")]
    assert [row.count("*") for row in rows] == [1, 1, 1]
    assert "| warm \\| start | greedy |" in page
    assert page.endswith("- so\n")
    scores, gains, _ = sheets(MATRIX, CELLS)
    assert [row[0] for row in scores.rows] == ["a (ospo)", "warm | start"]
    assert scores.rows[1][-1] == "—"
    assert [row[0] for row in gains.rows] == ["a (ospo)"]


def test_every_figure_is_a_line_of_the_csv_unrounded():
    lines = list(csv.DictReader(io.StringIO(values_csv(CELLS))))
    assert len(lines) == len(CELLS) == 2 * (4 + 3)
    for line, cell in zip(lines, CELLS, strict=True):
        assert float(line["score_mean"]) == cell.score.mean
        assert line["gain_low"] == ("" if cell.gain is None else repr(cell.gain.low))
        assert line["in_distribution"] == str(cell.in_distribution)
