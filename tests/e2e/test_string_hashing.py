"""The same command has the same bits in every process, from an empty cache too.

Strings are hashed by a seed of each process, so whatever goes through a set of strings comes out
in another order. What this process computes is computed by a forked one, whose server was started
with a seed of its own.
"""

import hashlib
import sys
from pathlib import Path

import pytest

from rlcredit.distributed.machine import machine_type
from tests.e2e.running import ROOT, metrics, run
from tests.forked import command
from tests.retrieval.test_sparse import ALL, DOCUMENTS, RETRIEVERS, TEXTS

SHORT = (
    "estimator=ospo",
    "policy.warm_start.steps=5",
    "trainer.steps=2",
    "evaluation.every=0",
    "evaluation.max_prompts=2",
    "evaluation.samples=2",
)


def compute(folder):
    """A run; ``scores.txt`` has the type of machine, every sparse index and its scores."""
    run(folder / "run", *SHORT, f"cache={folder}/cache")
    lines = [f"{machine_type()}\n"]
    for retriever in RETRIEVERS:
        index = retriever.index(DOCUMENTS, cache=folder / "cache")
        bits = index.score(index.encode(TEXTS), ALL).numpy().tobytes()
        lines.append(f"{retriever!r} {index.digest} {hashlib.sha256(bits).hexdigest()}\n")
    (folder / "scores.txt").write_text("".join(lines))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What this process leaves, and what one leaves that hashes strings by another seed."""
    here, there = (tmp_path_factory.mktemp(name) for name in ("here", "there"))
    done = command(__file__, str(there), folder=there, search=[ROOT])
    assert done.status == 0, done.said
    assert done.said.splitlines()[-1] != str(hash("string")), "unset PYTHONHASHSEED"
    compute(here)
    return here, there


def test_a_run_does_not_depend_on_how_strings_are_hashed(folders):
    one, other = (folder / "run" for folder in folders)
    assert len(metrics(one)) == 3
    assert metrics(one) == metrics(other)
    for name in ("completions.jsonl", "trec/test-after/bm25.sampled-0.run.gz"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_scores_and_the_type_of_machine_do_not_depend_on_how_strings_are_hashed(folders):
    one, other = ((folder / "scores.txt").read_text().splitlines() for folder in folders)
    assert len(one) == 5
    assert one == other


if __name__ == "__main__":
    compute(Path(sys.argv[1]))
    print(hash("string"))
