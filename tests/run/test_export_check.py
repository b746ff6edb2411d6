"""An export is loaded again and compared with the policy that was evaluated."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from rlcredit.errors import raised_here
from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.hf import HF, Dtype, LoRA
from rlcredit.policy.packing import Packing
from rlcredit.rollout import HFRollout
from rlcredit.run.export_check import export, export_fault, tolerance
from tests.full_disk import full_disk
from tests.policy.toy import toy_policy, toy_prompts, toy_task

PROMPTS = toy_prompts()[:3]


def adapted(folder: Path, *, dtype: Dtype, target: str = "all-linear") -> CausalLM:
    """A policy whose adapters have learned something."""
    toy_policy().export(folder)
    lora = LoRA(rank=4, target_modules=target)
    made = HF(name=str(folder), dtype=dtype, lora=lora).load(
        toy_task(), seed=0, cache=Path(), device=torch.device("cpu"), say=lambda line: None
    )
    with torch.no_grad():
        for name, parameter in made.model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.02)
    return made


@pytest.mark.parametrize("dtype", list(Dtype))
def test_an_export_with_merged_adapters_is_the_policy(tmp_path: Path, dtype: Dtype):
    policy = adapted(tmp_path / "base", dtype=dtype)
    policy = policy.packed(Packing.shared_prefix, say=lambda line: None)
    policy.export(tmp_path / "policy")
    assert export_fault(policy, tmp_path / "policy", PROMPTS) is None
    fault = export_fault(policy, tmp_path / "base", PROMPTS)
    assert fault is not None
    assert "base does not hold the policy that was evaluated: loaded again, its log-probs" in fault


def test_what_rounding_explains_is_half_of_the_digits_and_float32_at_best():
    allowed = {dtype: tolerance(dtype) for dtype in (torch.float64, torch.float32, torch.bfloat16)}
    assert allowed[torch.float64] == allowed[torch.float32] == pytest.approx(0.00138, rel=0.01)
    assert allowed[torch.bfloat16] == pytest.approx(0.354, rel=0.01)


def test_an_export_that_the_disk_does_not_take_ends_in_a_sentence(tmp_path: Path):
    sentence = r"policy cannot be written \(.*\)\. Make room"
    with full_disk(1000), pytest.raises(OSError, match=sentence) as error:
        export(toy_policy(), HFRollout(), tmp_path / "policy")
    assert raised_here(error.value)


def test_an_export_in_which_a_weight_is_another_is_said_with_its_distance(tmp_path: Path):
    policy = toy_policy()
    policy.export(tmp_path)
    assert export_fault(policy, tmp_path, PROMPTS) is None
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"] *= 2
    save_file(weights, path, metadata={"format": "pt"})
    fault = export_fault(policy, tmp_path, PROMPTS)
    assert fault is not None
    assert "nats (0.0014 is allowed in torch.float32)" in fault


def test_an_export_whose_tokenizer_reads_otherwise_is_said(tmp_path: Path):
    policy = toy_policy()
    policy.export(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens(["winter"])
    tokenizer.save_pretrained(tmp_path)
    said = export_fault(policy, tmp_path, PROMPTS)
    assert (
        said == f"{tmp_path} holds another tokenizer than the policy's: it reads prompts otherwise"
    )


def test_an_export_that_cannot_be_loaded_is_said_and_ends_nothing(tmp_path: Path):
    policy = toy_policy()
    policy.export(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    said = export_fault(policy, tmp_path, PROMPTS)
    assert said is not None
    assert "cannot be loaded again" in said
