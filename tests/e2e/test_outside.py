"""Components from outside the repository: the estimator of CONTRIBUTING.md, and a reward."""

import json
import re

import pytest

from rlcredit.tasks.settings import GENERATED_RULES
from tests.e2e.running import ROOT, SMALL, metrics
from tests.forked import command


def test_the_documented_estimator_trains_from_a_folder_of_its_own(tmp_path, cache):
    page = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"```python\n# rlcredit/estimators/median\.py\n(.*?)```", page, re.S)
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "median.py").write_text(code)
    (tmp_path / "my_conf" / "estimator").mkdir(parents=True)
    (yaml,) = re.findall(r"my_conf/estimator/median\.yaml +(_target_: .*)\n", page)
    (tmp_path / "my_conf" / "estimator" / "median.yaml").write_text(f"{yaml}\n")
    words = [*SMALL, "trainer.steps=2", "evaluation.every=0", "evaluation.max_prompts=1"]
    words += [f"cache={cache}"]
    folder = tmp_path / "run"
    done = command(
        ROOT / "train.py",
        *("--config-dir", "my_conf", "estimator=median", "dataset=esci", "allow=[my_lab]"),
        *words,
        f"hydra.run.dir={folder}",
        folder=tmp_path,
        search=[tmp_path],
    )
    assert done.status == 0, done.said
    assert metrics(folder)[-1]["step"] == 2


def test_a_reward_of_one_method_trains_and_its_mean_is_reported(tmp_path, cache):
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "short.py").write_text(
        """
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Short:
    letters: int = 40

    def __call__(self, prompts, texts):
        return torch.tensor([max(0.0, 1 - len(text) / self.letters) for text in texts])
"""
    )
    (tmp_path / "my_conf" / "reward").mkdir(parents=True)
    (tmp_path / "my_conf" / "reward" / "short.yaml").write_text("_target_: my_lab.short.Short\n")
    words = [*SMALL, "trainer.steps=2", "evaluation.every=1", f"cache={cache}"]
    folder = tmp_path / "run"
    done = command(
        ROOT / "train.py",
        *("--config-dir", "my_conf", "reward=short", "estimator=loo", "allow=[my_lab]"),
        *words,
        f"hydra.run.dir={folder}",
        folder=tmp_path,
        search=[tmp_path],
    )
    assert done.status == 0, done.said
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["headline"] == "reward"
    assert set(summary["measures"]) == {"reward", "reward_greedy"}
    after = json.loads((folder / "evaluations" / "test-after.json").read_text())
    texts = after["responses"]["greedy"]
    (greedy,) = (s["values"] for s in after["scores"] if s["source"] == "greedy")
    assert greedy == [pytest.approx(max(0, 1 - len(scored(*own)) / 40)) for own in texts]
    assert "eval/validation/reward" in metrics(folder)[-1]


def scored(response):
    """What of a response the generated task scores."""
    return GENERATED_RULES.search_text(GENERATED_RULES.scored_span(response).of(response), query="")
