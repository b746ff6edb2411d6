"""A sitting appends a part: nothing is rewritten, and one that is cut short loses nothing."""

import dataclasses
import json
import os
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest

from rlcredit.commands.table_choice import finished_runs, kept_folder
from rlcredit.commands.table_jobs import Planner, run_missing
from rlcredit.commands.tables import fill
from rlcredit.evaluation.on_disk import evaluation_path
from rlcredit.identity import digest, without_numerics
from rlcredit.tables.kept import KeptRecords
from rlcredit.tables.parts import whole_file
from rlcredit.tables.proof import table_folder, write_table
from rlcredit.tables.records import RunFolder
from rlcredit.tables.render import markdown
from tests.forked import FORKED
from tests.full_disk import full_disk
from tests.unsealed import unsealed


def folder_of(outputs, seed):
    return outputs / "esci" / "ospo" / f"seed{seed}"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def kept_digests(outputs):
    return {run.summary.digest for run in KeptRecords(folder=kept_folder(outputs)).runs}


def die_at(number, outputs, seed):
    """Keep a run, and be killed when the file of that number is to be written."""
    write, files = pq.write_table, iter(range(number))

    def killed(*arguments, **settings):
        if next(files, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        write(*arguments, **settings)

    pq.write_table = killed
    run = next(run for run in finished_runs(outputs).runs if run.place.endswith(f"seed{seed}"))
    KeptRecords(folder=kept_folder(outputs)).append([run])


def test_a_later_sitting_leaves_every_file_as_it_is_and_both_parts_are_read(outputs, keep):
    kept = keep(folder_of(outputs, 0), folder_of(outputs, 1))
    first = contents(kept.folder)
    assert set(first) == {
        f"{name}-0000.parquet" for name in ("index", "scores-esci", "metrics-esci", "families")
    }
    keep(folder_of(outputs, 2))
    later = contents(kept.folder)
    assert {name: later[name] for name in first} == first
    assert len(later) == 8
    found = KeptRecords(folder=kept.folder)
    assert not found.problems
    assert [run.summary.digest for run in found.runs] == ["ospo0", "ospo1", "ospo2"]
    assert all(not run.read().problems for run in found.runs)


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_sitting_that_is_killed_loses_nothing_and_what_is_left_of_it_is_named(
    number, outputs, keep, filled
):
    kept = keep(folder_of(outputs, 0))
    whole = contents(kept.folder)
    before = filled()
    killed = FORKED.Process(target=die_at, args=(number, outputs, 1))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    left = set(contents(kept.folder)) - set(whole)
    assert len(left) == min(number, 2) + 2  # the index's, whole files, and the half one
    grid = filled()
    assert {key: cell.estimate for key, cell in grid.cells.items()} == {
        key: cell.estimate for key, cell in before.cells.items()
    }
    (said,) = grid.problems
    assert all(str(kept.folder / name) in said for name in left)
    assert "part 0001 has no index" in said
    assert "remove what is left" in said
    assert said in markdown(grid)
    keep(folder_of(outputs, 1))
    assert kept_digests(outputs) == {"ospo0", "ospo1"}
    assert kept.file("index", part="0002").exists()
    for name in left:
        (kept.folder / name).unlink()
    assert not filled().problems
    assert {name: contents(kept.folder)[name] for name in whole} == whole


def test_a_full_disk_is_named_and_counted_and_the_records_before_are_whole(
    outputs, keep, plan, capsys
):
    kept = keep(folder_of(outputs, 0))
    first = contents(kept.folder)
    with full_disk(500):
        assert run_missing(plan, Planner(outputs=outputs), kept=kept) == 15
    assert f"15 records cannot be kept in {kept.folder}: " in capsys.readouterr().out
    assert {name: contents(kept.folder)[name] for name in first} == first
    assert kept_digests(outputs) == {"ospo0"}
    assert run_missing(plan, Planner(outputs=outputs), kept=kept) == 0
    assert len(kept_digests(outputs)) == 16


def test_two_sittings_at_once_never_write_the_same_file(tmp_path):
    path = tmp_path / "index-0000.parquet"
    with whole_file(path) as file:
        file.write(b"mine")
        with pytest.raises(FileExistsError), whole_file(path) as other:
            other.write(b"theirs")
    assert path.read_bytes() == b"mine"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_no_job_is_run_while_the_index_that_may_hold_it_cannot_be_read(outputs, keep, plan):
    kept = keep(folder_of(outputs, 0))
    path = kept.file("index", part="0000")
    path.write_bytes(path.read_bytes()[:-20])
    again = KeptRecords(folder=kept.folder)
    with pytest.raises(ValueError, match=r"no job is run: .*index-0000\.parquet cannot be read"):
        run_missing(plan, Planner(outputs=outputs), kept=again)


def test_a_sitting_of_which_nothing_can_be_kept_writes_no_part(outputs):
    folder = folder_of(outputs, 0)
    evaluation_path(folder, "test", "after").unlink()
    (run,) = (run for run in finished_runs(outputs).runs if run.place == str(folder))
    (why,) = KeptRecords(folder=kept_folder(outputs)).append([run])
    assert f"{folder} finished and is not kept: " in why
    assert "test-after.json is missing" in why
    assert not kept_folder(outputs).exists()


def test_a_run_that_was_scored_on_other_queries_afterwards_is_not_kept(outputs):
    folder = folder_of(outputs, 0)
    path = evaluation_path(folder, "test", "after")
    record = unsealed(path)
    record["prompt_ids"][0] = "another"
    path.write_text(json.dumps(record))
    (run,) = (run for run in finished_runs(outputs).runs if run.place == str(folder))
    (why,) = KeptRecords(folder=kept_folder(outputs)).append([run])
    assert "was scored on other queries before training than after it" in why


def test_scores_and_logs_come_back_bit_by_bit(outputs, keep):
    folder = folder_of(outputs, 0)
    path = evaluation_path(folder, "test", "after")
    record = unsealed(path)
    record["scores"][0]["values"][:3] = [None, 1 / 3, 5e-324]
    path.write_text(json.dumps(record))
    (run,) = (run for run in finished_runs(outputs).runs if run.place == str(folder))
    (kept,) = keep(folder).runs
    assert isinstance(run, RunFolder)
    ours, theirs = run.read(), kept.read()
    assert theirs.summary == ours.summary
    assert theirs.logged == ours.logged
    assert set(theirs.scores) == set(ours.scores)
    for phase, scores in ours.scores.items():
        assert theirs.scores[phase].prompt_ids == scores.prompt_ids
        assert set(theirs.scores[phase].values) == set(scores.values)
        for name, values in scores.values.items():
            assert theirs.scores[phase].values[name].tobytes() == values.tobytes()
    assert np.isnan(theirs.scores["after"].values["bm25/ndcg@10_sampled"][0])


def test_rendering_leaves_the_records_as_they_are(outputs, keep, filled):
    kept = keep(*(folder_of(outputs, seed) for seed in range(8)))
    before = contents(kept.folder)
    write_table(filled(), table_folder(outputs, "table_x", "smoke"))
    assert contents(kept.folder) == before


def test_of_several_records_of_other_numerics_the_latest_is_shown(table, plan, outputs, make_run):
    def identity(numerics):
        return {"policy": {"class": "Tiny", "numerics": numerics}, "seed": 0}

    for numerics, level in ((2, 0.1), (3, 0.7)):
        known = identity(numerics)
        folder = outputs / f"numerics{numerics}"
        make_run(folder, digest=digest(known), level=level, identity=known)
    now = identity(4)
    jobs = [
        dataclasses.replace(
            job, digest=digest(now), kin=digest(without_numerics(now)), numerics={"policy": 4}
        )
        if job.folder == folder_of(outputs, 0)
        else job
        for job in plan
    ]
    grid = fill("table_x", table, "smoke", jobs, finished_runs(outputs))
    assert grid.cells["esci", "ospo", "ndcg"].per_seed[0] == pytest.approx(0.7, abs=0.05)
    assert grid.changed("esci", "ospo") == ["policy (3 then, 4 now)"]
