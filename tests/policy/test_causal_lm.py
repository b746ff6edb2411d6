"""Log-probs against a plain forward pass, encoding, end tokens, export."""

import os
import stat
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlcredit.policy.base import Policy
from rlcredit.policy.causal_lm import CausalLM, end_ids, positions, token_logprobs
from rlcredit.types import Prompt, Rollouts
from tests.policy.toy import toy_policy

TEXTS = ("tent", "lamp for a long winter hike", "boots for two")
RESPONSES = (
    (("tent, red", True), ("", True)),
    (("soft, quiet, light", False), ("red", True)),
    (("boots", True), ("very warm, steel, for winter", True)),
)


def prompt(text: str) -> Prompt:
    return Prompt(prompt_id=text, text=text, query=text, relevance={})


@pytest.fixture(scope="module")
def policy() -> CausalLM:
    return toy_policy(steps=0, dtype=torch.float64)


def written(policy: CausalLM, *, temperature: float = 1.0) -> Rollouts:
    """Responses of different lengths (an empty one among them) to prompts of different lengths."""
    prompts = tuple(prompt(text) for text in TEXTS)
    ids, mask = policy.encode(prompts)
    rows = [
        [
            policy.tokenizer(text, add_special_tokens=False)["input_ids"]
            + [policy.tokenizer.eos_token_id] * ended
            for text, ended in group
        ]
        for group in RESPONSES
    ]
    longest = max(len(row) for group in rows for row in group) + 2
    shape = (len(rows), 2, longest)
    response_ids = torch.zeros(shape, dtype=torch.long)
    response_mask = torch.zeros(shape, dtype=torch.bool)
    for p, group in enumerate(rows):
        for g, row in enumerate(group):
            response_ids[p, g, : len(row)] = torch.tensor(row)
            response_mask[p, g, : len(row)] = True
    return Rollouts(
        prompts=prompts,
        texts=tuple(tuple(text for text, _ in group) for group in RESPONSES),
        prompt_ids=ids,
        prompt_mask=mask,
        response_ids=response_ids,
        response_mask=response_mask,
        char_spans=torch.zeros(*shape, 2, dtype=torch.long),
        rollout_logprobs=torch.zeros(shape, dtype=torch.float64),
        finished=torch.tensor([[ended for _, ended in group] for group in RESPONSES]),
        temperature=temperature,
    )


