"""Pretrained policies that are taught the form of an answer before they are trained."""

import json
from pathlib import Path

import pytest
import torch

from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.hf import HF, Dtype, LoRA
from rlcredit.policy.warm_start import WarmStart, demonstration_loss, demonstrations
from rlcredit.types import Randomness
from tests.policy.toy import toy_policy, toy_task

TEACH = WarmStart(steps=12, batch_size=8, lr=1e-2, num_warmup_steps=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model in the format of Hugging Face that was never taught the task."""
    toy_policy(steps=0).export(tmp_path / "model")
    return tmp_path / "model"


def load(
    folder: Path, *, seed: int = 0, said: list[str] | None = None, **settings: object
) -> CausalLM:
    return HF(name=str(folder), **settings).load(
        toy_task(),
        seed=seed,
        cache=folder.parent / "cache",
        device=torch.device("cpu"),
        say=(said if said is not None else []).append,
    )


def loss_of(policy: CausalLM) -> float:
    task = toy_task()
    generator = Randomness(seed=9, step=0).generator("compared")
    with torch.no_grad():
        return float(
            demonstration_loss(policy, demonstrations(task.train, task.teacher, 16, generator))
        )


@pytest.mark.parametrize("lora", [LoRA(), LoRA(rank=4)], ids=["all weights", "adapters"])
def test_teaching_lowers_the_loss_and_is_done_once(folder: Path, lora: LoRA):
    before, said = loss_of(load(folder, lora=lora)), list[str]()
    taught = load(folder, lora=lora, warm_start=TEACH, said=said)
    assert loss_of(taught) < before - 0.2
    assert "warm-started by 12 supervised steps" in taught.description
    assert not any("worse" in line for line in said)
    again = list[str]()
    kept = load(folder, lora=lora, warm_start=TEACH, seed=5, said=again)
    assert any("kept from before" in line for line in again), "a run's seed is no part of it"
    assert loss_of(kept) == loss_of(taught)
    if lora.rank:
        assert all("lora_" in n for n, p in kept.model.named_parameters() if p.requires_grad)
        assert all(not p.any() for n, p in kept.model.named_parameters() if "lora_B" in n)


def test_other_settings_or_weights_are_another_start(folder: Path):
    load(folder, warm_start=TEACH)
    cache = folder.parent / "cache/policies"
    assert len(list(cache.iterdir())) == 1
    load(folder, warm_start=WarmStart(steps=13, batch_size=8, lr=1e-2))
    load(folder, warm_start=TEACH, dtype=Dtype.float64)
    toy_policy(steps=60).export(folder)
    load(folder, warm_start=TEACH)
    assert len(list(cache.iterdir())) == 4
    (record,) = {
        json.loads((each / "warm_start.json").read_text())["task"] for each in cache.iterdir()
    }
    assert record == "toy"


def test_a_start_that_makes_things_worse_says_so(folder: Path):
    toy_policy(steps=60).export(folder)
    said = list[str]()
    load(folder, warm_start=WarmStart(steps=3, batch_size=2, lr=5.0, num_warmup_steps=0), said=said)
    (warning,) = [line for line in said if line.startswith("warning")]
    assert "made the policy worse" in warning
    assert "policy.warm_start.lr=5" in warning
