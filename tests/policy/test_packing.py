"""Prompts computed once: the same log-probs, entropies and gradients as a row per response."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rlcredit.policy.attention import PackAttention, masked_attention, obstacle, pack_mask
from rlcredit.policy.causal_lm import CausalLM, token_logprobs
from rlcredit.policy.draws import global_stream
from rlcredit.policy.head import head_logprobs
from rlcredit.policy.hf import HF, LoRA
from rlcredit.policy.packing import Pack, Packing
from rlcredit.types import Prompt, Randomness, Rollouts
from tests.policy.toy import toy_policy, toy_task

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8)),
}
RAGGED = [[5, 0, 1, 3], [0, 0, 0, 0], [6, 2, 6, 1]], [7, 3, 4]
"""Lengths of responses (an end token included) and of prompts; one group is all empty."""
EVEN = [[4, 4], [4, 4]], [5, 5]
ONE = [[3]], [2]
SINGLE_TOKENS = [[1, 1], [1, 1]], [3, 6]
EXACT = {"rtol": 1e-9, "atol": 1e-9}


def policy_of(model, dtype=torch.float64):
    tokenizer = toy_policy(steps=0).tokenizer
    with global_stream(Randomness(seed=1, step=0).generator("weights")):
        made = model()
    policy = CausalLM(model=made.to(dtype), tokenizer=tokenizer, origin="random")
    return policy.packed(Packing.padded, say=print)


def written(lengths, prompt_lengths, *, temperature=1.0):
    """Random tokens in responses and prompts of these lengths."""
    generator = Randomness(seed=2, step=0).generator("tokens")
    responses, prompts = torch.tensor(lengths), torch.tensor(prompt_lengths)
    width, longest = max(1, int(responses.max())), int(prompts.max())
    mask = torch.arange(width) < responses[..., None]
    ids = torch.randint(2, 50, mask.shape, generator=generator)
    prompt_mask = torch.arange(longest).flip(0) < prompts[:, None]
    return Rollouts(
        prompts=tuple(
            Prompt(prompt_id=str(i), text="", query="", relevance={}) for i in range(len(prompts))
        ),
        texts=tuple(("",) * responses.shape[1] for _ in prompts),
        prompt_ids=torch.randint(2, 50, prompt_mask.shape, generator=generator),
        prompt_mask=prompt_mask,
        response_ids=ids,
        response_mask=mask,
        char_spans=torch.zeros(*mask.shape, 2, dtype=torch.long),
        rollout_logprobs=torch.zeros(mask.shape),
        finished=torch.ones(mask.shape[:2], dtype=torch.bool),
        temperature=temperature,
    )


def scored(policy, rollouts, rows=slice(None)):
    """Log-probs, entropy, and the gradients of a weighted sum."""
    generator = Randomness(seed=3, step=0).generator("weights")
    mask = rollouts.response_mask.flatten(0, 1)
    weights = torch.randn(mask.shape, generator=generator, dtype=torch.float64)[rows]
    policy.model.zero_grad(set_to_none=True)
    found = policy.logprobs(rollouts, rows)
    (found.logprobs * weights.to(found.logprobs)).sum().backward()
    grads = [p.grad for p in policy.model.parameters() if p.requires_grad]
    grads = [torch.zeros(1) if grad is None else grad.flatten() for grad in grads]
    return found.logprobs.detach(), found.entropy, torch.cat(grads)


def assert_same(policy, rollouts, rows=slice(None), **tolerance):
    packed = policy.packed(Packing.shared_prefix, say=print)
    assert packed.packing is Packing.shared_prefix
    expected = scored(policy.packed(Packing.padded, say=print), rollouts, rows)
    for mine, theirs in zip(scored(packed, rollouts, rows), expected, strict=True):
        torch.testing.assert_close(mine, theirs, **tolerance)


@pytest.mark.parametrize("layout", [RAGGED, EVEN, ONE, SINGLE_TOKENS])
@pytest.mark.parametrize("model", MODELS)
def test_the_packed_path_is_the_padded_one_in_float64(model, layout):
    assert_same(policy_of(MODELS[model]), written(*layout, temperature=0.7), **EXACT)


def test_the_packed_path_is_the_padded_one_in_float32():
    rollouts = written(*RAGGED)
    policy = policy_of(MODELS["qwen3"], torch.float32)
    packed = policy.packed(Packing.shared_prefix, say=print)
    mine, theirs = scored(packed, rollouts), scored(policy, rollouts)
    # rounding of float32, 6e-8, times the 24 terms of a sum, times log-probs of up to 7
    torch.testing.assert_close(mine[0], theirs[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(mine[1], theirs[1], rtol=0, atol=1e-5)
    assert float((mine[2] - theirs[2]).norm() / theirs[2].norm()) < 1e-5


@pytest.mark.parametrize("packing", list(Packing))
def test_squares_are_those_of_the_whole_distribution_and_come_only_when_asked_for(packing):
    rollouts = written(*RAGGED, temperature=0.7)
    policy = policy_of(MODELS["llama"]).packed(packing, say=print)
    assert policy.logprobs(rollouts).sum_pi_squared is None
    found = policy.logprobs(rollouts, squares=True)
    plain = policy.logprobs(rollouts)
    assert torch.equal(found.logprobs, plain.logprobs)
    assert torch.equal(found.entropy, plain.entropy)
    mask = rollouts.response_mask.flatten(0, 1)
    for row, response in enumerate(rollouts.response_ids.flatten(0, 1)):
        owner = row // rollouts.response_ids.shape[1]
        prompt = rollouts.prompt_ids[owner][rollouts.prompt_mask[owner]]
        ids = torch.cat([prompt, response[mask[row]]])
        logits = policy_of(MODELS["llama"]).model(input_ids=ids[None]).logits[0]
        chances = (logits / 0.7).softmax(-1)[len(prompt) - 1 : -1]
        squares = chances.square().sum(-1)
        torch.testing.assert_close(found.sum_pi_squared[row][mask[row]], squares, **EXACT)
    assert (found.sum_pi_squared[~mask] == 0).all()
    assert not found.sum_pi_squared.requires_grad


@pytest.mark.parametrize("rows", [slice(0, 1), slice(2, 7), slice(4, 8), slice(1, 12, 3)])
def test_any_rows_of_a_batch_are_the_padded_ones(rows):
    assert_same(policy_of(MODELS["qwen3"]), written(*RAGGED), rows, **EXACT)


def test_a_batch_without_a_token_has_no_log_prob_and_no_gradient():
    rollouts = written([[0, 0]], [3])
    packed = policy_of(MODELS["qwen3"]).packed(Packing.shared_prefix, say=print)
    found, entropy, grads = scored(packed, rollouts)
    assert float(found.abs().max()) == float(entropy.abs().max()) == float(grads.abs().max()) == 0


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("rank", [0, 3])
def test_adapters_and_gradient_checkpointing_change_nothing(tmp_path, rank, checkpointing):
    toy_policy(steps=0).export(tmp_path)
    source = HF(name=str(tmp_path), lora=LoRA(rank=rank), gradient_checkpointing=checkpointing)
    policy = source.load(
        toy_task(), seed=0, cache=tmp_path, device=torch.device("cpu"), say=lambda line: None
    )
    with torch.no_grad():  # adapters start as nothing
        for index, weight in enumerate(p for p in policy.model.parameters() if p.requires_grad):
            noise = Randomness(seed=5, step=0).generator("noise", index)
            weight += 0.05 * torch.randn(weight.shape, generator=noise)
    policy.model.double()
    assert policy.model.is_gradient_checkpointing == checkpointing
    assert_same(policy.packed(Packing.padded, say=print), written(*RAGGED), **EXACT)


def test_siblings_do_not_see_each_other():
    policy = policy_of(MODELS["qwen3"]).packed(Packing.shared_prefix, say=print)
    rollouts = written(*RAGGED)
    ids = rollouts.response_ids.clone()
    ids[:, 0] = 9
    changed = policy.logprobs(replace(rollouts, response_ids=ids)).logprobs.unflatten(0, (3, 4))
    before = policy.logprobs(rollouts).logprobs.unflatten(0, (3, 4))
    torch.testing.assert_close(changed[:, 1:], before[:, 1:], rtol=0, atol=1e-12)
    assert float((changed - before)[0, 0].abs().max().detach()) > 1e-3


def test_a_pack_holds_each_prompt_once_and_no_last_token():
    rollouts = written(*RAGGED)
    pack = Pack.of(rollouts)
    assert pack.num_prompt_tokens == 7 + 3 + 4
    assert len(pack.ids) == 14 + (4 + 0 + 2) + (5 + 1 + 5 + 0)
    assert pack.positions[14:].tolist()[:6] == [7, 8, 9, 10, 7, 8]
    assert len(pack.targets) == int(rollouts.response_mask.sum())
    assert pack.heads_of.tolist() == sorted(pack.heads_of.tolist())


@pytest.mark.parametrize("layout", [RAGGED, EVEN, ONE, SINGLE_TOKENS])
def test_the_split_attention_is_the_masked_one(layout):
    pack = Pack.of(written(*layout))
    generator = Randomness(seed=4, step=0).generator("attention")
    shapes = [(4, 8), (2, 8), (2, 8)]
    q, k, v = (
        torch.randn(len(pack.ids), *shape, generator=generator, dtype=torch.float64)
        for shape in shapes
    )
    towards = torch.randn(q.shape, generator=generator, dtype=torch.float64)
    found = []
    for plain in (False, True):
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        if plain:
            out = masked_attention(*leaves, pack, 0.3, pack_mask(pack))
        else:
            rows = [x.transpose(0, 1)[None] for x in leaves]
            out = PackAttention(pack).attend(*rows, layer=0, scale=0.3)[0]
        (out * towards).sum().backward()
        found.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_the_device_independent_attention_gives_the_same_model(monkeypatch):
    policy, rollouts = policy_of(MODELS["llama"]), written(*RAGGED)
    expected = scored(policy, rollouts)
    masked = partial(PackAttention, split=False)
    monkeypatch.setattr("rlcredit.policy.causal_lm.PackAttention", masked)
    packed = policy.packed(Packing.shared_prefix, say=print)
    for mine, theirs in zip(scored(packed, rollouts), expected, strict=True):
        torch.testing.assert_close(mine, theirs, **EXACT)


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_chunked_head_is_the_plain_one(chunk, temperature):
    generator = Randomness(seed=6, step=0).generator("head")
    hidden = torch.randn(7, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(11, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    rows, targets = torch.tensor([0, 0, 2, 3, 3, 3, 6]), torch.tensor([1, 1, 10, 0, 4, 4, 7])
    towards = torch.randn(7, generator=generator, dtype=torch.float64)
    chosen, entropy, _ = head_logprobs(
        hidden, weight, rows, targets, temperature=temperature, chunk=chunk
    )
    (chosen * towards).sum().backward()
    mine = [chosen.detach(), entropy[rows], hidden.grad.clone(), weight.grad.clone()]
    hidden.grad = weight.grad = None
    logits = (hidden @ weight.T)[None, rows]
    plain = token_logprobs(logits, targets[None], temperature=temperature)
    (plain.logprobs * towards).sum().backward()
    expected = [plain.logprobs[0].detach(), plain.entropy[0], hidden.grad, weight.grad]
    for found, theirs in zip(mine, expected, strict=True):
        torch.testing.assert_close(found, theirs, rtol=1e-10, atol=1e-12)
    assert not entropy.requires_grad


def test_a_frozen_head_gets_no_gradient():
    hidden = torch.randn(3, 4, generator=torch.Generator(), requires_grad=True)
    weight = torch.ones(6, 4)
    chosen, *_ = head_logprobs(
        hidden, weight, torch.tensor([0, 1]), torch.tensor([5, 2]), temperature=1.0
    )
    chosen.sum().backward()
    assert weight.grad is None
    assert hidden.grad is not None


def test_autocast_stays_near_float32():
    rollouts, policy = written(*RAGGED), toy_policy()
    exact = scored(policy.packed(Packing.shared_prefix, say=print), rollouts)
    fast = policy.packed(Packing.shared_prefix, autocast=True, say=print)
    logprobs, entropy, grads = scored(fast, rollouts)
    assert logprobs.dtype == entropy.dtype == grads.dtype == torch.float32
    assert 0 < float((logprobs - exact[0]).abs().max()) < 0.15
    assert float(torch.cosine_similarity(grads, exact[2], dim=0)) > 0.998


def test_a_model_that_cannot_take_it_stays_padded_and_says_why():
    said = []
    no_dropout = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0, "bos_token_id": 1}
    gpt2 = policy_of(lambda: GPT2LMHeadModel(GPT2Config(**SIZES, **no_dropout)))
    kept = gpt2.packed(Packing.shared_prefix, say=said.append)
    assert kept.packing is Packing.padded
    assert "GPT2LMHeadModel is none of LlamaForCausalLM" in said[0]
    mine, theirs = kept.logprobs(written(*EVEN)), gpt2.logprobs(written(*EVEN))
    assert torch.equal(mine.logprobs, theirs.logprobs)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"attention_dropout": 0.1}, "dropout 0.1"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding window"),
    ],
)
def test_what_shared_prompts_cannot_do_is_named(change, reason):
    model = Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8))
    for name, value in change.items():
        setattr(model.config, name, value)
    assert reason in obstacle(model)


def test_eager_attention_and_a_head_with_a_bias_are_named():
    model = MODELS["llama"]()
    model.set_attn_implementation("eager")
    assert "eager, not sdpa" in obstacle(model)
    model.set_attn_implementation("sdpa")
    model.lm_head = torch.nn.Linear(16, 50)
    assert "bias" in obstacle(model)