def plainly(policy: CausalLM, rollouts: Rollouts) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs and entropies, row by row, without padding."""
    logprobs = torch.zeros(rollouts.response_mask.shape, dtype=torch.float64)
    entropy = torch.zeros_like(logprobs)
    for p, text in enumerate(TEXTS):
        question = policy.tokenizer(text)["input_ids"]
        for g in range(2):
            answer = rollouts.response_ids[p, g][rollouts.response_mask[p, g]].tolist()
            ids = torch.tensor([[*question, *answer]])
            logits = policy.model(input_ids=ids).logits[0] / rollouts.temperature
            every = logits.log_softmax(-1)[len(question) - 1 : -1]
            logprobs[p, g, : len(answer)] = every.gather(1, torch.tensor(answer)[:, None])[:, 0]
            entropy[p, g, : len(answer)] = -(every.exp() * every).sum(-1).detach()
    return logprobs, entropy


def gradients(policy: CausalLM) -> list[torch.Tensor]:
    found = [p.grad.clone() for p in policy.model.parameters() if p.grad is not None]
    policy.model.zero_grad()
    return found


def test_it_is_a_policy(policy: CausalLM):
    assert isinstance(policy, Policy)
    assert "made from scratch" in policy.description
    assert f"{policy.model.num_parameters():,} parameters" in policy.description


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_and_gradients_equal_unpadded_rows(policy: CausalLM, temperature: float):
    rollouts = written(policy, temperature=temperature)
    expected, entropy = plainly(policy, rollouts)
    weights = torch.arange(expected.numel(), dtype=torch.float64).view_as(expected).sin()
    (expected * weights).sum().backward()
    expected_gradients = gradients(policy)
    scored = policy.logprobs(rollouts)
    (scored.logprobs.view_as(weights) * weights).sum().backward()
    for mine, theirs in zip(gradients(policy), expected_gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        scored.logprobs.view_as(expected), expected.detach(), rtol=0, atol=1e-9, check_dtype=True
    )
    torch.testing.assert_close(scored.entropy.view_as(entropy), entropy, rtol=0, atol=1e-9)
    assert not scored.entropy.requires_grad


def test_rows_of_a_batch_are_the_batch_s_rows(policy: CausalLM):
    rollouts = written(policy)
    whole = policy.logprobs(rollouts)
    for rows in (slice(0, 1), slice(1, 4), slice(3, 6), slice(1, 2), slice(None, None, 2)):
        part = policy.logprobs(rollouts, rows)
        torch.testing.assert_close(part.logprobs, whole.logprobs[rows], rtol=0, atol=1e-9)
        torch.testing.assert_close(part.entropy, whole.entropy[rows], rtol=0, atol=1e-9)


def test_nothing_outside_the_mask_has_a_log_prob_or_matters(policy: CausalLM):
    rollouts = written(policy)
    outside = ~rollouts.response_mask
    other = torch.where(outside, 7, rollouts.response_ids)
    blank = torch.where(rollouts.prompt_mask, rollouts.prompt_ids, 9)
    changed = replace(rollouts, response_ids=other, prompt_ids=blank)
    mine, theirs = policy.logprobs(rollouts).logprobs, policy.logprobs(changed).logprobs
    assert float(mine.detach()[outside.flatten(0, 1)].abs().max()) == 0.0
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9)


def test_a_half_precision_model_is_scored_in_float32():
    policy = toy_policy(steps=0, dtype=torch.bfloat16)
    rollouts = written(policy)
    scored = policy.logprobs(rollouts)
    exact, _ = plainly(toy_policy(steps=0, dtype=torch.float64), rollouts)
    assert scored.logprobs.dtype == torch.float32
    assert float((scored.logprobs.detach().view_as(exact) - exact.detach()).abs().max()) < 0.2


def test_token_log_probs_by_hand():
    logits = torch.tensor([[[0.1, 0.6, 0.3]]]).log()
    scored = token_logprobs(logits, torch.tensor([[1]]), temperature=1.0)
    assert float(scored.logprobs.exp()) == pytest.approx(0.6)
    by_hand = 0.1 * 2.302585 + 0.6 * 0.510826 + 0.3 * 1.203973
    assert float(scored.entropy) == pytest.approx(by_hand, abs=1e-5)
    cold = token_logprobs(logits, torch.tensor([[1]]), temperature=0.5)
    assert float(cold.logprobs.exp()) == pytest.approx(0.36 / (0.01 + 0.36 + 0.09))


def test_a_forbidden_token_leaves_the_entropy_finite():
    logits = torch.tensor([[[0.0, 0.0, float("-inf")]]])
    scored = token_logprobs(logits, torch.tensor([[0]]), temperature=1.0)
    assert float(scored.entropy) == pytest.approx(0.693147, abs=1e-6)


def test_prompts_are_left_padded_and_end_with_the_separator(policy: CausalLM):
    ids, mask = policy.encode([prompt(text) for text in TEXTS])
    for row, kept, text in zip(ids, mask, TEXTS, strict=True):
        alone = policy.tokenizer(text)["input_ids"]
        assert row[kept].tolist() == alone
        assert kept.tolist() == [False] * (len(kept) - len(alone)) + [True] * len(alone)
        assert alone[-1] == policy.tokenizer.sep_token_id
        assert set(row[~kept].tolist()) <= {policy.tokenizer.pad_token_id}


def test_positions_count_from_the_first_token_of_a_prompt():
    mask = torch.tensor([[False, False, True, True, True], [True, True, True, True, False]])
    assert positions(mask).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 3]]


def test_a_chat_template_gets_the_instruction_and_the_text():
    policy = toy_policy(steps=0)
    policy.tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }};{% endfor %}"
        "{% if loud %} LOUD{% endif %}{% if add_generation_prompt %} answer:{% endif %}"
    )
    loud = CausalLM(
        model=policy.model, tokenizer=policy.tokenizer, origin="", chat_options={"loud": True}
    )
    asked = replace(prompt("a tent"), instruction="be brief")

    def read(by: CausalLM, what: Prompt) -> str:
        return by.tokenizer.decode(by.encode([what])[0][0].tolist())

    assert read(policy, asked) == "system: be brief;user: a tent; answer:"
    assert read(loud, asked) == "system: be brief;user: a tent; LOUD answer:"
    assert read(policy, prompt("a tent")) == "user: a tent; answer:"


def test_a_chat_template_that_refuses_a_system_message_is_named():
    policy = toy_policy(steps=0)
    policy.tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(ValueError, match=r"prompt 'tent'.*no system role"):
        policy.encode([prompt("tent")])


def test_a_prompt_without_a_token_is_refused():
    policy = toy_policy(steps=0)
    policy.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(ValueError, match="'' has no token"):
        policy.encode([prompt("")])


def test_a_prompt_longer_than_the_context_is_refused_with_its_length(policy: CausalLM):
    words = "tent" + " tent" * 511
    num_tokens = len(policy.tokenizer(words)["input_ids"])
    with pytest.raises(ValueError, match=rf"has {num_tokens} tokens.*512 of the model's 512"):
        policy.encode([prompt(words)])


def test_all_end_tokens_of_the_generation_config_and_the_tokenizer_count():
    policy = toy_policy(steps=0)
    assert policy.eos_ids == {policy.tokenizer.eos_token_id}
    policy.model.generation_config.eos_token_id = [7, 9]
    assert end_ids(policy.model, policy.tokenizer) == {7, 9, policy.tokenizer.eos_token_id}
    policy.model.generation_config.eos_token_id = None
    policy.tokenizer.eos_token = None
    with pytest.raises(ValueError, match=r"eos_token_id in its generation_config\.json"):
        CausalLM(model=policy.model, tokenizer=policy.tokenizer, origin="")


def test_an_exported_folder_loads_as_the_same_model(tmp_path: Path):
    policy = toy_policy()
    umask = os.umask(0o027)
    try:
        policy.export(tmp_path)
    finally:
        os.umask(umask)
    weights = tmp_path / "model.safetensors"
    assert stat.S_IMODE(weights.stat().st_mode) == 0o640  # as every file of the group
    again = CausalLM(
        model=AutoModelForCausalLM.from_pretrained(tmp_path),
        tokenizer=AutoTokenizer.from_pretrained(tmp_path),
        origin="",
    )
    rollouts = written(policy)
    assert torch.equal(again.encode(rollouts.prompts)[0], rollouts.prompt_ids)
    assert torch.equal(again.logprobs(rollouts).logprobs, policy.logprobs(rollouts).logprobs)
    assert again.eos_ids == policy.eos_ids


def test_a_deep_copy_is_a_policy_of_its_own(policy: CausalLM):
    frozen, rollouts = deepcopy(policy), written(policy)
    before = frozen.logprobs(rollouts).logprobs.detach()
    assert torch.equal(before, policy.logprobs(rollouts).logprobs.detach())
    with torch.no_grad():
        frozen.model.get_input_embeddings().weight.mul_(2)
    assert torch.equal(before, policy.logprobs(rollouts).logprobs.detach())
    assert frozen.eos_ids == policy.eos_ids
