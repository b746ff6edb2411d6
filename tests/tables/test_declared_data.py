"""Data sets of one table may have rows, columns and primary measures of their own."""

import dataclasses

import numpy as np
import pytest

from rlcredit.commands.table_choice import finished_runs
from rlcredit.commands.tables import fill
from rlcredit.evaluation.stats import seed_interval
from rlcredit.tables.declare import Data, Score
from rlcredit.tables.grid import Grid
from rlcredit.tables.render import markdown


def with_other_queries(grid, row):
    """The runs of a row, each seed scored on queries of its own."""
    return [
        dataclasses.replace(
            run,
            record=dataclasses.replace(
                run.record,
                scores={
                    phase: dataclasses.replace(
                        scores,
                        prompt_ids=tuple(f"seed{run.job.seed}-{q}" for q in scores.prompt_ids),
                    )
                    for phase, scores in run.record.scores.items()
                },
            ),
        )
        for run in grid.runs["esci", row]
    ]


def test_where_each_seed_has_queries_of_its_own_seeds_alone_are_drawn(table, plan, outputs):
    grid = fill("table_x", table, "smoke", plan, finished_runs(outputs))
    fresh = dataclasses.replace(
        table, data={"esci": dataclasses.replace(table.data["esci"], fresh=True)}
    )
    runs = {("esci", row): with_other_queries(grid, row) for row in ("grpo", "ospo")}
    runs["esci", "query"] = grid.runs["esci", "query"]
    found = dataclasses.replace(grid, table=fresh, runs=runs)
    cell, before = found.cells["esci", "ospo", "ndcg"], grid.cells["esci", "ospo", "ndcg"]
    assert cell.per_seed == pytest.approx(before.per_seed)
    assert cell.estimate == seed_interval(np.array(list(cell.per_seed.values())))
    assert not cell.gaps
    gaps = [cell.per_seed[s] - found.cells["esci", "grpo", "ndcg"].per_seed[s] for s in range(8)]
    assert found.differences["esci", "ospo"] == seed_interval(np.array(gaps))
    declared_alike = dataclasses.replace(found, table=table)
    assert len(declared_alike.cells["esci", "ospo", "ndcg"].per_seed) == 1
    assert any("other queries" in gap for gap in declared_alike.cells["esci", "ospo", "ndcg"].gaps)


def test_runs_of_one_seed_on_different_queries_are_not_subtracted(table, plan, outputs):
    grid = fill("table_x", table, "smoke", plan, finished_runs(outputs))
    fresh = dataclasses.replace(
        table, data={"esci": dataclasses.replace(table.data["esci"], fresh=True)}
    )
    runs = {**grid.runs, ("esci", "ospo"): with_other_queries(grid, "ospo")}
    found = dataclasses.replace(grid, table=fresh, runs=runs)
    assert found.differences["esci", "ospo"] is None
    assert any("scored on different queries" in why for why in found.unpaired())


def test_a_seed_with_data_of_its_own_is_in_the_words_of_its_job(table):
    fresh = dataclasses.replace(
        table, data={"esci": dataclasses.replace(table.data["esci"], fresh=True)}
    )
    assert "dataset.seed=7" in fresh.overrides("ospo", "esci", "smoke", 7)
    assert not any("dataset.seed" in w for w in table.overrides("ospo", "esci", "smoke", 7))


@pytest.fixture
def two_data(table):
    """A second data set, whose methods are compared on another column and have no control."""
    other = Data(
        label="Countdown",
        overrides=["dataset=countdown"],
        rows=["ospo"],
        columns=["half", "evaluations"],
        primary="half",
    )
    half = Score(label="half of it", measure="ndcg@10", at_least=0.7)
    return dataclasses.replace(
        table, data={**table.data, "countdown": other}, scores={**table.scores, "half": half}
    )


