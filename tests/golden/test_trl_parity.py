"""Advantages, losses and gradients equal to the last digits to those that TRL computed."""

import json
from pathlib import Path

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from rlcredit.credit.group import group_relative
from rlcredit.losses import ClippedSurrogate
from rlcredit.losses.surrogate import Aggregation, Objective, Ratio
from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.packing import Packing
from rlcredit.trainer.backward import accumulate
from rlcredit.types import Prompt, Rollouts, UpdateBatch
from tests.policy.toy import toy_policy

GOLDEN = json.loads((Path(__file__).parent / "trl.json").read_text())
GROUP_SIZE = GOLDEN["group_size"]
SEQUENCES = Aggregation.sequence_mean
OURS = {
    "grpo": ClippedSurrogate(aggregation=SEQUENCES),
    "dapo": ClippedSurrogate(clip_high=0.28),
    "dr_grpo": ClippedSurrogate(
        aggregation=Aggregation.constant, max_tokens=GOLDEN["max_completion_length"]
    ),
    "gspo": ClippedSurrogate(aggregation=SEQUENCES, ratio=Ratio.sequence, clip_high=0.3),
    "cispo": ClippedSurrogate(objective=Objective.cispo, clip_low=None, clip_high=0.1),
    "kl": ClippedSurrogate(aggregation=SEQUENCES, kl_coef=0.1),
    "dual_clip": ClippedSurrogate(aggregation=SEQUENCES, dual_clip=1.25),
}


def grouped(name):
    """A stored tensor as [P, G, ...]."""
    value = torch.tensor(GOLDEN["batch"][name])
    value = value.double() if value.is_floating_point() else value
    return value.unflatten(0, (-1, GROUP_SIZE))


def policy():
    model = Qwen3ForCausalLM(Qwen3Config(**GOLDEN["config"])).double()
    model.load_state_dict(
        {name: torch.tensor(w).double() for name, w in GOLDEN["weights"].items()}, strict=False
    )
    model.tie_weights()
    return model


def logprobs_of(model):
    """Log-probs of the completions, as [P, G, T]."""
    batch = {name: torch.tensor(value) for name, value in GOLDEN["batch"].items()}
    prompt, completion = batch["prompt_ids"], batch["completion_ids"]
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    length = completion.shape[1]
    logits = model(torch.cat([prompt, completion], dim=1), attention_mask=mask).logits
    chosen = logits[:, -length - 1 : -1].log_softmax(-1).gather(-1, completion.unsqueeze(-1))
    return chosen.squeeze(-1).unflatten(0, (-1, GROUP_SIZE))


def update_batch():
    mask = grouped("completion_mask").bool()
    advantages = grouped("advantages")
    return UpdateBatch(
        advantages=torch.where(mask, advantages.unsqueeze(-1), 0),
        response_mask=mask,
        old_logprobs=grouped("old_per_token_logps"),
        rollout_logprobs=grouped("old_per_token_logps"),
        ref_logprobs=grouped("ref_per_token_logps"),
        num_tokens=int(mask.sum()),
        num_rollouts=mask.shape[0] * GROUP_SIZE,
        num_prompts=mask.shape[0],
    )


def test_the_golden_file_says_what_made_it():
    assert GOLDEN["versions"]["trl"].startswith("1.16")
    assert set(GOLDEN["variants"]) == set(OURS)


def test_advantages_are_trls():
    rewards = torch.tensor(GOLDEN["rewards"]).unflatten(0, (-1, GROUP_SIZE))
    torch.testing.assert_close(
        group_relative(rewards).double(), grouped("advantages"), rtol=0, atol=1e-6
    )


def test_the_policy_is_trls():
    expected = torch.tensor(GOLDEN["logprobs"]).double().unflatten(0, (-1, GROUP_SIZE))
    mask = update_batch().response_mask
    found = logprobs_of(policy())
    torch.testing.assert_close(found[mask], expected[mask], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(OURS))
def test_losses_and_gradients_are_trls(name):
    stored = GOLDEN["variants"][name]
    model = policy()
    result = OURS[name](logprobs_of(model), update_batch())
    assert result.value.item() == pytest.approx(stored["loss"], abs=1e-6)
    result.value.backward()
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
    found = torch.cat([g.flatten() for g in gradients])
    expected = torch.tensor(stored["gradient"]).double()
    assert expected.norm() > 0.05
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_gradient_with_shared_prompts_is_trls_on_its_own_batch(name):
    model, update = policy(), update_batch()
    mask, prompts = update.response_mask, grouped("prompt_ids")[:, 0]
    assert (grouped("prompt_ids") == prompts[:, None]).all()
    rollouts = Rollouts(
        prompts=tuple(
            Prompt(prompt_id=str(i), text="", query="", relevance={}) for i in range(len(prompts))
        ),
        texts=tuple(("",) * GROUP_SIZE for _ in prompts),
        prompt_ids=prompts,
        prompt_mask=grouped("prompt_mask")[:, 0].bool(),
        response_ids=grouped("completion_ids"),
        response_mask=mask,
        char_spans=torch.zeros(*mask.shape, 2, dtype=torch.long),
        rollout_logprobs=update.rollout_logprobs,
        finished=mask.any(2),
    )
    made = CausalLM(model=model, tokenizer=toy_policy(steps=0).tokenizer, origin="TRL's")
    packed = made.packed(Packing.shared_prefix, say=print)
    chunks = [slice(0, 3), slice(3, 8)]
    accumulate(packed, OURS[name], rollouts, update, chunks=chunks, on_policy=False)
    found = torch.cat([p.grad.flatten() for p in model.parameters()])
    expected = torch.tensor(GOLDEN["variants"][name]["gradient"]).double()
    assert float((found - expected).norm() / expected.norm()) < 1e-5


def test_the_variants_differ_from_one_another():
    losses = [variant["loss"] for variant in GOLDEN["variants"].values()]
    assert len({round(loss, 5) for loss in losses}) == len(losses)
