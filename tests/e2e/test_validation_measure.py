"""What a sweep may choose by is the validation split's measure, of a finished run too."""

from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest

from rlcredit.evaluation.on_disk import load_evaluation
from rlcredit.evaluation.stats import mean_interval
from rlcredit.run.folder import RunSummary
from rlcredit.run.launch import launch
from tests.e2e.running import SMALL, composed, metrics
from tests.examples.test_wandb_sweep import SWEEP

SHORT = ("trainer.steps=3", "trainer.prompts_per_step=2", "rollout.max_new_tokens=12")


def measure(folder, cache, *words):
    with redirect_stdout(StringIO()):
        return launch(composed(*SMALL, *SHORT, f"cache={cache}", *words), folder)


def test_a_run_returns_its_last_validation_measure_and_the_summary_keeps_its_interval(
    tmp_path, cache
):
    found = measure(tmp_path, cache)
    last = metrics(tmp_path)[-1]
    summary = RunSummary.read(tmp_path)
    assert last["step"] == 3
    assert found == last[SWEEP["metric"]["name"]] == summary.validated
    assert found != summary.measures[summary.headline].after.mean
    evaluation = load_evaluation(tmp_path, "validation", "3")
    (cell,) = [cell for cell in evaluation.scores if cell.name == summary.headline]
    assert summary.validation[summary.headline] == mean_interval(
        np.array(evaluation.scores[cell], dtype=np.float64), evaluation.family_numbers
    )
    assert measure(tmp_path, cache) == found, "the finished run is read back"
    (tmp_path / "summary.json").unlink()
    assert measure(tmp_path, cache) == found, "a sitting without a step finds the scores"
    assert metrics(tmp_path)[-1] == last


@pytest.mark.parametrize("steps", [0, 1])
def test_a_run_that_scores_no_validation_split_returns_none(tmp_path, cache, steps):
    assert measure(tmp_path, cache, "evaluation.every=0", f"trainer.steps={steps}") is None
    assert RunSummary.read(tmp_path).validation == {}
