"""Evaluations read back as they were written."""

import json

import pytest

from rlcredit.evaluation.on_disk import evaluation_path, load_evaluation, save_evaluation


def test_an_evaluation_reads_back_equal_bit_for_bit(make_evaluation, tmp_path):
    evaluation = make_evaluation("before")
    path = save_evaluation(tmp_path, evaluation, digest="d1")
    assert path == tmp_path / "evaluations" / "test-before.json"
    assert load_evaluation(tmp_path, "test", "before", digest="d1") == evaluation


def test_an_evaluation_without_credit_reads_back_too(make_evaluation, tmp_path):
    from dataclasses import replace

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
