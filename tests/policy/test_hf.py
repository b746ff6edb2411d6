"""Pretrained policies: a real small model, adapters, and names that lead nowhere."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlcredit.policy.base import PolicySource
from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.hf import HF, Dtype, LoRA
from rlcredit.rollout.hf import HFRollout
from rlcredit.types import Prompt, Randomness, Rollouts
from tests.policy.toy import toy_policy, toy_task

STORIES = Path(__file__).parents[2] / "../shared/data/stories260k"
PROMPTS = tuple(
    Prompt(prompt_id=text, text=text, query=text, relevance={})
    for text in ("Once upon a time", "The dog", "Lily and her mom went to the park to")
)


@pytest.fixture
def stories() -> str:
    if not STORIES.exists():
        pytest.skip(f"the pretrained model is not at {STORIES}")
    return str(STORIES)


def load(source: HF, *, seed: int = 0, say: Callable = lambda line: None) -> CausalLM:
    return source.load(toy_task(), seed=seed, cache=Path(), device=torch.device("cpu"), say=say)


def sampled(policy: CausalLM, *, max_new_tokens: int = 10) -> Rollouts:
    engine = HFRollout(max_new_tokens=max_new_tokens)
    return engine(policy, PROMPTS, group_size=2, randomness=Randomness(seed=0, step=0))


def test_a_pretrained_model_loads_with_its_own_end_and_plain_prompts(stories: str):
    said: list[str] = []
    policy = load(HF(name=stories), say=said.append)
    assert isinstance(HF(name=stories), PolicySource)
    assert policy.eos_ids == {2}
    assert policy.context == 512
    assert f"pretrained {stories} in float32, all weights are trained" in said[0]
    assert not policy.model.training
    ids, mask = policy.encode(PROMPTS)
    assert ids[0][mask[0]].tolist() == policy.tokenizer("Once upon a time")["input_ids"]
    assert ids[0][mask[0]][0] == policy.tokenizer.bos_token_id


def test_its_log_probs_are_those_of_transformers(stories: str):
    policy = load(HF(name=stories, dtype=Dtype.float64))
    rollouts = sampled(policy)
    scored = policy.logprobs(rollouts).logprobs.view_as(rollouts.rollout_logprobs)
    model = AutoModelForCausalLM.from_pretrained(stories, dtype=torch.float64)
    for p, prompt in enumerate(PROMPTS):
        question = policy.tokenizer(prompt.text)["input_ids"]
        for g in range(2):
            answer = rollouts.response_ids[p, g][rollouts.response_mask[p, g]].tolist()
            logits = model(input_ids=torch.tensor([[*question, *answer]])).logits[0]
            every = logits.log_softmax(-1)[len(question) - 1 : -1]
            expected = every.gather(1, torch.tensor(answer)[:, None]).squeeze(1)
            torch.testing.assert_close(scored[p, g, : len(answer)], expected, rtol=0, atol=1e-9)


def test_half_precision_is_half_precision(stories: str):
    policy = load(HF(name=stories, dtype=Dtype.bfloat16))
    assert policy.model.dtype == torch.bfloat16
    rollouts = sampled(policy)
    again = policy.logprobs(rollouts).logprobs.view_as(rollouts.rollout_logprobs)
    assert rollouts.rollout_logprobs.dtype == torch.float32
    assert float((again - rollouts.rollout_logprobs).abs().max().detach()) < 0.2


def test_adapters_alone_are_trained_and_start_as_the_pretrained_model(stories: str):
    plain = load(HF(name=stories, dtype=Dtype.float64))
    policy = load(HF(name=stories, dtype=Dtype.float64, lora=LoRA(rank=4)))
    rollouts = sampled(plain)
    before = policy.logprobs(rollouts).logprobs
    torch.testing.assert_close(before, plain.logprobs(rollouts).logprobs, rtol=0, atol=1e-9)
    trained = {name for name, p in policy.model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert {name.split(".")[-4] for name in trained} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    frozen = {n: p.clone() for n, p in policy.model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW(
        [p for p in policy.model.parameters() if p.requires_grad], lr=1e-2
    )
    losses = []
    for _ in range(3):
        loss = -policy.logprobs(rollouts).logprobs.mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[2] < losses[1] < losses[0]
    for name, parameter in policy.model.named_parameters():
        assert name not in frozen or torch.equal(frozen[name], parameter)


def test_adapters_are_merged_into_an_exported_folder_and_stay_in_the_policy(
    stories: str, tmp_path: Path
):
    policy = load(HF(name=stories, dtype=Dtype.float64, lora=LoRA(rank=4)))
    rollouts = sampled(policy)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.05)
    before = policy.logprobs(rollouts).logprobs.detach()
    policy.export(tmp_path)
    assert torch.equal(policy.logprobs(rollouts).logprobs.detach(), before)
    again = CausalLM(
        model=AutoModelForCausalLM.from_pretrained(tmp_path),
        tokenizer=AutoTokenizer.from_pretrained(tmp_path),
        origin="",
    )
    assert not any("lora" in name for name, _ in again.model.named_parameters())
    torch.testing.assert_close(again.logprobs(rollouts).logprobs, before, rtol=0, atol=1e-9)
    base = load(HF(name=stories, dtype=Dtype.float64)).logprobs(rollouts).logprobs
    assert float((base - before).detach().abs().max()) > 0.01


def test_adapters_start_from_the_run_s_seed_and_leave_the_global_stream_alone(stories: str):
    def start(seed: int) -> torch.Tensor:
        policy = load(HF(name=stories, lora=LoRA(rank=2)), seed=seed)
        return torch.cat([p.flatten() for n, p in policy.model.named_parameters() if "lora_A" in n])

    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = start(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert torch.equal(first, start(0))
    assert not torch.equal(first, start(1))


def test_gradient_checkpointing_changes_no_gradient(stories: str):
    found = []
    for recompute in (False, True):
        policy = load(HF(name=stories, dtype=Dtype.float64, gradient_checkpointing=recompute))
        rollouts = sampled(policy)
        assert policy.model.training is recompute
        assert policy.model.is_gradient_checkpointing is recompute
        policy.logprobs(rollouts).logprobs.sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in policy.model.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-9)


def test_a_policy_of_ours_is_loaded_from_its_folder(tmp_path: Path):
    ours = toy_policy()
    ours.export(tmp_path)
    again = load(HF(name=str(tmp_path)))
    rollouts = sampled(ours)
    assert sampled(again).texts == rollouts.texts


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(
        FileNotFoundError, match=r"policy\.name=\./no/such: there is no such folder"
    ):
        load(HF(name="./no/such"))


def test_a_folder_without_a_model_is_named(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=rf"policy\.name={tmp_path} cannot be loaded"):
        load(HF(name=str(tmp_path)))


def test_weights_that_are_no_safetensors_are_refused(tmp_path: Path):
    toy_policy().export(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle that must never be read")
    with pytest.raises(ValueError, match=r"cannot be loaded.*safetensors"):
        load(HF(name=str(tmp_path)))


def test_damaged_weights_are_named(tmp_path: Path):
    toy_policy().export(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ValueError, match=rf"policy\.name={tmp_path} cannot be loaded"):
        load(HF(name=str(tmp_path)))


def test_a_model_with_code_of_its_own_is_refused(tmp_path: Path):
    toy_policy().export(tmp_path)
    (tmp_path / "config.json").write_text(
        '{"model_type": "own", "auto_map": {"AutoConfig": "own.Config", '
        '"AutoModelForCausalLM": "own.Model"}}'
    )
    (tmp_path / "own.py").write_text("raise SystemExit('code from a model folder was run')")
    with pytest.raises(ValueError, match="cannot be loaded"):
        load(HF(name=str(tmp_path)))


@pytest.mark.parametrize(
    ("settings", "said"), [({"rank": -1}, "rank=-1"), ({"dropout": 1.0}, "1.0")]
)
def test_adapter_settings_out_of_range_are_refused(settings: dict, said: str):
    with pytest.raises(ValueError, match=said):
        LoRA(**settings)
