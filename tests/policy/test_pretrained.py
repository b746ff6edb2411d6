"""What is done to pretrained models before training: silence, tied adapters, caches, exports."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.hf import HF, Dtype, LoRA
from rlcredit.policy.pretrained import try_export
from rlcredit.rollout.hf import HFRollout
from rlcredit.trainer.optim import AdamW
from rlcredit.types import Randomness, Rollouts
from tests.policy.toy import toy_policy, toy_prompts, toy_task

SMALL = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "vocab_size": 300}
QUIET = pytest.mark.filterwarnings("ignore:fan_in_fan_out", "ignore:Model has `tie_word")
"""PEFT's remarks on GPT-2's kind of layer, and on tied ones."""
KV = {"num_key_value_heads": 1, "num_hidden_layers": 2}


def load(folder: Path, **settings: object) -> CausalLM:
    return HF(name=str(folder), **settings).load(
        toy_task(), seed=0, cache=Path(), device=torch.device("cpu"), say=lambda line: None
    )


def kept(model: PreTrainedModel, folder: Path) -> Path:
    """A folder with a model, and the tokenizer of the toy policy."""
    model.save_pretrained(folder)
    toy_policy(steps=0).tokenizer.save_pretrained(folder)
    return folder


def sampled(policy: CausalLM) -> Rollouts:
    engine = HFRollout(max_new_tokens=6)
    return engine(policy, toy_prompts()[:2], group_size=2, randomness=Randomness(seed=0, step=0))


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=300, n_embd=32, n_layer=2, n_head=2, n_positions=64, eos_token_id=1
    )
    assert config.attn_pdrop == config.resid_pdrop == config.embd_pdrop == 0.1
    return kept(GPT2LMHeadModel(config), tmp_path)


@QUIET
@pytest.mark.parametrize("lora", [LoRA(), LoRA(rank=2)])
def test_a_model_with_dropout_is_scored_as_it_was_sampled_under_checkpointing(
    noisy: Path, lora: LoRA
):
    policy = load(noisy, dtype=Dtype.float64, gradient_checkpointing=True, lora=lora)
    rollouts = sampled(policy)
    assert policy.model.training
    assert policy.model.is_gradient_checkpointing
    scored = policy.logprobs(rollouts).logprobs.view_as(rollouts.rollout_logprobs)
    torch.testing.assert_close(scored.detach(), rollouts.rollout_logprobs, rtol=0, atol=1e-9)


def test_adapters_of_a_half_precision_model_are_kept_in_float32(tmp_path: Path):
    toy_policy(steps=0).export(tmp_path)
    policy = load(tmp_path, dtype=Dtype.bfloat16, lora=LoRA(rank=2))
    trained = {p.dtype for p in policy.model.parameters() if p.requires_grad}
    assert trained == {torch.float32}
    AdamW(lr=5e-6).refuse_coarse(policy.model)
    with pytest.raises(ValueError, match=r"bfloat16: a step of trainer\.optimizer\.lr=5e-06"):
        AdamW(lr=5e-6).refuse_coarse(load(tmp_path, dtype=Dtype.bfloat16).model)


@QUIET
def test_dropout_that_is_asked_for_is_the_adapters_alone_and_is_said(noisy: Path):
    policy = load(noisy, lora=LoRA(rank=2, dropout=0.3))
    rates = {module.p for module in policy.model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.0, 0.3}
    assert "LoRA of rank 2 with dropout 0.3 in training" in policy.description
    assert "with dropout" not in load(noisy, lora=LoRA(rank=2)).description


def test_sampling_flags_that_cannot_be_saved_are_no_part_of_the_policy(tmp_path: Path):
    toy_policy(steps=0).export(tmp_path)
    path = tmp_path / "generation_config.json"
    given = {"do_sample": False, "temperature": 0.6, "top_p": 0.95, "eos_token_id": [1, 7]}
    path.write_text(json.dumps(json.loads(path.read_text()) | given))
    policy = load(tmp_path)
    policy.export(tmp_path / "again")
    assert policy.eos_ids == {1, 7}
    left = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    assert left["eos_token_id"] == [1, 7]
    assert not {"temperature", "top_p"} & left.keys()


def test_what_cannot_be_saved_again_is_named_without_saving_weights():
    policy = toy_policy(steps=0)
    try_export(policy.model, policy.tokenizer, "toy")
    policy.model.generation_config.temperature = 0.6
    with pytest.raises(ValueError, match=r"policy\.name=toy can be loaded and not be saved again"):
        try_export(policy.model, policy.tokenizer, "toy")


@QUIET
@pytest.mark.parametrize("target", [".*lm_head", ".*(q_proj|embed_tokens)"])
def test_adapters_on_tied_embeddings_are_refused_and_on_untied_ones_merged(
    tmp_path: Path, target: str
):
    toy_policy(steps=0).export(tmp_path)
    lora = LoRA(rank=2, target_modules=target)
    with pytest.raises(ValueError, match=r"target_modules=\.\*.* the two are one weight"):
        load(tmp_path, lora=lora)
    assert load(tmp_path, lora=LoRA(rank=2, target_modules=".*q_proj")).adapters is not None
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tie_word_embeddings": False}))
    assert load(tmp_path, lora=lora).adapters is not None


HYBRIDS = {
    "MambaForCausalLM": {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 300},
    "Qwen3_5ForCausalLM": SMALL
    | {"num_hidden_layers": 4, "num_key_value_heads": 1, "head_dim": 16}
    | {"linear_num_key_heads": 2, "linear_num_value_heads": 2}
    | {"linear_key_head_dim": 8, "linear_value_head_dim": 8},
    "GraniteMoeHybridForCausalLM": SMALL
    | KV
    | {"layer_types": ["mamba", "attention"], "mamba_n_heads": 4, "mamba_d_head": 16}
    | {"mamba_d_state": 8, "num_local_experts": 2, "num_experts_per_tok": 1}
    | {"shared_intermediate_size": 16},
    "Lfm2ForCausalLM": SMALL | KV | {"layer_types": ["conv", "full_attention"]},
}


@pytest.mark.parametrize("name", HYBRIDS)
def test_a_model_that_remembers_more_than_keys_and_values_is_refused_by_name(
    tmp_path: Path, name: str
):
    cls = getattr(transformers, name)
    kept(cls(cls.config_class(**HYBRIDS[name], eos_token_id=1)), tmp_path)
    with pytest.raises(ValueError, match=rf"is a {name}, and rows of what it remembers"):
        load(tmp_path)


def test_a_model_with_windows_of_attention_is_not_refused(tmp_path: Path):
    config = transformers.Gemma2Config(**SMALL, **KV, head_dim=16, sliding_window=4, eos_token_id=1)
    policy = load(kept(transformers.Gemma2ForCausalLM(config), tmp_path), dtype=Dtype.float64)
    rollouts = sampled(policy)
    scored = policy.logprobs(rollouts).logprobs.view_as(rollouts.rollout_logprobs).detach()
    torch.testing.assert_close(scored, rollouts.rollout_logprobs, rtol=0, atol=1e-5)
