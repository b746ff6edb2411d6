"""Which run a table shows, where there are several of one digest or one was scored otherwise."""

import dataclasses
import json
import pickle

import pytest
from hydra import initialize_config_dir

from rlcredit.commands.conf import conf_folder
from rlcredit.commands.digests import evaluation_digest
from rlcredit.commands.schema import register
from rlcredit.commands.table_choice import finished_runs, kept_folder
from rlcredit.commands.table_jobs import Planner, run_missing
from rlcredit.commands.tables import declared, fill
from rlcredit.identity import digest, identify
from rlcredit.tables.kept import KeptRecords
from rlcredit.tables.proof import explain_cell, table_folder, write_table
from rlcredit.trainer.settings import EvaluationSettings
from tests.tables.conftest import SETTINGS
from tests.unsealed import unsealed


def run_of(outputs, seed):
    return outputs / "esci" / "ospo" / f"seed{seed}"


def gaps(grid):
    return " | ".join(grid.cells["esci", "ospo", "ndcg"].gaps)


def other(**settings):
    return dataclasses.replace(SETTINGS, **settings)


def test_a_kept_record_wins_over_another_run_of_its_digest(filled, outputs, make_run, keep):
    keep(*(run_of(outputs, seed) for seed in range(8)))
    before = filled()
    assert not before.problems
    make_run(run_of(outputs, 0), digest="ospo0", level=0.1)  # as another machine might have it
    grid = filled()
    assert (
        grid.cells["esci", "ospo", "ndcg"].estimate == before.cells["esci", "ospo", "ndcg"].estimate
    )
    assert not gaps(grid)
    (said,) = grid.problems
    assert said.endswith(str(run_of(outputs, 0)))
    assert "kept records are shown" in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (other(samples=1), "scored with evaluation.samples=1, the table declares 4"),
        (other(max_prompts=20), "scored with evaluation.max_prompts=20, the table declares null"),
        (
            other(retrievers=["tfidf"]),
            "scored with evaluation.retrievers=[tfidf], the table declares [bm25,lsa]",
        ),
    ],
)
def test_a_run_scored_otherwise_than_declared_is_a_gap(
    settings, said, table, plan, outputs, make_run
):
    wanted = other(retrievers=["bm25", "lsa"])
    jobs = [dataclasses.replace(job, evaluation=wanted) for job in plan]
    for job in jobs:
        make_run(job.folder, digest=job.digest, level=0.7, seed=job.seed, settings=wanted)
    make_run(run_of(outputs, 0), digest="ospo0", level=0.7, settings=settings)
    grid = fill("table_x", table, "smoke", jobs, finished_runs(outputs))
    assert f"seed 0: {run_of(outputs, 0)}: {said}: move it away and run again" in gaps(grid)
    assert list(grid.cells["esci", "ospo", "ndcg"].per_seed) == list(range(1, 8))


def test_more_retrievers_and_other_steps_of_validation_do_no_harm(filled, outputs, make_run):
    settings = other(retrievers=["lsa", "tfidf"], every=3)  # and bm25, which the run trained on
    make_run(run_of(outputs, 0), digest="ospo0", level=0.7, settings=settings)
    assert not gaps(filled())


def test_steps_of_validation_count_where_a_table_shows_them(table, plan, outputs, make_run):
    jobs = [dataclasses.replace(job, reads_validation=True) for job in plan]
    make_run(run_of(outputs, 0), digest="ospo0", level=0.7, settings=other(every=3))
    grid = fill("table_x", table, "smoke", jobs, finished_runs(outputs))
    assert "evaluation.every=3, the table declares 10" in gaps(grid)
    assert not table.reads_validation("esci")
    assert dataclasses.replace(table, curve="eval/validation/x").reads_validation("esci")


