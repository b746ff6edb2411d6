"""Event files: as TensorBoard reads them, and resumed without a step twice."""

import threading

import pytest

pytest.importorskip("tensorboard", reason="pip install .[tensorboard]")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlcredit.tracking import TensorBoard
from rlcredit.tracking.base import CreditedText, RunInfo, RunTracker, Tracker
from rlcredit.tracking.mirror import Mirror
from tests.full_disk import full_disk


def run_in(folder) -> RunInfo:
    config = {"seed": 3, "estimator": {"name": "ospo"}}
    tags = ("data: generated",)
    return RunInfo(
        folder=folder, run_id="abc", group="sweep", name="esci/ospo", config=config, tags=tags
    )


def start(folder, last_step=None):
    return TensorBoard().start(run_in(folder), last_step=last_step, say=print)


def shown(folder):
    """What TensorBoard shows of a run."""
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return events


def scalars(folder, name):
    return [(event.step, event.value) for event in shown(folder).Scalars(name)]


def text(folder, name):
    """The newest text of a name."""
    return shown(folder).Tensors(f"{name}/text_summary")[-1].tensor_proto.string_val[0].decode()


def test_the_class_and_its_run_keep_the_protocols(tmp_path):
    assert isinstance(TensorBoard(), Tracker)
    assert isinstance(start(tmp_path), RunTracker)


def test_metrics_config_and_final_measures_are_in_the_run_s_folder(tmp_path, capsys):
    run = start(tmp_path)
    run.log({"train/loss": 0.25, "reward/mean": 0.5}, step=1)
    run.log({"train/loss": 0.125}, step=2)
    run.finish({"eval/test/bm25/ndcg@10_sampled": 0.75}, failed=False)
    assert scalars(tmp_path, "train/loss") == [(1, 0.25), (2, 0.125)]
    assert scalars(tmp_path, "reward/mean") == [(1, 0.5)]
    assert scalars(tmp_path, "eval/test/bm25/ndcg@10_sampled") == [(2, 0.75)]
    assert '"name": "ospo"' in text(tmp_path, "config")
    assert text(tmp_path, "run") == "esci/ospo, sweep, data&#58; generated"
    assert f"tensorboard --logdir {tmp_path / 'tensorboard'}" in capsys.readouterr().out


def test_a_resumed_run_goes_on_in_the_folder_and_shows_no_step_twice(tmp_path):
    whole = start(tmp_path)
    for step in range(6):
        whole.log({"a": float(step)}, step=step)
    whole.sync()  # and the process is killed
    resumed = start(tmp_path, last_step=3)
    for step in (4, 5, 6):
        resumed.log({"a": 10.0 + step}, step=step)
    resumed.finish({}, failed=False)
    expected = [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (4, 14.0), (5, 15.0), (6, 16.0)]
    assert scalars(tmp_path, "a") == expected


def test_final_measures_of_a_sitting_without_a_step_stand_at_the_last_one(tmp_path):
    run = start(tmp_path)
    run.log({"a": 1.0}, step=6)
    run.sync()
    start(tmp_path, last_step=6).finish({"eval/test/x": 0.5}, failed=False)
    assert scalars(tmp_path, "a") == [(6, 1.0)]
    assert scalars(tmp_path, "eval/test/x") == [(6, 0.5)]


def test_a_run_that_starts_anew_hides_what_an_earlier_one_left(tmp_path):
    start(tmp_path).log({"a": 1.0}, step=0)
    run = start(tmp_path)
    run.log({"a": 2.0}, step=0)
    run.finish({}, failed=True)
    assert scalars(tmp_path, "a") == [(0, 2.0)]


def test_a_checkpoint_s_steps_are_on_disk_before_the_run_ends(tmp_path):
    run = start(tmp_path)
    run.log({"a": 1.0}, step=1)
    run.sync()
    assert scalars(tmp_path, "a") == [(1, 1.0)]


def test_a_table_shows_texts_with_their_credit_and_reads_no_markup_in_them(tmp_path):
    run = start(tmp_path)
    run.log({"a": 1.0}, step=5)
    credited = CreditedText(pieces=(("a|b\n<script>", 0.5), (", ", None), ("*tent*", -0.25)))
    run.table("responses", ["step", "response"], [[5, credited]])
    run.finish({}, failed=False)
    head, rule, row = text(tmp_path, "responses").splitlines()
    assert (head, rule) == ("| step | response |", "| --- | --- |")
    assert row.count("|") == 3
    assert not set("<>*\n") & set(row)
    assert "&#60;script&#62; (+0.500), &#42;tent&#42; (-0.250)" in row


def mirrored(folder, warnings):
    return Mirror(TensorBoard(), run_in(folder), last_step=None, say=print, warn=warnings.append)


def test_a_folder_that_cannot_be_written_costs_the_mirror_and_a_warning(tmp_path):
    (tmp_path / "tensorboard").write_text("a file")
    warnings = []
    run = mirrored(tmp_path, warnings)
    run.log({"a": 1.0}, step=1)
    run.finish({}, failed=False)
    (warning,) = warnings
    assert "tracker TensorBoard takes no more data: " in warning
    assert str(tmp_path / "tensorboard") in warning
    assert "metrics.jsonl holds everything" in warning


def test_a_full_disk_costs_the_mirror_and_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda args: None)  # of TensorBoard's writer
    warnings = []
    before = set(threading.enumerate())
    run = mirrored(tmp_path, warnings)
    with full_disk(2000):
        for step in range(200):
            run.log({f"metric/{number}": 1.0 for number in range(9)}, step=step)
            run.sync()
        run.finish({}, failed=False)
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
    (warning,) = warnings
    assert "tracker TensorBoard takes no more data: " in warning
    assert "File too large" in warning
