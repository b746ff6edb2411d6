"""Prompts of one's own: files, columns, turns, answers, candidates, and all that can be wrong."""

import json
from pathlib import Path

import pytest
import torch

from rlcredit.estimators import Max
from rlcredit.retrieval import BM25
from rlcredit.rewards import NDCG, Ranking, Verifier
from rlcredit.tasks import JSONLines
from rlcredit.tasks.own_rows import Answers
from rlcredit.tasks.published.own_columns import Columns
from rlcredit.types import Turn

LINES = [
    {
        "prompt": f"What is {n} + {n}?",
        "answer": str(2 * n),
        "level": n % 3,
        "demonstration": f"#### {2 * n}",
    }
    for n in range(60)
]


def written(path: Path, lines) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_one_file_is_dealt_out_by_a_hash_and_other_columns_reach_the_reward(tmp_path: Path):
    file = written(tmp_path / "sums.jsonl", LINES)
    task = JSONLines(path=str(file), test_share=0.2, validation_share=0.2).load()
    sides = (task.train, task.validation, task.test)
    assert all(sides)
    assert sum(map(len, sides)) == 60
    first = task.train[0]
    assert set(first.row) == {"answer", "level"}
    assert first.query == first.text
    assert Verifier()([first, first], [first.row and LINES_BY[first.text], "7!"]).tolist() == [
        1.0,
        pytest.approx(0.1),
    ]
    assert task.teacher(first, torch.Generator()).startswith("####")
    written(file, reversed(LINES))
    again = JSONLines(path=str(file), test_share=0.2, validation_share=0.2).load()
    assert {p.text for p in again.test} == {p.text for p in task.test}


LINES_BY = {line["prompt"]: line["answer"] for line in LINES}


def test_files_of_splits_are_kept_and_a_leak_stays_on_the_held_out_side(tmp_path: Path):
    written(tmp_path / "train.jsonl", LINES[:30])
    written(tmp_path / "validation.jsonl", LINES[30:40])
    written(tmp_path / "test.jsonl", [*LINES[40:], {"prompt": "what is  3 + 3?", "answer": "6"}])
    task = JSONLines(path=str(tmp_path)).load()
    assert [len(task.train), len(task.validation), len(task.test)] == [29, 10, 21]
    assert task.counts["prompts that repeat another's text (dropped)"] == 1
    assert "What is 3 + 3?" not in {p.text for p in task.train}


def test_columns_are_mapped_and_a_conversation_is_a_prompt(tmp_path: Path):
    chat = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]
    lines = [
        {"q": [*chat, {"role": "user", "content": f"Say {n}"}], "gold": str(n), "key": f"k{n}"}
        for n in range(40)
    ]
    columns = Columns(prompt="q", answer="gold", id="key")
    task = JSONLines(path=str(written(tmp_path / "a.jsonl", lines)), columns=columns).load()
    prompt = next(p for p in task.train if p.prompt_id == task.train[0].prompt_id)
    assert prompt.instruction == "Be short."
    assert prompt.turns == (
        Turn(role="user", content="Hi"),
        Turn(role="assistant", content="Hello"),
    )
    assert prompt.text == f"Say {prompt.prompt_id[1:]}"
    assert prompt.row == {"gold": prompt.prompt_id[1:]}


def test_candidates_make_a_search_among_a_prompts_own_texts(tmp_path: Path):
    lines = [
        {
            "prompt": f"query {n}",
            "candidates": [f"red tent {n}", {"id": f"x{n}", "text": f"blue lamp {n}"}],
            "relevance": [True, 0] if n % 2 else {f"x{n}": 3},
        }
        for n in range(40)
    ]
    task = JSONLines(path=str(written(tmp_path / "a.jsonl", lines))).load().searched()
    assert len(task.documents.ids) == 80
    reward = Ranking(measure=NDCG(), utility=Max()).bind(
        BM25().index(task.documents, cache=tmp_path)
    )
    odd = next(p for p in task.train if int(p.text.split()[1]) % 2)
    assert reward([odd, odd], ["tent", "lamp"]).tolist() == [1.0, 0.0]
    assert len(odd.pool) == 2


