"""The bench of gradients at a policy's size: files, costs, the page, and two known estimators."""

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from scripts import bench_gradient
from scripts.bench_gradient import Cost, Replicates, write_page

WORDS = (
    *("policy.warm_start.steps=20", "policy.num_layers=1", "policy.hidden_size=32"),
    *("rollout.max_new_tokens=12", "evaluation.retrievers=[bm25]"),
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Two replicates of a policy that knows little, and then a third."""
    folder = tmp_path_factory.mktemp("gradients")
    run = ["--out", str(folder / "out"), "--cache", str(folder / "cache"), "--prompts", "3"]
    few = ["--group-size", "4", "--estimators", "dr_grpo,loo"]

    def call(*more):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["bench_gradient", *run, *few, *more, *WORDS])
            bench_gradient.main()
        return folder / "out"

    call("--replicates", "2")
    first = {path.name: path.read_bytes() for path in (folder / "out").glob("*.safetensors")}
    return call, first, call("--replicates", "3")


def test_more_replicates_go_on_behind_those_that_are_there(measured):
    _, first, folder = measured
    assert len(first) == 2
    assert len(list(folder.glob("*.safetensors"))) == 3
    assert all((folder / name).read_bytes() == content for name, content in first.items())


def test_grpo_without_a_scale_is_rloo_but_for_one_factor(measured):
    """Their gradients differ by (G - 1) / G in every draw, whatever the model."""
    found = [load_file(path) for path in sorted(measured[2].glob("*.safetensors"))]
    assert any(each["rloo"].abs().sum() > 0 for each in found)
    for each in found:
        torch.testing.assert_close(each["dr_grpo"], 0.75 * each["rloo"], rtol=1e-4, atol=1e-7)


def test_a_replicate_costs_what_the_estimator_asked_for(measured):
    (path, *_) = sorted(measured[2].glob("*.safetensors"))
    key = bench_gradient.safe_open(path, framework="pt").metadata()["key"]
    costs = Replicates(folder=measured[2], key=key).costs(1)
    assert costs["rloo"].responses == costs["loo"].responses == costs["rloo"].rewards == 12
    assert costs["loo"].rewards > 12
    assert all(cost.seconds > 0 for cost in costs.values())


def test_files_of_other_settings_are_refused(measured):
    with pytest.raises(ValueError, match="made with other settings; give --out another folder"):
        measured[0]("--replicates", "3", "--seed", "1")


@pytest.fixture
def replicates(tmp_path):
    """Sixteen of two estimators: one is twice the other, and takes twice the rewards."""
    made = Replicates(folder=tmp_path, key="k")
    rng = np.random.default_rng(0)
    for number in range(1, 17):
        gradient = torch.tensor(1 + 0.5 * rng.normal(size=20))
        costs = {"rloo": Cost(responses=8, rewards=8, seconds=1.0)}
        costs["twice"] = Cost(responses=8, rewards=16, seconds=1.0)
        made.write(number, {"rloo": gradient, "twice": 2 * gradient}, costs)
    return made


def test_the_page_compares_errors_at_equal_cost_in_pairs(replicates):
    write_page(replicates, 16, ["rloo", "twice"], {"cosine": 0.01})
    record = json.loads((replicates.folder / "gradients.json").read_text())
    found = record["estimators"]
    assert found["twice"]["scale"] == pytest.approx([2.0] * 3)
    assert found["rloo"]["bias"] == pytest.approx([0.0] * 3)
    by = {
        name: {u: each[f"error per 1000 {u}"] for u in ("responses", "rewards")}
        for name, each in found.items()
    }
    assert by["twice"]["responses"] == pytest.approx(by["rloo"]["responses"])
    assert by["twice"]["rewards"][0] > by["rloo"]["rewards"][0] + 0.5 * 0.25 * 8 / 1000
    page = (replicates.folder / "gradients.md").read_text()
    assert "| twice | 2.000 [2.000, 2.000] |" in page
    assert "per 1000 rewards, less rloo's" in page


def test_without_a_direction_that_stands_out_there_is_no_page(tmp_path, capsys):
    made = Replicates(folder=tmp_path, key="k")
    rng = np.random.default_rng(0)
    for number in range(1, 9):
        cost = {"rloo": Cost(responses=8, rewards=8, seconds=1.0)}
        made.write(number, {"rloo": torch.tensor(rng.normal(size=20))}, cost)
    write_page(made, 8, ["rloo"], {})
    assert "no page yet: 8 replicates do not tell" in capsys.readouterr().out
    assert not (tmp_path / "gradients.md").exists()
