"""Countdown and GSM8K as tasks: what they load, and every way in which a file can be wrong."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlcredit.rewards.verifier import Verifier
from rlcredit.tasks.base import data_identity
from rlcredit.tasks.countdown import Countdown
from rlcredit.tasks.esci import ESCI
from rlcredit.tasks.gsm8k import GSM8K
from rlcredit.tasks.settings import SPLITS, Source
from rlcredit.types import Randomness

SHARED = Path(__file__).parents[3] / "shared" / "data" / "gsm8k"
FEW = {"max_train": 40, "max_validation": 10, "max_test": 20}


def jsonl(folder, split, rows):
    lines = [json.dumps({"question": q, "answer": a}) for q, a in rows]
    (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    jsonl(
        tmp_path, "train", [(f"What is {i} + 1?", f"It is {i}+1.\n#### {i + 1}") for i in range(80)]
    )
    jsonl(tmp_path, "test", [(f"What is {i} - 1?", f"#### {i - 1:,}") for i in range(1000, 1020)])
    return tmp_path


def published(folder, **settings):
    return GSM8K(source=Source.path, path=str(folder), **settings)


def test_countdown_prompts_are_problems_that_their_teacher_knows_on_the_train_side():
    task = Countdown(**FEW).load()
    assert [len(getattr(task, split)) for split in SPLITS] == [40, 10, 20]
    shown = task.train[0].problem
    assert task.train[0].text == f"Make {shown.target} from {' '.join(map(str, shown.numbers))}"
    generator = Randomness(seed=0, step=0).generator("x")
    assert task.train[0].problem.judge(task.teacher(task.train[0], generator)).well_formed
    with pytest.raises(ValueError, match="is not a training prompt"):
        task.teacher(task.test[0], generator)
    assert list(task.vocabulary()) == []


def test_countdown_splits_are_disjoint_as_numbers_and_target():
    task = Countdown(max_train=120, max_validation=40, max_test=40).load()
    keys = {
        split: {(*sorted(p.problem.numbers), p.problem.target) for p in getattr(task, split)}
        for split in SPLITS
    }
    assert len(keys["train"] | keys["validation"] | keys["test"]) == 120 + 40 + 40


def test_countdown_digests_follow_the_settings():
    one, other = Countdown(**FEW), replace(Countdown(**FEW), solved=0.1)
    assert one.load().digest == Countdown(**FEW).load().digest
    assert one.load().digest != other.load().digest
    assert data_identity(one) != data_identity(other)
    assert data_identity(one) != data_identity(replace(one, seed=1))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sizes": []}, "2 to 6 numbers"),
        ({"sizes": [1, 3]}, "2 to 6 numbers"),
        ({"sizes": [7]}, "2 to 6 numbers"),
        ({"largest_number": 0}, r"largest_number=0 is below 1"),
        ({"max_test": 0}, r"max_test=0 is below 1"),
        ({"solved": 1.5}, r"solved=1.5 is not in"),
    ],
)
def test_countdown_settings_out_of_range_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Countdown(**settings)


def test_gsm8k_keeps_the_published_split_and_takes_validation_from_train(folder):
    task = published(folder, validation_share=0.25).load()
    assert len(task.train) + len(task.validation) == 80
    assert 8 < len(task.validation) < 32
    assert len(task.test) == 20
    asked = {p.prompt_id: p for p in (*task.train, *task.validation, *task.test)}
    assert asked["train-7"].text.startswith("What is 7 + 1?\n")
    assert asked["test-0"].problem.answer == "999"
    assert task.source == "path"


def test_published_solutions_are_correct_and_teach_train_only(folder):
    task = published(folder).load()
    generator = Randomness(seed=0, step=0).generator("x")
    written = [task.teacher(prompt, generator) for prompt in task.train]
    spoken = [task.rules.search_text(task.rules.scored_span(t).of(t), query="") for t in written]
    assert Verifier()(task.train, spoken).tolist() == [1.0] * len(task.train)
    with pytest.raises(ValueError, match="is not a training prompt"):
        task.teacher(task.test[0], generator)


def test_lines_matter_behind_the_mark(folder):
    rules = published(folder).load().rules
    text = "#### 7\n\nNext question: 3 pots"
    assert rules.search_text(text, query="") == text


def test_rows_without_a_number_and_shared_questions_are_dropped_and_counted(folder):
    jsonl(folder, "test", [("What is  7 + 1?", "#### 8"), ("Who?", "#### nobody"), ("?", "#### 3")])
    task = published(folder).load()
    assert dict(task.counts) == {
        "read": 83,
        "without a numeric answer": 1,
        "in train and in test": 1,
    }
    assert not any("What is 7 + 1?" in p.text for p in (*task.train, *task.validation))


def test_limits_nest(folder):
    few, many = (
        {p.prompt_id for p in published(folder, max_train=limit).load().train} for limit in (5, 30)
    )
    assert len(few) == 5
    assert few < many


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{not json", r"line 1 of .*train.jsonl is no JSON"),
        ('{"question": "x"}', r"line 1 of .*is no record"),
        ("[1, 2]", r"line 1 of .*is no JSON object"),
        ('{"question": "x", "answer": 3}', "must be texts"),
    ],
)
def test_damaged_lines_are_named(folder, line, said):
    (folder / "train.jsonl").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        published(folder).load()


def test_damaged_and_missing_files_are_named(folder):
    (folder / "train.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is no UTF-8 text"):
        published(folder).load()
    (folder / "train.jsonl").write_text("")
    with pytest.raises(ValueError, match="no train prompts are left of gsm8k"):
        published(folder).load()
    (folder / "test.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.jsonl"):
        published(folder).load()
    with pytest.raises(FileNotFoundError, match=r"train\.jsonl and no .*test\.jsonl"):
        published(folder / "nowhere").load()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"source": Source.path}, "needs dataset.path"),
        ({"source": Source.generated}, "use path or hub"),
        ({"validation_share": 0.0}, "validation_share"),
        ({"max_test": 0}, "max_test=0 is below 1"),
    ],
)
def test_gsm8k_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        GSM8K(**settings)


def test_the_hub_s_layout_gives_the_same_prompts(folder, tmp_path):
    main = tmp_path / "hub" / "main"
    main.mkdir(parents=True)
    for split in ("train", "test"):
        lines = (folder / f"{split}.jsonl").read_text().splitlines()
        pq.write_table(
            pa.Table.from_pylist([json.loads(line) for line in lines]),
            main / f"{split}-00000-of-00001.parquet",
        )
    hub = GSM8K(source=Source.hub, hub_name=str(tmp_path / "hub")).load()
    assert hub.digest == published(folder).load().digest
    assert hub.source == "hub"


def test_the_identity_follows_the_files(folder):
    before = data_identity(published(folder))
    jsonl(folder, "test", [("?", "#### 3")])
    assert data_identity(published(folder)) != before


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no GSM8K files in {SHARED}")
def test_the_published_files_load_whole_and_their_solutions_are_correct():
    task = published(SHARED, max_validation=None, max_test=None).load()
    assert task.counts["read"] == 7473 + 1319
    assert task.counts["without a numeric answer"] == 0
    assert len(task.test) == 1319
    generator = Randomness(seed=0, step=0).generator("x")
    some = task.train[:300]
    rewards = Verifier()(some, [task.teacher(prompt, generator) for prompt in some])
    assert rewards.tolist() == [1.0] * len(some)


def test_a_task_without_documents_cannot_be_searched():
    task = Countdown(**FEW).load()
    with pytest.raises(ValueError, match="dataset=countdown has no documents"):
        task.searched()
    found = ESCI(max_train=4, max_validation=2, max_test=2).load()
    assert found.searched() is found