def test_numbers_are_compared_as_numbers(tmp_path: Path):
    lines = [{"prompt": f"p{n}", "answer": "1,200"} for n in range(40)]
    file = str(written(tmp_path / "a.jsonl", lines))
    task = JSONLines(path=file, answers=Answers.number).load()
    assert Verifier()([task.train[0]], ["so it is #### 1200.0"]).tolist() == [1.0]


def test_what_a_run_depends_on_is_in_its_identity_and_digest(tmp_path: Path):
    file = written(tmp_path / "a.jsonl", LINES)
    before, digest = JSONLines(path=str(file)).content(), JSONLines(path=str(file)).load().digest
    written(file, [{**LINES[0], "level": 9}, *LINES[1:]])
    assert JSONLines(path=str(file)).content() != before
    assert JSONLines(path=str(file)).load().digest != digest


CANDIDATE = {"prompt": "a", "candidates": ["x", "y"]}
BAD = {
    "no prompt": ({"text": "x"}, "line 2 of .* has no column 'prompt'; it has text"),
    "an empty prompt": ({"prompt": " "}, "prompt is empty"),
    "a number": ({"prompt": {"a": 1}}, "prompt must be a text, not"),
    "an id of two words": ({"prompt": "x", "id": "a b"}, "is not one word"),
    "an id twice": ({"prompt": "x", "id": "train-1"}, "id 'train-1' is that of line 1 of"),
    "a turn without a role": ({"prompt": [{"content": "x"}]}, "a turn is role and content"),
    "a strange role": ({"prompt": [{"role": "tool", "content": "x"}]}, "a turn has the role"),
    "no user": ({"prompt": [{"role": "assistant", "content": "x"}]}, "must be the user's"),
    "candidates of numbers": ({"prompt": "x", "candidates": [1]}, "a candidate is a text"),
    "a candidate twice": (
        {"prompt": "x", "candidates": [{"id": "a", "text": "b"}, {"id": "a", "text": "c"}]},
        "stands there twice",
    ),
    "too few grades": ({**CANDIDATE, "relevance": [1]}, "a grade for each of the 2 candidates"),
    "a grade of nothing": ({**CANDIDATE, "relevance": {"z": 1}}, "a grade for each of the 2"),
    "a grade of 7": ({**CANDIDATE, "relevance": [7, 0]}, "a grade is 0 to 3"),
    "a demonstration of numbers": ({"prompt": "x", "demonstration": [3]}, "a demonstration is a"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_named_with_its_line(what: str, tmp_path: Path):
    line, says = BAD[what]
    written(tmp_path / "train.jsonl", [LINES[0], line])
    with pytest.raises(ValueError, match=says):
        JSONLines(path=str(tmp_path)).load()


def test_a_renamed_column_that_no_line_has_is_refused(tmp_path: Path):
    file = written(tmp_path / "a.jsonl", LINES)
    with pytest.raises(ValueError, match=r"columns\.answer=gold, and no line has such"):
        JSONLines(path=str(file), columns=Columns(answer="gold")).load()


def test_an_answer_that_is_no_number_is_refused_where_numbers_are_compared(tmp_path: Path):
    file = written(tmp_path / "a.jsonl", [{"prompt": "x", "answer": "blue"}])
    with pytest.raises(ValueError, match=r"is no number; leave dataset\.answers=text"):
        JSONLines(path=str(file), answers=Answers.number).load()


def test_one_id_is_one_text(tmp_path: Path):
    lines = [
        {"prompt": f"q{n}", "candidates": [{"id": "same", "text": f"t{n}"}], "relevance": [3]}
        for n in range(30)
    ]
    with pytest.raises(ValueError, match=r"candidate 'same' .* has another text"):
        JSONLines(path=str(written(tmp_path / "a.jsonl", lines))).load()


def test_without_demonstrations_a_teacher_says_what_to_do(tmp_path: Path):
    lines = [{"prompt": f"p{n}", "answer": "x"} for n in range(40)]
    task = JSONLines(path=str(written(tmp_path / "a.jsonl", lines))).load()
    with pytest.raises(ValueError, match=r"policy\.warm_start\.steps=0"):
        task.teacher(task.train[0], torch.Generator())
    with pytest.raises(ValueError, match="has no documents"):
        task.searched()


def test_a_missing_path_is_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"a folder with train\.jsonl"):
        JSONLines(path=str(tmp_path)).load()
