"""Cells hold what the runs say; what is missing or broken is a gap, and the rest is still shown."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from rlcredit.commands.table_jobs import Planner, run_missing
from rlcredit.evaluation.on_disk import evaluation_path
from rlcredit.run.sweep_table import save_failure
from rlcredit.tables.cards import cards
from rlcredit.tables.claims import Verdict, findings
from rlcredit.tables.declare import Logged, Reduce
from rlcredit.tables.grid import Cell, reduce
from rlcredit.tables.kept import KeptRecords
from rlcredit.tables.records import Phase, run_folders
from rlcredit.tables.render import markdown
from tests.unsealed import unsealed


def run_of(outputs, name, seed):
    return outputs / "esci" / name / f"seed{seed}"


def read(folder):
    ((run,), _) = run_folders(folder)
    return run.read()


def test_a_cell_is_the_mean_over_seeds_and_queries_of_its_runs(filled, outputs):
    grid = filled()
    cell = grid.cells["esci", "ospo", "ndcg"]
    values = [read(run_of(outputs, "ospo", s)).scores[Phase.after] for s in range(8)]
    means = [float(v.values["bm25/ndcg@10_sampled"].mean()) for v in values]
    assert list(cell.per_seed.values()) == pytest.approx(means)
    assert cell.estimate.mean == pytest.approx(np.mean(means))
    assert cell.estimate.low < cell.estimate.mean < cell.estimate.high
    assert cell.interquartile == pytest.approx(np.mean(sorted(means)[2:6]))
    assert not cell.gaps
    assert len(cell.runs) == 8
    assert grid.cells["esci", "query", "ndcg"].estimate.mean == 0.25
    assert grid.cells["esci", "grpo", "evaluations"].estimate.mean == 240
    assert grid.cells["esci", "grpo", "area"].estimate.mean == pytest.approx(0.1)
    assert grid.cells["esci", "query", "area"].estimate is None  # nothing was trained for it
    assert grid.differences["esci", "ospo"].mean == pytest.approx(0.2, abs=0.03)


def test_each_tested_claim_has_a_card_with_its_estimand_its_runs_and_its_verdict(filled, table):
    said = dataclasses.replace(
        table.claims["better"], estimand="what it adds", falsifier="nothing added"
    )
    grid = dataclasses.replace(
        filled(), table=dataclasses.replace(table, claims={**table.claims, "better": said})
    )
    (card,) = cards(grid)  # the other claim is not tested
    rows = dict(card.rows)
    assert card.title == f"Card: {said.text}"
    assert (rows["estimand"], rows["would count against it"]) == ("what it adds", "nothing added")
    assert (
        "rlcredit explain table_x/esci/ospo; rlcredit explain table_x/esci/grpo" in rows["rests on"]
    )
    assert "code abc" in rows["rests on"]
    assert "over 8 seeds, p = 0.0078 adjusted" in rows["seen"]
    assert rows["verdict"] == "supported"
    assert "## Card: " in markdown(grid)
    assert dict(cards(filled())[0].rows)["estimand"] == "not declared"


def test_claims_get_an_effect_an_adjusted_p_and_a_verdict(filled, table):
    better, unknown = findings(filled())
    assert better.verdict is Verdict.supported
    assert better.pvalue == better.adjusted == pytest.approx(2 / 2**8)  # one test, all signs alike
    assert better.effect.low > 0.1
    assert unknown.verdict is Verdict.untested
    assert unknown.why == "no task for it"
    claims = {"better": dataclasses.replace(table.claims["better"], larger=False)}
    grid = dataclasses.replace(filled(), table=dataclasses.replace(table, claims=claims))
    assert findings(grid)[0].verdict is Verdict.contradicted


def test_too_few_seeds_leave_a_claim_open(filled, outputs):
    for seed in range(3, 8):
        (run_of(outputs, "ospo", seed) / "summary.json").unlink()
    found = findings(filled())[0]
    assert found.verdict is Verdict.inconclusive
    assert found.pvalue is None
    assert "3 of 8 declared seeds" in found.why


def test_a_claim_waits_for_all_declared_seeds_though_six_could_be_tested(filled, outputs):
    for seed in (6, 7):
        (run_of(outputs, "ospo", seed) / "summary.json").unlink()
    found = findings(filled())[0]
    assert found.effect.low > 0.1
    assert found.pvalue is None
    assert found.verdict is Verdict.inconclusive


def test_a_claim_about_queries_that_are_never_defined_in_both_says_so(filled):
    grid = filled()
    for row, undefined in (("ospo", slice(0, 6)), ("grpo", slice(6, None))):
        by_query = grid.cells["esci", row, "ndcg"].by_query.copy()
        by_query[:, undefined] = np.nan
        cell = dataclasses.replace(grid.cells["esci", row, "ndcg"], by_query=by_query)
        grid.cells["esci", row, "ndcg"] = cell
    found = findings(grid)[0]
    assert found.effect is None
    assert found.pvalue is None
    assert found.why == "no query is defined in every run of both"


def test_a_claim_that_waits_counts_in_the_correction_of_the_others(filled, table):
    waiting = dataclasses.replace(table.claims["better"], column="area")
    claims = {"better": table.claims["better"], "waiting": waiting}
    both = dataclasses.replace(table, claims=claims)
    grid = dataclasses.replace(filled(), table=both)
    cell = dataclasses.replace(
        grid.cells["esci", "ospo", "area"], per_seed={0: 0.1}, runs=("seed0",)
    )
    grid.cells["esci", "ospo", "area"] = cell
    better, late = findings(grid)
    assert late.adjusted is None
    assert better.adjusted == pytest.approx(2 * 2 / 2**8)


def test_a_figure_without_runs_does_not_exist(filled):
    cell = filled().cells["esci", "ospo", "ndcg"]
    with pytest.raises(ValueError, match="a mean of 8 seeds with 0 runs behind it"):
        dataclasses.replace(cell, runs=())
    empty = Cell(address="x", estimate=None, per_seed={}, runs=(), gaps=("not run",))
    assert empty.estimate is None


def gaps_of(grid, column="ndcg"):
    return " | ".join(grid.cells["esci", "ospo", column].gaps)


def test_a_run_that_is_missing_half_written_or_failed_is_a_gap(filled, outputs):
    (run_of(outputs, "ospo", 0) / "summary.json").unlink()
    (run_of(outputs, "ospo", 1) / "summary.json").write_text('{"name": "esc')
    (run_of(outputs, "ospo", 2) / "summary.json").unlink()
    save_failure(run_of(outputs, "ospo", 2), "a traceback\nthe disk is full")
    grid = filled()
    assert "seed 0: unfinished" in gaps_of(grid)
    assert "seed 1: unfinished" in gaps_of(grid)
    assert "seed 2: failed: the disk is full" in gaps_of(grid)
    assert list(grid.cells["esci", "ospo", "ndcg"].per_seed) == [3, 4, 5, 6, 7]
    assert any("is no summary of this version" in problem for problem in grid.problems)


def test_two_runs_of_one_digest_with_other_results_show_neither(filled, outputs, make_run):
    make_run(outputs / "again", digest="ospo0", level=0.1)
    grid = filled()
    assert "same digest and different results" in gaps_of(grid)
    assert 0 not in grid.cells["esci", "ospo", "ndcg"].per_seed


def test_a_kept_record_says_the_same_as_its_run(filled, outputs, keep):
    before = filled()
    folders = [run_of(outputs, "ospo", seed) for seed in range(8)]
    kept = {run.summary.digest: run for run in keep(*folders).runs}
    own = [read(folder) for folder in folders]
    for folder in folders:
        shutil.rmtree(folder)
    grid = filled()
    assert grid.cells["esci", "ospo", "ndcg"].runs[0] == f"{outputs}/reference/jobs#ospo0"
    for key, cell in before.cells.items():
        assert grid.cells[key].estimate == cell.estimate
        assert grid.cells[key].per_seed == cell.per_seed
    for record in own:
        read_back = kept[record.summary.digest].read()
        assert read_back.summary == record.summary
        assert read_back.logged == record.logged
        assert read_back.overrides == record.overrides


def test_a_run_that_finished_outside_the_sweep_is_kept_too(plan, outputs, tmp_path, capsys):
    kept = KeptRecords(folder=tmp_path / "reference" / "jobs")
    planner = Planner(outputs=outputs)
    evaluated = evaluation_path(run_of(outputs, "ospo", 3), "test", "after")
    whole = evaluated.read_text()
    evaluated.write_text("half a li")
    assert run_missing(plan, planner, kept=kept) == 1
    said = capsys.readouterr().out
    assert "0 jobs to run, 16 finished ones reused" in said
    assert "seed3 finished and is not kept" in said
    assert len(kept.runs) == 15
    first = {path: path.read_bytes() for path in kept.folder.iterdir()}
    evaluated.write_text(whole)
    assert run_missing(plan, planner, kept=kept) == 0
    assert len(kept.runs) == 16
    assert {path: path.read_bytes() for path in first} == first
    assert {path.name for path in kept.folder.iterdir()} - {path.name for path in first} == {
        "index-0001.parquet",
        "scores-esci-0001.parquet",
        "metrics-esci-0001.parquet",
        "families-0001.parquet",
    }
    now = {path: path.read_bytes() for path in kept.folder.iterdir()}
    assert run_missing(plan, planner, kept=kept) == 0
    assert {path: path.read_bytes() for path in kept.folder.iterdir()} == now


def test_a_broken_line_of_metrics_is_left_out_and_named(filled, outputs):
    with (run_of(outputs, "ospo", 0) / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "reward/eval')
    grid = filled()
    assert "line 4 of metrics.jsonl is broken" in gaps_of(grid, "evaluations")
    assert grid.cells["esci", "ospo", "evaluations"].estimate.mean == 240


def test_a_measure_undefined_for_a_query_leaves_the_query_out(filled, outputs):
    path = evaluation_path(run_of(outputs, "ospo", 0), "test", "after")
    record = unsealed(path)
    for row in record["scores"]:
        row["values"][3] = None
    path.write_text(json.dumps(record))
    cell = filled().cells["esci", "ospo", "ndcg"]
    assert "undefined for 1 of 12 queries" in " ".join(cell.gaps)
    assert len(cell.per_seed) == 8
    assert np.isnan(cell.by_query[:, 3]).all()


def test_a_seed_scored_on_other_queries_is_a_gap(filled, outputs, make_run):
    make_run(run_of(outputs, "ospo", 5), digest="ospo5", queries=5)
    grid = filled()
    assert "seed 5: scored on other queries" in gaps_of(grid)
    assert 5 not in grid.cells["esci", "ospo", "ndcg"].per_seed


def test_rows_scored_on_other_queries_of_the_same_number_have_no_difference(filled, outputs):
    for seed in range(8):
        path = evaluation_path(run_of(outputs, "ospo", seed), "test", "after")
        record = unsealed(path)
        record["prompt_ids"][3] = "another"
        path.write_text(json.dumps(record))
    grid = filled()
    assert grid.cells["esci", "ospo", "ndcg"].estimate is not None
    assert grid.differences["esci", "ospo"] is None
    said = "esci/ospo/ndcg and esci/grpo/ndcg were scored on different queries"
    assert said in markdown(grid)
    better = findings(grid)[0]
    assert better.verdict is Verdict.inconclusive
    assert better.effect is None
    assert said in better.why
    assert not dataclasses.replace(filled(), runs={}).unpaired()


def test_a_run_without_a_code_revision_is_a_gap(filled, outputs, make_run):
    make_run(run_of(outputs, "ospo", 0), digest="ospo0", level=0.7, revision=None)
    make_run(run_of(outputs, "ospo", 1), digest="ospo1", level=0.7, revision="abc+changes")
    grid = filled()
    assert "no code revision was recorded (no git checkout" in gaps_of(grid)
    assert list(grid.cells["esci", "ospo", "ndcg"].per_seed) == list(range(1, 8))
    assert "unknown" not in markdown(grid)
    assert grid.row_revisions("esci", "ospo") == ["abc+changes", "abc"]


def test_a_measure_that_was_not_scored_is_a_gap(filled, table, plan, outputs):
    score = dataclasses.replace(table.scores["ndcg"], retriever="lsa")
    other = dataclasses.replace(table, scores={"ndcg": score})
    grid = dataclasses.replace(filled(), table=other)
    assert "lsa/ndcg@10_sampled was not scored" in gaps_of(grid)


def test_a_table_that_refers_to_nothing_is_refused(table):
    with pytest.raises(ValueError, match=r"table\.primary='mrr' is not declared; known: ndcg"):
        dataclasses.replace(table, primary="mrr")
    with pytest.raises(ValueError, match="this table has smoke"):
        table.size("huge")


def test_the_first_step_at_a_level_is_found_and_one_never_reached_counts_the_last_step():
    points = np.array([[0.0, 0.1], [10, 0.4], [20, 0.3], [30, 0.6]])
    assert reduce(points, Reduce.reaches, level=0.4) == 10
    assert reduce(points, Reduce.reaches, level=0.7) == 30


def test_a_seed_that_never_reaches_a_level_counts_and_is_named(filled, table, outputs):
    metrics = run_of(outputs, "ospo", 3) / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"curve": 0.2', '"curve": 0.1'))
    speed = Logged(label="speed", metric="curve", reduce=Reduce.reaches, level=0.15)
    other = dataclasses.replace(table, logged={**table.logged, "speed": speed})
    cell = dataclasses.replace(filled(), table=other).cells["esci", "ospo", "speed"]
    assert list(cell.per_seed.values()) == [2.0] * 8
    assert cell.gaps == ("seed 3: curve: 0.15 was not reached, the last step counts",)
