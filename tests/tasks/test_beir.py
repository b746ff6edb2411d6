"""Collections of one's own in BEIR's layout, or with TREC's judgements."""

import gzip
import json
from pathlib import Path

import pytest
import torch

from rlcredit.tasks import BEIR

WORDS = ["tent", "lamp", "boot", "kettle", "chair", "rope", "stove", "bag", "map", "axe"]


def write(
    folder: Path, *, splits: tuple[str, ...] = ("train", "dev", "test"), trec: bool = False
) -> Path:
    """Ten things to find, four queries each, split by split."""
    (folder / "qrels").mkdir(parents=True)
    documents = [
        {"_id": f"d{n}", "title": f"{word} {n}", "text": f"A good {word} for camping number {n}"}
        for n, word in enumerate(WORDS)
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(d) + "\n" for d in documents))
    queries, judged = [], {split: [] for split in splits}
    for n, word in enumerate(WORDS):
        for k, what in enumerate(("where to get a", "best", "cheap red", "used")):
            queries.append({"_id": f"q{n}-{k}", "text": f"{what} {word}"})
            judged[splits[min(k, len(splits) - 1)]].append((f"q{n}-{k}", n))
    (folder / "queries.jsonl").write_text("".join(json.dumps(q) + "\n" for q in queries))
    for split, rows in judged.items():
        if trec:
            lines = [f"{q} 0 d{n} 2\n{q} 0 d{(n + 1) % len(WORDS)} 0\n" for q, n in rows]
        else:
            lines = ["query-id\tcorpus-id\tscore\n"]
            lines += [f"{q}\td{n}\t2\n{q}\td{(n + 1) % len(WORDS)}\t1\n" for q, n in rows]
        (folder / "qrels" / f"{split}.tsv").write_text("".join(lines))
    return folder


def test_the_splits_of_the_files_are_kept(tmp_path: Path):
    task = BEIR(path=str(write(tmp_path)), pool_size=6).load()
    assert [len(task.train), len(task.validation), len(task.test)] == [10, 10, 20]
    assert set(task.documents.ids) == {f"d{n}" for n in range(10)}
    assert task.documents.texts[0] == "tent 0 A good tent for camping number 0"
    first = min(task.train, key=lambda p: p.prompt_id)
    assert dict(first.relevance) == {"d0": 3, "d1": 3}
    assert len(first.pool) == 6
    assert task.teacher(first, torch.Generator())


def test_the_lowest_relevant_grade_or_every_grade_is_declared(tmp_path: Path):
    folder = str(write(tmp_path))
    binary = BEIR(path=folder, lowest_relevant=2).load()
    assert {g for p in binary.test for g in p.relevance.values()} <= {0, 3}
    assert all(len(p.relevant) == 1 for p in binary.test)
    graded = BEIR(path=folder, grades={1: 1, 2: 3}).load()
    assert {g for p in graded.test for g in p.relevance.values()} == {1, 3}
    with pytest.raises(ValueError, match=r"have grade 2, and dataset.grades=\{1: 3\} does not say"):
        BEIR(path=folder, grades={1: 3}).load()
    with pytest.raises(ValueError, match=r"a grade becomes 0 \(irrelevant\) to 3"):
        BEIR(path=folder, grades={1: 9})


def test_trec_judgements_and_gzipped_files_are_read_as_well(tmp_path: Path):
    plain = BEIR(path=str(write(tmp_path / "a")), lowest_relevant=2).load()
    folder = write(tmp_path / "b", trec=True)
    for name in ("corpus.jsonl", "queries.jsonl"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    other = BEIR(path=str(folder), lowest_relevant=2).load()
    assert [p.prompt_id for p in other.test] == [p.prompt_id for p in plain.test]
    assert other.documents.texts == plain.documents.texts


def test_without_training_judgements_queries_are_dealt_out_by_their_text(tmp_path: Path):
    folder = str(write(tmp_path, splits=("test",)))
    task = BEIR(path=folder, test_share=0.4, validation_share=0.3).load()
    sides = [{p.text for p in side} for side in (task.train, task.validation, task.test)]
    assert all(sides)
    assert sum(map(len, sides)) == len(set.union(*sides)) == 40
    assert any("dealt out by a hash" in what for what in task.counts)
    again = BEIR(path=folder, test_share=0.4, validation_share=0.3).load()
    assert again.digest == task.digest


def test_the_content_follows_the_files(tmp_path: Path):
    dataset = BEIR(path=str(write(tmp_path)))
    before = dataset.content()
    file = tmp_path / "qrels" / "test.tsv"
    file.write_text(file.read_text().replace("\t2\n", "\t1\n", 1))
    assert len(set(before) ^ set(dataset.content())) == 2


def added(name: str, line: str):
    def change(folder: Path) -> None:
        file = folder / name
        file.write_text(file.read_text() + line + "\n")

    return change


def gone(name: str):
    return lambda folder: (folder / name).unlink()


def emptied(name: str):
    return lambda folder: [file.unlink() for file in (folder / name).iterdir()]


BAD = {
    "an unknown document": (added("qrels/test.tsv", "q1-1\td99\t1"), "judges the document 'd99'"),
    "an unknown query": (added("qrels/test.tsv", "q99\td1\t1"), "judges the query 'q99'"),
    "judged twice": (added("qrels/test.tsv", "q9-3\td9\t1"), "q9-3 and d9 a second time"),
    "no judgement": (added("qrels/test.tsv", "q9-3 d9"), r"line \d+ of .* is no judgement"),
    "a grade of words": (added("qrels/test.tsv", "q9-3\td8\tgood"), "is no judgement"),
    "an id twice": (
        added("corpus.jsonl", '{"_id": "d1", "text": "x"}'),
        "'d1' stands in line 2 too",
    ),
    "an id of two words": (added("corpus.jsonl", '{"_id": "d 1", "text": "x"}'), "is not one word"),
    "no id": (added("corpus.jsonl", '{"text": "x"}'), "has no column '_id'; it has text"),
    "no text": (added("queries.jsonl", '{"_id": "q"}'), "has no column 'text'"),
    "a list": (added("queries.jsonl", '{"_id": "q", "text": ["x"]}'), "text must be a text, not"),
    "no JSON": (added("corpus.jsonl", "{"), r"line 11 of .*corpus.jsonl is no JSON"),
    "no object": (added("corpus.jsonl", "[1]"), "is no JSON object"),
    "half a character": (
        added("corpus.jsonl", r'{"_id": "x", "text": "\ud83d"}'),
        "half a character",
    ),
    "no corpus": (gone("corpus.jsonl"), "has no corpus.jsonl"),
    "no judgements": (emptied("qrels"), "holds no judgements"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_named_with_its_file_and_line(what: str, tmp_path: Path):
    change, says = BAD[what]
    change(write(tmp_path))
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        BEIR(path=str(tmp_path)).load()
