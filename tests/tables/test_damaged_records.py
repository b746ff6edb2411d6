"""A file that is cut off, damaged or of another shape is a gap with its name; the rest is shown."""

import gzip
import json

import pytest

from rlcredit.commands.table_choice import kept_folder
from rlcredit.estimators.utilities import Max
from rlcredit.report.evaluations import evaluation_path
from rlcredit.report.run_folder import SCORES_FILE, SUMMARY_FILE
from rlcredit.retrieval.base import Documents
from rlcredit.retrieval.bm25 import BM25
from rlcredit.retrieval.measures import NDCG
from rlcredit.rewards.ranking import Ranking
from rlcredit.tables.records import keep, read_record
from rlcredit.tables.render import markdown
from rlcredit.text.response import TextRules
from rlcredit.trainer.cells import Source
from rlcredit.trainer.sets import offered_sets, set_texts
from rlcredit.trainer.trec import write_runs
from rlcredit.types import Prompt


@pytest.fixture
def record(outputs):
    """A kept record that is shown."""
    kept = kept_folder(outputs) / "esci" / "ospo" / "seed0"
    keep(outputs / "esci" / "ospo" / "seed0", kept)
    return kept


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-20])


def corrupt(path):
    data = bytearray(path.read_bytes())
    data[10] = 0xFF  # the first block of the stream: a kind that does not exist
    path.write_bytes(bytes(data))


def no_text(path):
    path.write_bytes(gzip.compress(bytes([0xFF, 0xFE])))


def no_gzip(path):
    path.write_bytes(b"{}")


DAMAGE = (cut_off, corrupt, no_text, no_gzip)


def gaps(grid, column):
    return " | ".join(grid.cells["esci", "ospo", column].gaps)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_scores_are_a_gap_and_the_rest_is_shown(damage, filled, record):
    damage(record / SCORES_FILE)
    grid = filled()
    assert f"{record}: scores cannot be read ({SCORES_FILE}: " in gaps(grid, "ndcg")
    assert list(grid.cells["esci", "ospo", "ndcg"].per_seed) == list(range(1, 8))
    assert list(grid.cells["esci", "ospo", "evaluations"].per_seed) == list(range(8))
    assert SCORES_FILE in markdown(grid)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_log_is_a_gap_and_the_scores_are_shown(damage, filled, record):
    damage(record / "metrics.jsonl.gz")
    grid = filled()
    assert "metrics.jsonl cannot be read (metrics.jsonl.gz: " in gaps(grid, "evaluations")
    assert list(grid.cells["esci", "ospo", "ndcg"].per_seed) == list(range(8))
    assert list(grid.cells["esci", "ospo", "evaluations"].per_seed) == list(range(1, 8))


@pytest.mark.parametrize(
    "content",
    [
        [],
        3,
        {"after": []},
        {"after": {"prompt_ids": 3, "values": {}}},
        {"after": {"prompt_ids": ["q"], "values": []}},
        {"after": {"prompt_ids": ["q"], "values": {"x": {}}}},
        {"after": {"prompt_ids": ["q"], "values": {"x": ["half"]}}},
    ],
)
def test_scores_of_another_shape_are_a_gap(content, filled, record):
    (record / SCORES_FILE).write_bytes(gzip.compress(json.dumps(content).encode()))
    assert f"{record}: scores cannot be read" in gaps(filled(), "ndcg")


@pytest.mark.parametrize("content", ["[]", "3", '{"scores": 3}', '{"scores": [[]]}', "{"])
def test_an_evaluation_of_another_shape_is_a_gap(content, filled, outputs):
    run = outputs / "esci" / "ospo" / "seed0"
    evaluation_path(run, "test", "after").write_text(content)
    grid = filled()
    assert f"{run}: scores cannot be read (test-after.json: " in gaps(grid, "ndcg")
    assert 0 in grid.cells["esci", "ospo", "evaluations"].per_seed


@pytest.mark.parametrize("content", ["[]", '{"measures": []}', "nothing", "{"])
def test_a_summary_of_another_shape_is_a_gap(content, filled, record, outputs):
    (outputs / "esci" / "ospo" / "seed0" / SUMMARY_FILE).unlink()
    (record / SUMMARY_FILE).write_text(content)
    grid = filled()
    assert 0 not in grid.cells["esci", "ospo", "ndcg"].per_seed
    assert any(str(record / SUMMARY_FILE) in problem for problem in grid.problems)


def test_a_damaged_ranking_is_not_kept_and_named(outputs, tmp_path):
    run = outputs / "esci" / "ospo" / "seed1"
    path = run / "trec" / "test-after" / "bm25.greedy.run.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(b"q0 Q0 d0 1 0.5 x\n"))
    cut_off(path)
    with pytest.raises(ValueError, match=r"bm25\.greedy\.run\.gz: Compressed file ended"):
        keep(run, tmp_path / "kept")
    path.write_bytes(gzip.compress(b"q0 Q0\n"))
    with pytest.raises(ValueError, match=r"bm25\.greedy\.run\.gz is no run file"):
        keep(run, tmp_path / "kept")
    assert not (tmp_path / "kept" / SUMMARY_FILE).exists()


def test_the_first_rankings_of_each_candidate_of_a_set_are_kept(outputs, tmp_path):
    documents = Documents(ids=("a", "b"), texts=("red tent", "blue boat"))
    prompts = (Prompt(prompt_id="p", text="p", query="p", relevance={"a": 3}, pool=("a", "b")),)
    sets = ["<c1>tent</c1><c2>boat</c2>"] * 2
    responses = {Source.sampled: [sets], Source.greedy: [sets[:1]]}
    offers = offered_sets(TextRules(num_candidates=2), prompts, responses)
    rewards = {
        name: Ranking(measure=NDCG(), utility=Max()).bind(BM25().index(documents, cache=tmp_path))
        for name in ("bm25", "tfidf")
    }
    run = outputs / "esci" / "ospo" / "seed1"
    write_runs(run / "trec" / "test-after", prompts, set_texts(offers, 2), rewards)
    keep(run, tmp_path / "kept")
    assert {path.name for path in (tmp_path / "kept").glob("*.run.gz")} == {
        "bm25.greedy.c1.run.gz",
        "bm25.greedy.c2.run.gz",
        "bm25.sampled.c1-0.run.gz",
        "bm25.sampled.c2-0.run.gz",
    }
    text = gzip.decompress((tmp_path / "kept" / "bm25.sampled.c2-0.run.gz").read_bytes()).decode()
    assert text.startswith("p Q0 b 1 ")
    assert read_record(tmp_path / "kept").scores
