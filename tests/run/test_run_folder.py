"""The summary reads back; touches are counted; provenance is true."""

import json
import subprocess
from dataclasses import replace

import pytest
import torch

from rlcredit.distributed.machine import machine_type
from rlcredit.evaluation.figures import compare
from rlcredit.evaluation.stats import Interval
from rlcredit.run.folder import (
    Change,
    RunSummary,
    Status,
    code_revision,
    computed_with,
    count_touches,
    touch_test_split,
)
from rlcredit.run.sweep_table import print_sweep, read_job, save_failure
from tests.unsealed import unsealed


def summary_of(make_evaluation, **changes) -> RunSummary:
    rows = compare(make_evaluation("before"), make_evaluation("after"))
    fields = {
        "name": "esci/ospo/seed0",
        "status": Status.finished,
        "digest": "ab" * 16,
        "data": "generated",
        "data_digest": "cd" * 16,
        "steps": 100,
        "wall_time_s": 62.5,
        "headline": "bm25/ndcg@10_sampled",
        "measures": {row.cell.name: Change.of(row) for row in rows},
        "credit": {"before": Interval(mean=0.2, low=0.1, high=0.3)},
        "test_touches": 2,
        "code_revision": None,
        "versions": computed_with(),
    }
    return RunSummary(**(fields | changes))


def test_a_summary_reads_back_equal_and_is_json(make_evaluation, tmp_path):
    summary = summary_of(make_evaluation)
    path = summary.write(tmp_path / "run")
    assert RunSummary.read(tmp_path / "run") == summary
    record = unsealed(path)
    assert record["status"] == "finished"
    assert record["measures"]["bm25/ndcg@10_sampled"]["difference"]["mean"] == pytest.approx(0.125)
    assert not list((tmp_path / "run").glob(".*"))


def test_no_summary_is_none_and_a_damaged_one_is_named(tmp_path):
    assert RunSummary.read(tmp_path) is None
    (tmp_path / "summary.json").write_text('{"name": "x"}')
    with pytest.raises(ValueError, match=r"summary.json is no summary.*resume=never"):
        RunSummary.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": "red"}, r"unknown field `\$\.colour`"),
        ({"steps": "100"}, r"Expected `int`, got `str` - at `\$\.steps`"),
        ({"steps": None}, r"Expected `int`, got `null` - at `\$\.steps`"),
        ({"status": "begun"}, r"Invalid enum value 'begun' - at `\$\.status`"),
        ({"versions": {"torch": 2}}, r"Expected `str`, got `int` - at `\$\.versions\[...\]`"),
        (
            {"credit": {"after": {"mean": 0.1, "low": None, "high": None, "n": 3}}},
            r"unknown field `\$\.credit\.after\.n`",
        ),
        ({"credit": {"after": {"mean": 0.1}}}, r"missing required field `low`"),
    ],
)
def test_a_key_that_is_no_summary_s_is_named(change, said, make_evaluation, tmp_path):
    path = summary_of(make_evaluation).write(tmp_path)
    path.write_text(json.dumps(unsealed(path) | change))
    with pytest.raises(ValueError, match=rf"summary.json is no summary.*{said}.*resume=never"):
        RunSummary.read(tmp_path)


def test_a_summary_from_before_its_youngest_fields_is_read(make_evaluation, tmp_path):
    summary = summary_of(make_evaluation, credit={})
    path = summary.write(tmp_path)
    record = unsealed(path)
    for name in ("figures", "identity"):
        del record[name]
    path.write_text(json.dumps(record | {"wall_time_s": 62}))
    assert RunSummary.read(tmp_path) == replace(summary, wall_time_s=62.0)


def test_every_look_at_the_test_split_is_counted_across_processes(tmp_path):
    assert count_touches(tmp_path) == 0
    assert touch_test_split(tmp_path, phase="before") == 1
    assert touch_test_split(tmp_path, phase="after") == 2
    assert count_touches(tmp_path) == 2


def test_the_code_revision_is_the_commit_and_says_when_files_differ(tmp_path):
    assert code_revision(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    clean = code_revision(tmp_path)
    assert clean is not None
    assert len(clean) == 40
    package = tmp_path / "package"
    for folder in (package, tmp_path / "outputs" / "reference"):
        folder.mkdir(parents=True)
    (tmp_path / "outputs" / "reference" / "record.json").write_text("{}")
    assert code_revision(package) == clean, "what runs write is not code"
    (tmp_path / "new").write_text("x")
    assert code_revision(package) == f"{clean}+changes"


def test_a_summary_names_the_versions_and_the_type_of_machine_that_ran():
    assert computed_with()["torch"] == torch.__version__
    assert computed_with()["machine"] == machine_type()
    assert computed_with()["threads"] == str(torch.get_num_threads())


def test_a_sweep_counts_what_is_not_finished_and_says_why(make_evaluation, tmp_path, capsys):
    done, failed, broken = (tmp_path / name for name in ("done", "failed", "broken"))
    summary_of(make_evaluation).write(done)
    save_failure(failed, "Traceback ...\nValueError: no [red]space[/red]\n")
    broken.mkdir()
    assert print_sweep([read_job(folder) for folder in (done, failed, broken)]) == 2
    out = capsys.readouterr().out
    assert "ValueError: no [red]space[/red]" in out
    assert "no summary was written" in out
    assert "1 min 02 s" in out
    assert "generated" in out
    assert "+.125 [+.125 +.125]" in out


def test_a_later_success_removes_the_note_of_a_failure_and_a_later_failure_wins(
    make_evaluation, tmp_path
):
    save_failure(tmp_path, "disk full")
    assert read_job(tmp_path).status is Status.failed
    summary_of(make_evaluation).write(tmp_path)
    assert read_job(tmp_path).status is Status.finished
    save_failure(tmp_path, "evaluation failed")
    assert (read_job(tmp_path).status, read_job(tmp_path).failure) == (
        Status.failed,
        "evaluation failed",
    )


def test_an_interrupted_run_is_not_counted_as_finished(make_evaluation, tmp_path, capsys):
    summary_of(make_evaluation, status=Status.interrupted, measures={}).write(tmp_path)
    assert print_sweep([read_job(tmp_path)]) == 1
    assert "interrupted" in capsys.readouterr().out


def test_a_changed_digit_of_a_summary_is_seen(make_evaluation, tmp_path):
    path = summary_of(make_evaluation).write(tmp_path)
    assert RunSummary.read(tmp_path) is not None
    path.write_text(path.read_text().replace('"wall_time_s": 6', '"wall_time_s": 7'))
    with pytest.raises(ValueError, match=r"summary\.json .*changed after it was written"):
        RunSummary.read(tmp_path)
