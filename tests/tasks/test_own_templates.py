"""Prompts that a template makes of a row's columns, and rows of a data set of the hub's kind."""

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlcredit.tasks import HubRows, JSONLines
from rlcredit.tasks.hub_rows import SplitNames
from rlcredit.tasks.published.own_columns import Columns

ROWS = [
    {"question": f"Which is {n}?", "choices": [str(n), str(n + 1)], "answer": str(n)}
    for n in range(40)
]
TEMPLATE = '{{ question }} {{ choices | join(" or ") }}?'


def lines(path: Path, rows=ROWS) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_template_reads_the_columns_of_a_row(tmp_path):
    task = JSONLines(path=lines(tmp_path / "a.jsonl"), template=TEMPLATE).load()
    told = {prompt.text for prompt in (*task.train, *task.validation, *task.test)}
    assert "Which is 3? 3 or 4?" in told
    assert task.train[0].row.keys() == {"question", "choices", "answer"}


def test_a_template_is_another_data_set(tmp_path):
    path = lines(tmp_path / "a.jsonl")
    one, other = (JSONLines(path=path, template=t).load() for t in (TEMPLATE, "{{ question }}"))
    assert one.digest != other.digest


def test_what_a_row_says_is_text_and_no_template(tmp_path):
    rows = [row | {"question": "{{ answer }} <b>"} for row in ROWS]
    task = JSONLines(path=lines(tmp_path / "a.jsonl", rows), template=TEMPLATE).load()
    assert task.train[0].text.startswith("{{ answer }} <b> ")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ question", "is no Jinja template"),
        ("{{ qestion }}", r"line 1 of .*raised UndefinedError: 'qestion' is undefined.*question"),
        ("{{ choices[9].x }}", r"raised UndefinedError"),
        ("{{ 1 // 0 }}", r"raised ZeroDivisionError"),
        ("{{ ''.__class__.__mro__ }}", r"raised SecurityError"),
        ("{{ choices.append(1) }}", r"raised SecurityError"),
        ("{% for n in range(10**9) %}x{% endfor %}", r"raised OverflowError"),
        ("  ", "makes an empty prompt"),
    ],
)
def test_a_template_that_cannot_be_read_is_named(template, said, tmp_path):
    path = lines(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match=said):
        JSONLines(path=path, template=template).load()


def test_turns_and_a_template_do_not_go_together(tmp_path):
    rows = [{"prompt": [{"role": "user", "content": "Hi"}]}]
    with pytest.raises(ValueError, match=r"line 1 .* a list of turns"):
        JSONLines(path=lines(tmp_path / "a.jsonl", rows), template="{{ 1 }}").load()


@pytest.fixture
def on_hub(tmp_path, monkeypatch):
    """A folder as ``datasets`` reads it, one parquet file a split."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()

    def write(**splits):
        for name, rows in splits.items():
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
        return str(folder)

    return write


COLUMNS = Columns(prompt="question")


def test_rows_of_the_hub_are_those_of_a_file(on_hub, tmp_path):
    folder = on_hub(train=ROWS[:30], test=ROWS[30:])
    task = HubRows(hub_name=folder, columns=COLUMNS).load()
    assert task.source == "hub"
    assert {p.text for p in task.test} == {row["question"] for row in ROWS[30:]}
    (tmp_path / "lines").mkdir()
    for name, rows in (("train", ROWS[:30]), ("test", ROWS[30:])):
        lines(tmp_path / "lines" / f"{name}.jsonl", rows)
    same = JSONLines(path=str(tmp_path / "lines"), columns=COLUMNS).load()
    assert task.digest == same.digest
    assert task.train == same.train


def test_splits_are_found_by_their_names(on_hub):
    folder = on_hub(train=ROWS[:20], validation=ROWS[20:30], test=ROWS[30:])
    named = HubRows(
        hub_name=folder, columns=COLUMNS, splits=SplitNames(test="validation", validation="test")
    )
    assert {p.text for p in named.load().test} == {row["question"] for row in ROWS[20:30]}
    with pytest.raises(ValueError, match=r"no split 'dev'; it has .*dataset\.splits\.test"):
        HubRows(hub_name=folder, columns=COLUMNS, splits=SplitNames(test="dev")).load()


def test_columns_that_are_no_text_are_left_out_and_named(on_hub, caplog):
    rows = [row | {"sound": b"\x00", "note": None if n else "x"} for n, row in enumerate(ROWS)]
    task = HubRows(hub_name=on_hub(train=rows), columns=COLUMNS).load()
    assert "sound" in caplog.text
    assert "sound" not in task.train[0].row
    assert any("note" not in prompt.row for prompt in task.train)


def test_a_set_that_is_not_there_is_named(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises((ConnectionError, ValueError), match="empty can"):
        HubRows(hub_name=str(tmp_path / "empty")).load()
