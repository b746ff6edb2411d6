"""The same command has the same bits in every process, from an empty cache too.

Strings are hashed by a seed of each process, so whatever goes through a set of strings comes out
in another order. Two seeds are given here instead of leaving it to chance.
"""

import os
import subprocess
import sys

from tests.e2e.running import ROOT, SMALL, metrics


def test_a_run_does_not_depend_on_how_strings_are_hashed(tmp_path):
    folders = [tmp_path / seed for seed in ("1", "2")]
    for folder in folders:
        words = [*SMALL, "estimator=ospo", "policy.warm_start.steps=40", "evaluation.every=0"]
        words += [f"cache={folder}/cache", f"hydra.run.dir={folder}/run"]
        done = subprocess.run(
            [sys.executable, "train.py", *words],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": folder.name},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    one, other = (folder / "run" for folder in folders)
    assert len(metrics(one)) == 5
    assert metrics(one) == metrics(other)
    for name in ("completions.jsonl", "trec/test-after/bm25.sampled-0.run.gz"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
