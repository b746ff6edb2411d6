import subprocess
import sys

import pytest
import yaml

from rlcredit.run.folder import RunSummary
from tests.e2e.running import ROOT, SMALL
from tests.forked import command


def sweep(folder, cache, *overrides):
    words = [*SMALL, "trainer.steps=2", "evaluation.every=0", "evaluation.max_prompts=1"]
    words += [f"cache={cache}"]
    return ["-m", f"hydra.sweep.dir={folder}", *words, *overrides]


def test_a_failed_job_is_reported_and_stops_no_other_and_finished_ones_are_not_repeated(
    tmp_path, cache
):
    swept = "trainer.optimizer.lr=-1,1e-3"
    done = command(ROOT / "train.py", *sweep(tmp_path, cache, swept), folder=tmp_path)
    assert done.status == 1
    assert "trainer.optimizer.lr=-1" in done.said
    folders = sorted(p for p in tmp_path.glob("esci/grpo/seed0-*"))
    assert len(folders) == 2
    assert sorted((f / "summary.json").exists() for f in folders) == [False, True]
    assert sorted((f / "failure.txt").exists() for f in folders) == [False, True]
    assert "finished" in done.said
    assert "failed" in done.said
    (finished,) = [f for f in folders if (f / "summary.json").exists()]
    stamp = (finished / "summary.json").stat().st_mtime_ns
    leased = ("hydra/launcher=leased", "hydra.launcher.devices=[a,b]")
    again = command(ROOT / "train.py", *sweep(tmp_path, cache, swept, *leased), folder=tmp_path)
    assert again.status == 1
    assert "holds this very run, finished" in (finished / "job.log").read_text()
    (table,) = [text for text in again.said.split("\nsweep ")[1:]]
    assert [table.count(word) for word in (" finished ", " failed ")] == [1, 1]
    assert not list(tmp_path.glob(".sweep-*"))
    assert (finished / "summary.json").stat().st_mtime_ns == stamp


@pytest.mark.slow
@pytest.mark.parametrize("side_by_side", [False, True])
def test_optuna_finds_the_job_of_the_highest_validation_measure(tmp_path, cache, side_by_side):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="pip install .[optuna]")
    words = sweep(
        tmp_path, cache, "trainer.optimizer.lr=choice(-1,1e-3,5e-3)", "evaluation.every=2"
    )
    words += ["hydra/sweeper=optuna", "hydra.sweeper.direction=maximize", "hydra.sweeper.n_jobs=2"]
    words += ["hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=3"]
    if side_by_side:
        words += ["hydra/launcher=leased", "hydra.launcher.devices=[a,b]"]
    done = subprocess.run(
        [sys.executable, "train.py", *words], cwd=ROOT, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 1, done.stderr  # one job was refused, and the search went on
    summaries = [RunSummary.read(path.parent) for path in tmp_path.rglob("summary.json")]
    found = yaml.safe_load((tmp_path / "optimization_results.yaml").read_text())
    assert len(summaries) == 2
    best = max(summaries, key=lambda summary: summary.validated)
    assert found["best_value"] == best.validated
    lr = found["best_params"]["trainer.optimizer.lr"]
    assert lr == best.identity["trainer"]["optimizer"]["lr"]


@pytest.mark.slow
def test_jobs_of_submitit_are_one_sweep_with_a_table(tmp_path, cache):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install .[slurm]")
    local = ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10")
    words = sweep(tmp_path, cache, "trainer.optimizer.lr=-1,1e-3", *local)
    done = subprocess.run(
        [sys.executable, "train.py", *words], cwd=ROOT, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 1
    (table,) = done.stdout.split("\nsweep ")[1:]
    assert [table.count(word) for word in (" finished ", " failed ")] == [1, 1]
    assert not list(tmp_path.glob(".sweep-*"))
