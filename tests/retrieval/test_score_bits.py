"""A score has the same bits in every process, whatever order its sets of strings have."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import hashlib, sys
from pathlib import Path
from tests.retrieval.test_sparse import ALL, DOCUMENTS, RETRIEVERS, TEXTS

for retriever in RETRIEVERS:
    index = retriever.index(DOCUMENTS, cache=Path(sys.argv[1]))
    scores = index.score(index.encode(TEXTS), ALL)
    print(repr(retriever), index.digest, hashlib.sha256(scores.numpy().tobytes()).hexdigest())
"""


def test_scores_do_not_depend_on_how_strings_are_hashed(tmp_path):
    printed = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        printed.append(done.stdout.splitlines())
    assert len(printed[0]) == 4
    assert printed[0] == printed[1]
