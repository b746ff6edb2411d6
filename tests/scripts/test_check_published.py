"""A published table, checked from stored runs: made-up files in the authors' format."""

import json
import math
import sys

import pytest

from scripts.check_published import by_length, differences, main, read, sheet


def entry(number, retrieved, relevant, **stated):
    return {"id": number, "retrieved": str(retrieved), "target": str(relevant), **stated}


@pytest.fixture
def files(tmp_path):
    """A raw query and a model, two queries each; the first query's relevant ids repeat."""

    def write(name, entries):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(entries), encoding="utf-8")
        return path

    half = 1 / math.log2(3) / (1 + 1 / math.log2(3))
    raw = {
        "0_tent": entry(0, ["x", "a"], ["a", "a"], **{"ndcg@10": half}),
        "1_red_shoes size 9": entry(1, ["y"], ["b"], **{"ndcg@10": 0.0}),
    }
    model = {
        '0_title:tent +"two person"': entry("0", ["a"], ["a", "a"], **{"ndcg@100": 0.7}),
        "1_red shoes": entry("1", ["b"], ["b"], **{"ndcg@100": 1.0}),
    }
    return write("raw", raw), write("model", model)


def cells(page, row):
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {row} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_stated_numbers_are_scored_again_and_with_each_document_once(files):
    page = sheet([read(path) for path in files])
    found = cells(page, "raw")
    half = 1 / math.log2(3) / (1 + 1 / math.log2(3)) / 2
    assert found[:4] == ["2", f"{half:.3f}", f"{half:.3f}", f"{1 / math.log2(3) / 2:.3f}"]
    assert found[4] == "—"  # it states no nDCG@100
    assert found[7:] == ["0", "1", "1", "2.0", "0% of words"]


def test_a_stated_number_that_does_not_come_out_again_is_counted(files):
    found = cells(sheet([read(files[1])]), "model")
    ideal = 1 + 1 / math.log2(3)
    assert found[4:7] == ["0.850", f"{(1 / ideal + 1) / 2:.3f}", "1.000"]
    assert found[7] == "1"
    assert found[-1] == "60% of words"  # title:tent, +"two and person"


def test_differences_are_paired_by_the_id_whatever_its_type(files):
    page = differences([read(path) for path in files])
    assert f"+{1 - 1 / math.log2(3) / 2:.3f}" in page
    assert "(2 queries)" in page


def test_scores_are_shown_by_thirds_of_length(files):
    page = by_length(read(files[0]))
    assert "| 1 to 1 | 1 | 0.631 |" in page
    assert "| 3 to 3 | 1 | 0.000 |" in page


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[]", "Expected `object`"),
        ("{}", "holds no query"),
        ('{"7_tent": {"id": 8, "retrieved": "[]", "target": "[]"}}', "does not begin with its id"),
        ('{"8_tent": {"id": 8, "retrieved": "ids()", "target": "[]"}}', "malformed"),
        ('{"8_tent": {"id": 8, "retrieved": "(1, 2)", "target": "[]"}}', "no list of ids"),
        ('{"8_tent": {"id": 8, "retrieved": "[", "target": "[]"}}', "never closed"),
    ],
)
def test_a_file_of_another_shape_is_refused_and_nothing_in_it_is_executed(content, why, tmp_path):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=why):
        read(path)


def test_the_command_prints_one_page(files, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["check_published", *map(str, files)])
    main()
    page = capsys.readouterr().out
    assert page.count("| run |") == 1
    assert "model minus raw" in page
    assert page.count(": words") == 2
