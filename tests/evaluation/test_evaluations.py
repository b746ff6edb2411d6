"""Evaluations read back as they were written."""

import json
import math
from dataclasses import replace

import pytest

from rlcredit.evaluation.on_disk import evaluation_path, load_evaluation, save_evaluation
from tests.unsealed import unsealed


def test_an_evaluation_reads_back_equal_bit_for_bit(make_evaluation, tmp_path):
    evaluation = make_evaluation("before")
    path = save_evaluation(tmp_path, evaluation, digest="d1")
    assert path == tmp_path / "evaluations" / "test-before.json"
    assert load_evaluation(tmp_path, "test", "before", digest="d1") == evaluation


def test_an_evaluation_without_credit_reads_back_too(make_evaluation, tmp_path):
    evaluation = replace(make_evaluation("after"), credit=None, examples=())
    save_evaluation(tmp_path, evaluation, digest="d1")
    assert load_evaluation(tmp_path, "test", "after", digest="d1") == evaluation


def test_another_digest_or_no_file_is_no_evaluation(make_evaluation, tmp_path):
    assert load_evaluation(tmp_path, "test", "before", digest="d1") is None
    save_evaluation(tmp_path, make_evaluation("before"), digest="d1")
    assert load_evaluation(tmp_path, "test", "before", digest="d2") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"digest": "d1", "split": "test"})])
def test_a_file_that_is_no_evaluation_is_named(tmp_path, text):
    path = evaluation_path(tmp_path, "test", "before")
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ValueError, match=r"test-before.json is no evaluation.*remove the file"):
        load_evaluation(tmp_path, "test", "before", digest="d1")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": "red"}, r"unknown field `\$\.colour`"),
        ({"prompt_ids": ["q0", 1]}, r"Expected `str`, got `int` - at `\$\.prompt_ids\[1\]`"),
        ({"scores": [{"retriever": "bm25"}]}, r"missing required field `measure`"),
        ({"responses": {"me": []}}, r"Invalid enum value 'me'"),
        ({"credit": {"rho": {"q0": 1}, "counted": 0.5, "skipped": 0}}, r"at `\$\.credit\.counted`"),
        ({"examples": [{"prompt_id": "q0"}]}, r"missing required field `prompt` - at"),
        ({"digest": None}, r"Expected `str`, got `null` - at `\$\.digest`"),
    ],
)
def test_a_key_that_is_no_evaluation_s_is_named(change, said, make_evaluation, tmp_path):
    path = save_evaluation(tmp_path, make_evaluation("before"), digest="d1")
    path.write_text(json.dumps(unsealed(path) | change))
    with pytest.raises(ValueError, match=rf"test-before.json is no evaluation .*{said}"):
        load_evaluation(tmp_path, "test", "before", digest="d1")


def test_a_measure_that_is_undefined_for_a_prompt_is_read_as_nan(make_evaluation, tmp_path):
    path = save_evaluation(tmp_path, make_evaluation("before"), digest="d1")
    record = unsealed(path)
    record["scores"][0]["values"][3] = None
    path.write_text(json.dumps(record))
    (first, *_) = load_evaluation(tmp_path, "test", "before").scores.values()
    assert [i for i, value in enumerate(first) if math.isnan(value)] == [3]


def test_a_changed_digit_of_an_evaluation_is_seen(make_evaluation, tmp_path):
    evaluation = make_evaluation("before")
    path = save_evaluation(tmp_path, evaluation, digest="d")
    text = path.read_text()
    path.write_text(text.replace('"reward": 0.5', '"reward": 0.6'))
    assert path.read_text() != text
    with pytest.raises(ValueError, match=r"test-before\.json .*changed after it was written"):
        load_evaluation(tmp_path, "test", "before")
