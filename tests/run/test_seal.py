"""A record's seal: what was written is known by its bytes."""

import json

import pytest

from rlcredit.run.seal import RecordError, Sealer, verify


@pytest.fixture
def record(tmp_path):
    (tmp_path / "evaluations").mkdir()
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "trec" / "test-after").mkdir(parents=True)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    (tmp_path / "completions.jsonl").write_text('{"step": 1}\n')
    (tmp_path / "test_touches.jsonl").write_text('{"phase": "before"}\n')
    (tmp_path / "evaluations" / "test-before.json").write_text("[0.5]")
    (tmp_path / ".hydra" / "config.yaml").write_text("seed: 0\n")
    (tmp_path / "trec" / "test.qrels").write_text("q 0 d 3\n")
    (tmp_path / "trec" / "test-after" / "bm25.run").write_text("q Q0 d 1 2.0 r\n")
    return tmp_path


def sealed(folder):
    """As it is read back from JSON."""
    return json.loads(json.dumps(Sealer(folder=folder)()))


def test_the_whole_record_is_sealed(record):
    (record / "notes.txt").write_text("not of the record")
    assert sorted(sealed(record)) == [
        ".hydra/config.yaml",
        "completions.jsonl",
        "evaluations/test-before.json",
        "metrics.jsonl",
        "test_touches.jsonl",
        "trec/test-after/bm25.run",
        "trec/test.qrels",
    ]


def files(folder):
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


@pytest.mark.parametrize("finished", [True, False])
def test_a_changed_byte_a_lost_line_and_a_lost_file_are_named(record, finished):
    seal = sealed(record)
    verify(record, seal, finished=finished)
    for path in files(record):
        name, whole = str(path.relative_to(record)), path.read_bytes()
        path.write_bytes(whole[:-2] + b"7" + whole[-1:])
        with pytest.raises(RecordError, match=f"{name} is not what was written"):
            verify(record, seal, finished=finished)
        path.write_bytes(whole[: whole.rfind(b"\n", 0, -1) + 1])
        with pytest.raises(RecordError, match=f"{name} has .* bytes, and {len(whole)} were"):
            verify(record, seal, finished=finished)
        path.unlink()
        with pytest.raises(RecordError, match=f"{name} is missing"):
            verify(record, seal, finished=finished)
        path.write_bytes(whole)
    verify(record, seal, finished=finished)


def test_lines_may_follow_a_checkpoint_and_none_a_finished_run(record):
    seal = sealed(record)
    grown = ("metrics.jsonl", "completions.jsonl", "test_touches.jsonl")
    for name in grown:
        with (record / name).open("a") as file:
            file.write('{"step": 3}\n')
    verify(record, seal, finished=False)
    with pytest.raises(RecordError) as caught:
        verify(record, seal, finished=True)
    assert "test_touches" not in str(caught.value)
    assert str(caught.value).count("were written") == 2


def test_sealing_again_reads_what_was_added_and_gives_the_same_seal(record):
    sealer = Sealer(folder=record)
    sealer()
    for number in range(3, 6):
        with (record / "metrics.jsonl").open("a") as file:
            file.write(f'{{"step": {number}}}\n')
        (record / "evaluations" / "test-after.json").write_text(f"[{number / 7}]")
        assert json.loads(json.dumps(sealer())) == sealed(record)
