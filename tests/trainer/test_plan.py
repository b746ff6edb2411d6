"""The arithmetic of a plan against what is really allocated."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.footprint import Footprint, MemoryLine, Phase, kept_by_autograd
from rlcredit.policy.hf import HF, Dtype, LoRA
from rlcredit.policy.packing import Packing
from rlcredit.policy.sharded import Weights
from rlcredit.rollout.hf import Decoding, HFRollout
from rlcredit.trainer.optim import AdamW
from rlcredit.trainer.plan import MemoryPlan, lasting_lines, memory_plan, sharded_lines
from rlcredit.trainer.settings import TrainerSettings
from rlcredit.types import Prompt, Randomness
from tests.policy.toy import toy_policy, toy_task

SIZES = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=32)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("qwen3")
    MODELS["qwen3"]().save_pretrained(place)
    toy_policy(steps=0).tokenizer.save_pretrained(place)
    return place


def rollouts_of(policy, length):
    prompts = [Prompt(prompt_id=str(i), text="tent", query="", relevance={}) for i in range(2)]
    engine = HFRollout(max_new_tokens=length, max_rows=8)
    return engine(policy, prompts, group_size=4, randomness=Randomness(seed=0, step=1))


def really_kept(policy, rollouts):
    """Bytes that autograd holds after the forward pass of an update, weights aside."""
    weights = {p.untyped_storage().data_ptr() for p in policy.model.parameters()}
    found, alive = {}, []

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        policy.logprobs(rollouts).logprobs.sum()
    return sum(found.values())


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_activations_are_those_that_autograd_keeps(name, autocast):
    with torch.device("meta"):
        outline = MODELS[name]()
    kept = kept_by_autograd(outline, autocast=autocast)
    policy = CausalLM(model=MODELS[name](), tokenizer=toy_policy(steps=0).tokenizer, origin="")
    policy = policy.packed(Packing.shared_prefix, autocast=autocast, say=print)
    rollouts = rollouts_of(policy, 100)
    tokens = int(rollouts.prompt_mask.sum() + rollouts.response_mask.sum() - 8)
    hidden = 2 * 4 * SIZES["hidden_size"]  # the head's rows, which the plan counts elsewhere
    real = really_kept(policy, rollouts)
    expected = kept.once_bytes + (kept.bytes_per_token + hidden) * tokens
    # the CPU's attention is in float32 under autocast too, and keeps the places of its tokens
    assert 0.8 < expected / real < 1.1


def test_checkpointing_keeps_the_inputs_of_layers_alone(folder):
    plain, light = (
        kept_by_autograd(
            HF(name=str(folder), gradient_checkpointing=on).skeleton(cache=folder, say=print),
            autocast=False,
        )
        for on in (False, True)
    )
    layers, hidden = SIZES["num_hidden_layers"], SIZES["hidden_size"]
    assert light.bytes_per_token < plain.bytes_per_token / 5
    assert 4 * hidden * layers <= light.bytes_per_token < 4 * hidden * (layers + 5)


@pytest.mark.parametrize("lora", [LoRA(), LoRA(rank=4)])
def test_weights_gradients_and_moments_are_those_of_a_step(folder, lora):
    dtype = Dtype.bfloat16 if lora.rank else Dtype.float32
    source = HF(name=str(folder), lora=lora, dtype=dtype)
    skeleton = source.skeleton(cache=folder, say=print)
    assert {p.device.type for p in skeleton.parameters()} == {"meta"}
    policy = source.load(
        toy_task(), seed=0, cache=folder, device=torch.device("cpu"), say=lambda line: None
    )
    optimizer = AdamW().build(policy.model)
    for p in policy.model.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    optimizer.step()
    moments = [t for state in optimizer.state.values() for k, t in state.items() if k != "step"]
    real = {
        "weights": [p.detach() for p in policy.model.parameters()],
        "gradients": [p.grad for p in policy.model.parameters() if p.grad is not None],
        "AdamW's moments": moments,
    }
    lines = lasting_lines(Footprint.of(skeleton), TrainerSettings(), size=1, has_reference=False)
    assert {line.what: line.num_bytes for line in lines} == {
        what: sum(t.numel() * t.element_size() for t in tensors) for what, tensors in real.items()
    }


@pytest.mark.parametrize("decoding", [Decoding.static, Decoding.dynamic])
def test_keys_and_values_fill_the_buffers_that_are_planned(decoding):
    policy = toy_policy(steps=0).packed(Packing.shared_prefix, say=print)
    engine = HFRollout(max_new_tokens=40, max_rows=8, decoding=decoding)
    prompts = [Prompt(prompt_id="p", text="tent " * 70, query="", relevance={})] * 2
    length = int(policy.encode(prompts)[1].sum(1).max())
    lines = engine.memory(Footprint.of(policy.model), prompt_tokens=length, shares_prompts=True)
    planned = next(line.num_bytes for line in lines if "keys and values" in line.what)
    engine(policy, prompts, group_size=4, randomness=Randomness(seed=0, step=1))
    if decoding is Decoding.static:
        decoder = engine._slot.decoder
        assert decoder is not None
        own = sum(t.nbytes for pair in decoder.state.own.values() for t in pair)
        assert own < planned
        assert planned / (own + 4 * decoder.of_prompts.nbytes) == 1  # of 8 prompts, not 2
    else:
        token = Footprint.of(policy.model).cache_numbers * 4
        assert planned == 8 * (2 * 40 + length) * token


def test_a_plan_adds_up_and_names_the_largest_line(folder):
    source = HF(name=str(folder))
    settings = TrainerSettings(prompts_per_step=4, group_size=8, tokens_per_microbatch=10**6)
    engine = HFRollout(max_new_tokens=32, dtype=Dtype.bfloat16)

    def plan(settings, *, size=1, has_reference=False):
        model = source.skeleton(cache=folder, say=print)
        return memory_plan(
            model, settings, engine, prompt_tokens=20, size=size, has_reference=has_reference
        )

    one = plan(settings)
    lasting, sampling, update = (one.of(phase) for phase in Phase)
    assert one.peak == lasting + max(sampling, update)
    assert one.largest.what in one.text()
    assert "activations of 1,104 tokens" in one.text()  # 4 prompts of 20 and 32 responses of 32
    more = plan(settings, has_reference=True)
    numbers = Footprint.of(source.skeleton(cache=folder, say=print)).numbers
    assert more.peak - one.peak == 4 * numbers
    small = plan(TrainerSettings(prompts_per_step=4, group_size=8, tokens_per_microbatch=100))
    assert small.peak < one.peak
    nothing = plan(TrainerSettings(steps=0, prompts_per_step=4))
    assert nothing.of(Phase.update) == 0
    assert nothing.of(Phase.always) == 4 * numbers + 2 * numbers


def test_parts_of_weights_are_shared_and_gathered():
    with torch.device("meta"):
        sizes = Footprint.of(MODELS["llama"]())
    settings = TrainerSettings(weights=Weights.sharded, compute_dtype=Dtype.bfloat16)
    lines = lasting_lines(sizes, settings, size=8, has_reference=True)
    assert sum(line.num_bytes for line in lines) == pytest.approx(5 * 4 * sizes.numbers / 8, abs=4)
    whole, units = sharded_lines(sizes, settings)
    assert whole.num_bytes == 2 * sizes.numbers
    assert units.num_bytes == 4 * 2 * SIZES["vocab_size"] * SIZES["hidden_size"] + 4 * 64
    assert sharded_lines(sizes, TrainerSettings()) == []


def test_a_published_model_s_plan_is_its_arithmetic(tmp_path):
    """Qwen2.5-7B with adapters, and all of Qwen3-0.6B, from their configs alone."""
    large = Qwen2Config(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=2,
        num_attention_heads=28,
        num_key_value_heads=4,
        architectures=["Qwen2ForCausalLM"],
    )
    large.save_pretrained(tmp_path)
    source = HF(name=str(tmp_path), lora=LoRA(rank=32), dtype=Dtype.bfloat16)
    sizes = Footprint.of(source.skeleton(cache=tmp_path, say=print))
    layer = 3584 * 3584 * 2 + 2 * 3584 * 512 + 3 * 3584 * 18944 + 3584 + 2 * 512 + 2 * 3584
    adapters = 32 * (4 * 3584 + 2 * (3584 + 512) + 3 * (3584 + 18944))
    assert sizes.numbers == 2 * (layer + adapters) + 2 * 152064 * 3584 + 3584
    assert sizes.trained_bytes == 4 * 2 * adapters
    assert sizes.cache_numbers == 2 * 2 * 4 * 128
    assert MemoryPlan(lines=(MemoryLine(what="x", num_bytes=2**30),)).text().count("1.000 GiB") == 2
