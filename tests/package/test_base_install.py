"""What the base install offers: the public API, credit without a trainer, runs as plain values."""

import json
import subprocess
import sys

import pytest
import torch

import rlcredit
from rlcredit import load_run
from rlcredit.credit.diversity import cosine_kernel, marginal_diversity
from rlcredit.retrieval import Hashing
from tests.e2e.running import ROOT
from tests.e2e.running import run as trained
from tests.package.five_estimators import RESPONSES, advantages, score


def test_every_public_name_is_there():
    assert all(getattr(rlcredit, name) is not None for name in rlcredit.__all__)
    assert {"GRPO", "RLOO", "OSPO", "ShapE", "SetPO", "LPO", "Prefix"} <= set(rlcredit.__all__)
    assert {"Signals", "load_run"} <= set(rlcredit.__all__)


def test_importing_the_package_imports_no_trainer():
    """In a process of its own: this one has imported everything."""
    script = (
        "import sys, rlcredit, rlcredit.text, rlcredit.rewards, rlcredit.retrieval;"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    heavy = {"transformers", "hydra", "omegaconf", "wandb", "datasets", "sentence_transformers"}
    heavy |= {"peft", "faiss", "matplotlib", "tokenizers", "safetensors"}
    assert set(done.stdout.split()) & heavy == set()


def test_five_estimators_credit_one_batch_by_the_formulas_of_grpo_and_rloo():
    rewards, found = score(list(RESPONSES)), advantages()
    assert rewards[0] > rewards[2] > rewards[1] == 0
    grpo = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    assert torch.allclose(found["GRPO"], grpo[:, None].expand(3, 5), atol=1e-5)
    rloo = 1.5 * (rewards - rewards.mean())
    assert torch.allclose(found["RLOO"], rloo[:, None].expand(3, 5), atol=1e-5)
    of_segments = found["OSPO"][:, ::2]
    assert torch.allclose(of_segments.mean(dim=1), grpo, atol=1e-5)
    assert of_segments[0, 0] > of_segments[0, 2]  # "red" is what finds p1, "stove" finds nothing
    assert found["Prefix"][0, 0] > found["Prefix"][0, 4]
    bonus = 0.1 * marginal_diversity(cosine_kernel(Hashing()(RESPONSES)[None]))[0]
    assert bonus.abs().min() > 1e-4
    assert torch.allclose(found["SetPO"] - found["GRPO"], bonus[:, None].expand(3, 5), atol=1e-6)


@pytest.fixture
def run(tmp_path):
    (tmp_path / ".hydra").mkdir()
    config = "seed: 3\nreward:\n  utility: {top: 2}\nestimator:\n  utility: ${reward.utility}\n"
    (tmp_path / ".hydra" / "config.yaml").write_text(config)
    (tmp_path / "summary.json").write_text('{"digest": "ab", "measures": {}}\n')
    (tmp_path / "completions.jsonl").write_text('{"step": 1, "response": "a, b"}\n')
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "reward/mean": 0.5}\n{"step": 2}\n')
    return tmp_path


def test_a_run_is_read_as_plain_values(run):
    read = load_run(str(run))
    assert read.summary == {"digest": "ab", "measures": {}}
    assert [line["step"] for line in read.metrics] == [1, 2]
    assert read.config["estimator"] == {"utility": {"top": 2}} == read.config["reward"]
    assert read.config["seed"] == 3


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl", ".hydra/config.yaml"])
def test_a_missing_file_of_a_run_is_named(run, name):
    (run / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name}; give the folder of a finished run"):
        load_run(run)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "metrics.jsonl",
            '{"step": 1}\n{"st',
            r"metrics\.jsonl, line 2, is damaged .*resume=never",
        ),
        ("summary.json", "[1]", r"summary\.json holds list, and a mapping was written there"),
        (".hydra/config.yaml", "a: [1", r"config\.yaml is damaged .*resume=never"),
        (".hydra/config.yaml", "a: ${b.c}", r"refers to \$\{b\.c\}, which it does not hold"),
    ],
)
def test_a_damaged_file_of_a_run_is_named_with_the_remedy(run, name, text, said):
    (run / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        load_run(run)


def test_a_run_of_today_is_read(tmp_path, cache):
    short = ("trainer.steps=1", "evaluation.every=0", "evaluation.max_prompts=1")
    trained(tmp_path, *short, f"cache={cache}")
    read = load_run(tmp_path)
    assert [line["step"] for line in read.metrics if "step" in line][-1] == 1
    assert read.config["trainer"]["steps"] == 1
    assert "${" not in json.dumps(read.config)
    assert read.summary["status"] == "finished"
    metrics, summary = tmp_path / "metrics.jsonl", tmp_path / "summary.json"
    for path, old, new in ((metrics, '"step": 1', '"step": 7'), (summary, "finished", "failed")):
        written = path.read_text()
        path.write_text(written.replace(old, new, 1))
        assert path.read_text() != written
        with pytest.raises(ValueError, match=rf"{path.name} (is damaged|is not what was written)"):
            load_run(tmp_path)
        path.write_text(written)
