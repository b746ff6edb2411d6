"""What goes wrong with one job leaves the others, and the tables, as they are."""

import shutil

import pytest

from rlcredit.commands import table_jobs
from rlcredit.commands import tables as reproduce_tables
from rlcredit.commands.table_choice import kept_folder
from rlcredit.commands.table_jobs import Outcome, Planner, run_missing
from rlcredit.commands.tables import reproduce
from rlcredit.tables.kept import KeptRecords
from tests.tables.dying import die


@pytest.fixture
def unfinished(plan, outputs):
    """All jobs of OSPO, of which seeds 3 and later have no run yet."""
    jobs = [job for job in plan if job.row == "ospo"]
    for job in jobs[3:]:
        (job.folder / "summary.json").unlink()
    return jobs


@pytest.fixture
def deadly(monkeypatch):
    monkeypatch.setattr(table_jobs, "_start_worker", die)


def test_a_worker_that_dies_leaves_the_rest_as_failed_with_the_reason(
    unfinished, outputs, deadly, capsys
):
    assert run_missing(unfinished, Planner(outputs=outputs), kept=None, workers=2) == 5
    said = capsys.readouterr().out
    assert said.count("FAILED: a worker died (killed, or out of memory: 2 jobs ran") == 5
    assert "give --workers 1" in (unfinished[3].folder / "failure.txt").read_text()


def test_tables_are_rendered_after_a_worker_has_died(
    unfinished, table, plan, outputs, deadly, monkeypatch
):
    monkeypatch.setattr(reproduce_tables, "declared", lambda name: table)
    monkeypatch.setattr(Planner, "jobs", lambda *_: iter(plan))
    assert reproduce(["x"], size="smoke", outputs=outputs, workers=2) == 5
    page = (outputs / "tables/smoke/table_x/table.md").read_text()
    assert "3/8" in page
    assert "8/8" in page
    assert "failed: a worker died" in page


def test_a_job_that_finished_just_before_a_worker_died_has_finished(
    unfinished, outputs, deadly, make_run
):
    planner = Planner(outputs=outputs)
    make_run(unfinished[7].folder, digest="ospo7", level=0.7)
    outcomes = list(table_jobs._in_processes(unfinished[3:], planner, 2))
    failed = {outcome.planned.seed for outcome in outcomes if outcome.failure is not None}
    assert failed == {3, 4, 5, 6}
    assert not (unfinished[7].folder / "failure.txt").exists()


def test_a_job_that_cannot_even_begin_fails_alone(unfinished, outputs, capsys):
    for job in unfinished[3:]:
        shutil.rmtree(job.folder)
        job.folder.write_text("")  # a file in the folder's place
    assert run_missing(unfinished, Planner(outputs=outputs), kept=None) == 5
    assert capsys.readouterr().out.count("FAILED") == 5


def test_a_finished_job_that_cannot_be_kept_is_named_and_counted(
    unfinished, outputs, make_run, monkeypatch, capsys
):
    def finish(jobs, planner, workers):
        for job in jobs:
            make_run(job.folder, digest=job.digest, level=0.7, seed=job.seed)
            yield Outcome(planned=job, failure=None, seconds=0.0)

    monkeypatch.setattr(table_jobs, "_one_by_one", finish)
    kept = KeptRecords(folder=kept_folder(outputs))
    kept.folder.parent.mkdir(parents=True)
    kept.folder.write_text("a file where a folder is to be")
    assert run_missing(unfinished, Planner(outputs=outputs), kept=kept) == 8
    said = capsys.readouterr().out
    assert f"8 records cannot be kept in {kept.folder}: " in said
    assert said.count("finished (") == 5


def test_what_finished_before_a_sitting_was_stopped_is_kept(
    unfinished, outputs, make_run, monkeypatch
):
    def stop_after_two(jobs, planner, workers):
        for job in jobs[:2]:
            make_run(job.folder, digest=job.digest, level=0.7, seed=job.seed)
            yield Outcome(planned=job, failure=None, seconds=0.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(table_jobs, "_one_by_one", stop_after_two)
    kept = KeptRecords(folder=kept_folder(outputs))
    with pytest.raises(KeyboardInterrupt):
        run_missing(unfinished, Planner(outputs=outputs), kept=kept)
    assert {run.summary.digest for run in kept.runs} == {f"ospo{seed}" for seed in range(5)}
