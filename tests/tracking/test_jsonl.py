"""The record: exact, whole lines, cut back to the checkpoint on resume."""

import json
import math
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcredit.errors import raised_here
from rlcredit.tracking import JSONL
from rlcredit.tracking.base import CreditedText, RunInfo, RunTracker, Tracker
from rlcredit.tracking.lines import dump, read_lines
from tests.full_disk import full_disk


def run_in(folder: Path) -> RunInfo:
    return RunInfo(folder=folder, run_id="r1", group="g", name="n", config={"seed": 0})


def start(folder: Path, last_step: int | None = None):
    return JSONL().start(run_in(folder), last_step=last_step, say=print)


def test_the_class_and_its_run_keep_the_protocols(tmp_path):
    assert isinstance(JSONL(), Tracker)
    assert isinstance(start(tmp_path), RunTracker)


@given(st.floats(allow_nan=False, allow_infinity=False), st.text())
def test_floats_and_names_read_back_bit_for_bit(value, name):
    line = dump({"step": 3, f"x/{name}": value})
    assert "\n" not in line
    back = json.loads(line)[f"x/{name}"]
    assert struct.pack("d", back) == struct.pack("d", value)


def test_lines_are_whole_json_objects_with_sorted_keys(tmp_path):
    run = start(tmp_path)
    run.log({"train/loss": 0.1, "reward/mean": 1e-300}, step=1)
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text == '{"step": 1, "reward/mean": 1e-300, "train/loss": 0.1}\n'


def test_a_line_is_on_disk_before_the_next_is_logged_and_before_the_run_ends(tmp_path):
    run = start(tmp_path)
    for step in range(3):
        run.log({"a": float(step)}, step=step)
        assert len(read_lines(tmp_path / "metrics.jsonl")) == step + 1


def test_a_resumed_run_forgets_what_lies_beyond_its_checkpoint_and_a_half_line(tmp_path):
    whole = start(tmp_path)
    for step in range(1, 8):
        whole.log({"a": step / 3}, step=step)
    path = tmp_path / "metrics.jsonl"
    uninterrupted = path.read_bytes()
    path.write_bytes(uninterrupted + b'{"step": 8, "a": 2.')
    resumed = start(tmp_path, last_step=4)
    assert [line["step"] for line in read_lines(path)] == [1, 2, 3, 4]
    for step in range(5, 8):
        resumed.log({"a": step / 3}, step=step)
    resumed.finish({}, failed=False)
    assert path.read_bytes() == uninterrupted


def test_a_half_written_character_at_the_end_is_forgotten_too(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes('{"step": 1, "a": 1.0}\n{"step": 2, "é'.encode()[:-1])
    start(tmp_path, last_step=1)
    assert path.read_text() == '{"step": 1, "a": 1.0}\n'


def test_a_new_run_starts_an_empty_record(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 9, "a": 1.0}\n')
    start(tmp_path).log({"a": 2.0}, step=0)
    assert read_lines(tmp_path / "metrics.jsonl") == [{"step": 0, "a": 2.0}]


def test_a_record_that_ends_before_the_checkpoint_is_refused(tmp_path):
    start(tmp_path).log({"a": 2.0}, step=1)
    with pytest.raises(ValueError, match=r"ends at step 1.*checkpoint is of step 5.*resume=never"):
        start(tmp_path, last_step=5)
    assert read_lines(tmp_path / "metrics.jsonl") == [{"step": 1, "a": 2.0}]


def test_a_damaged_line_before_the_last_is_refused_with_its_number(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, \n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"line 2: every line must be one JSON object"):
        start(tmp_path, last_step=3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_by_name_and_leaves_no_line(tmp_path, value):
    run = start(tmp_path)
    with pytest.raises(ValueError, match=r"train/loss=.* at step 2"):
        run.log({"a": 1.0, "train/loss": value}, step=2)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_steps_must_come_in_order_also_across_a_resume(tmp_path):
    start(tmp_path).log({"a": 1.0}, step=3)
    resumed = start(tmp_path, last_step=3)
    with pytest.raises(ValueError, match="step 3 is logged after step 3"):
        resumed.log({"a": 1.0}, step=3)


def test_a_metric_may_not_take_the_name_of_the_line_key(tmp_path):
    with pytest.raises(ValueError, match="named 'step'"):
        start(tmp_path).log({"step": 1.0}, step=3)


def test_a_table_is_written_by_rows_and_replaces_its_predecessor(tmp_path):
    run = start(tmp_path)
    run.table("responses", ["prompt"], [["old"], ["older"]])
    credited = CreditedText(pieces=(("red", 0.25), (", ", None), ("<b>", -1.0)))
    run.table("responses", ["prompt", "step", "response"], [["a", 3, credited]])
    assert read_lines(tmp_path / "responses.jsonl") == [
        {"prompt": "a", "step": 3, "response": [["red", 0.25], [", ", None], ["<b>", -1.0]]}
    ]
    assert credited.text == "red, <b>"


def test_a_disk_that_is_full_ends_the_record_with_a_sentence(tmp_path):
    run = start(tmp_path)
    run.log({"a": 1.0}, step=1)
    sentence = r"metrics\.jsonl cannot be written \(File too large\)\. Make room.*same command"
    with full_disk(24), pytest.raises(OSError, match=sentence) as error:
        run.log({"a": 2.0}, step=2)
    assert raised_here(error.value)
    with full_disk(4), pytest.raises(OSError, match=r"metrics\.jsonl cannot be written"):
        start(tmp_path, last_step=1)
    with full_disk(4), pytest.raises(OSError, match=r"responses\.jsonl cannot be written"):
        run.table("responses", ["a"], [[1]])