def test_a_config_that_a_later_command_has_written_is_not_believed(filled, outputs, make_run):
    run = make_run(run_of(outputs, 0), digest="ospo0", level=0.7, settings=other(samples=1))
    later = (run_of(outputs, 1) / ".hydra" / "config.yaml").read_text()
    (run / ".hydra" / "config.yaml").write_text(later)
    assert "which a later command has written" in gaps(filled())
    (run_of(outputs, 1) / ".hydra" / "config.yaml").write_text(
        later.replace("samples: 4", "samples: 1")
    )
    assert "seed 1" not in gaps(filled())


def test_a_run_that_does_not_say_how_it_was_scored_is_a_gap(filled, outputs):
    for path in ("test-before.json", "test-after.json"):
        file = run_of(outputs, 0) / "evaluations" / path
        file.write_text(json.dumps(unsealed(file) | {"digest": "ospo0"}))
    (run_of(outputs, 0) / ".hydra" / "config.yaml").write_text("seed: 0\n")
    assert "has no evaluation settings" in gaps(filled())
    (run_of(outputs, 0) / ".hydra" / "config.yaml").unlink()
    assert "has no .hydra/config.yaml" in gaps(filled())


def test_a_run_that_cannot_be_shown_is_neither_reused_nor_run_over(plan, outputs, make_run, capsys):
    run = make_run(run_of(outputs, 0), digest="ospo0", level=0.7, settings=other(samples=1))
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    kept = KeptRecords(folder=kept_folder(outputs))
    assert run_missing(plan, Planner(outputs=outputs), kept=kept) == 1
    said = capsys.readouterr().out
    assert f"not run: {run}: scored with evaluation.samples=1, the table declares 4" in said
    assert "0 jobs to run, 15 finished ones reused" in said
    assert "ospo0" not in {run.summary.digest for run in kept.runs}
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


def test_a_run_scored_otherwise_elsewhere_does_not_keep_a_job_from_running(
    plan, outputs, make_run, monkeypatch, capsys
):
    run_of(outputs, 0).rename(outputs / "mine")
    make_run(outputs / "mine", digest="ospo0", level=0.7, settings=other(samples=1))
    monkeypatch.setattr("rlcredit.commands.table_jobs._one_by_one", lambda jobs, *_: iter(()))
    run_missing(plan, Planner(outputs=outputs), kept=None)
    assert "1 jobs to run, 15 finished ones reused" in capsys.readouterr().out


def test_a_cell_is_explained_by_the_command_that_made_its_run(filled, outputs, tmp_path):
    (run_of(outputs, 3) / ".hydra" / "overrides.yaml").write_text("- estimator=ospo\n- seed=3\n")
    (run_of(outputs, 5) / ".hydra" / "overrides.yaml").unlink()
    write_table(filled(), table_folder(tmp_path, "table_x", "smoke"))
    lines = explain_cell(tmp_path, "table_x/esci/ospo")
    assert "  seed 0: python train.py seed=0" in lines
    assert lines[lines.index("  seed 0: python train.py seed=0") + 1] == (
        "    plan: python train.py estimator=ospo seed=0"
    )
    own = lines.index("  seed 3: python train.py estimator=ospo seed=3")
    assert "plan:" not in lines[own + 1]
    (unknown,) = (line for line in lines if "seed 5: what made it is not known" in line)
    assert str(run_of(outputs, 5)) in unknown


def test_planned_jobs_know_how_they_are_scored_as_their_runs_will_record_it(tmp_path):
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        table = declared("search")
        planner = Planner(outputs=tmp_path, conf=table.conf)
        job = next(planner.jobs(table, "smoke", ["esci"]))
        cfg = planner.config(job.settings, job.seed)
    assert job.evaluation == EvaluationSettings(
        retrievers=["bm25", "tfidf", "lsa"], samples=3, every=1, max_prompts=10
    )
    assert job.reads_validation
    assert digest(identify(job.evaluation)) == evaluation_digest(cfg)
    assert pickle.loads(pickle.dumps(job)) == job  # it goes to workers