def filled_with(table, plan, outputs) -> Grid:
    jobs = [*plan, *(dataclasses.replace(job, data="countdown") for job in plan)]
    known = [job for job in jobs if job.row in table.rows_of(job.data)]
    return fill("table_x", table, "smoke", known, finished_runs(outputs))


def test_a_data_set_has_its_own_rows_columns_and_primary_measure(two_data, plan, outputs):
    grid = filled_with(two_data, plan, outputs)
    assert two_data.rows_of("countdown") == ["ospo"]
    assert list(two_data.columns_of("countdown")) == ["half", "evaluations"]
    assert ("countdown", "grpo", "half") not in grid.cells
    assert ("countdown", "ospo", "ndcg") not in grid.cells
    assert grid.differences["countdown", "ospo"] is None
    assert grid.differences["esci", "ospo"] is not None
    page = markdown(grid)
    assert "ESCI & co: nDCG@10, Countdown: half of it" in page
    own = page.split("## Countdown")[1].split("\n\n")[1]
    assert "minus" not in own
    assert "half of it, interquartile mean over seeds" in own
    assert "GRPO" not in own


def test_a_share_counts_the_queries_that_reach_a_level(two_data, plan, outputs):
    grid = filled_with(two_data, plan, outputs)
    whole = grid.cells["esci", "ospo", "ndcg"].by_query
    shares = grid.cells["countdown", "ospo", "half"].per_seed
    assert list(shares.values()) == pytest.approx(list((whole >= 0.7).mean(1)))
    assert 0 < np.mean(list(shares.values())) < 1


def with_column(table, **how) -> dict[str, Score]:
    return {**table.scores, "some": Score(label="some of it", measure="ndcg@10", **how)}


def test_a_mean_among_counts_only_the_queries_that_reach_a_level(table, plan, outputs):
    chosen = dataclasses.replace(table, scores=with_column(table, among=0.7))
    grid = fill("table_x", chosen, "smoke", plan, finished_runs(outputs))
    whole = grid.cells["esci", "ospo", "ndcg"].by_query
    cell = grid.cells["esci", "ospo", "some"]
    means = [row[row >= 0.7].mean() for row in whole]
    assert list(cell.per_seed.values()) == pytest.approx(means)
    assert cell.estimate.mean == pytest.approx(np.mean(means))
    assert cell.by_query is None
    assert min(means) > whole.mean()


def test_a_seed_without_such_a_query_is_a_gap(table, plan, outputs):
    chosen = dataclasses.replace(table, scores=with_column(table, among=1.5))
    grid = fill("table_x", chosen, "smoke", plan, finished_runs(outputs))
    cell = grid.cells["esci", "ospo", "some"]
    assert cell.estimate is None
    assert "seed 0: no query reaches 1.5" in cell.gaps


def test_a_share_among_a_share_is_refused():
    with pytest.raises(ValueError, match=r"at_least=1 and among=2; give one"):
        Score(label="both", measure="solutions", at_least=1.0, among=2.0)


def test_what_a_data_set_does_not_have_cannot_be_claimed_or_compared(two_data):
    claim = dataclasses.replace(two_data.claims["better"], data="countdown")
    with pytest.raises(ValueError, match=r"claims\.better\.control='grpo' is not declared"):
        dataclasses.replace(two_data, claims={"better": claim})
    data = dataclasses.replace(two_data.data["countdown"], primary="ndcg")
    with pytest.raises(ValueError, match=r"data\.countdown\.primary='ndcg' is not declared"):
        dataclasses.replace(two_data, data={**two_data.data, "countdown": data})
    data = dataclasses.replace(two_data.data["countdown"], rows=["nobody"])
    with pytest.raises(ValueError, match=r"data\.countdown\.rows='nobody'"):
        dataclasses.replace(two_data, data={**two_data.data, "countdown": data})


def test_verified_scores_have_no_retriever_in_their_names():
    assert Score(label="", measure="pass@1", retriever="").name(None) == "pass@1"
