"""The policy that training started from: of adapters, what is there with them switched off."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch

from rlcredit.credit.ratio import KL
from rlcredit.estimators.grpo import GRPO
from rlcredit.losses.surrogate import ClippedSurrogate
from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.hf import HF, Dtype, LoRA
from rlcredit.policy.packing import Packing
from rlcredit.policy.reference import Reference, WithoutAdapters
from rlcredit.rollout.hf import HFRollout
from rlcredit.scoring.scorer import Scorer
from rlcredit.text.segmenters import Phrases
from rlcredit.trainer.loop import Trainer
from rlcredit.trainer.optim import AdamW
from rlcredit.trainer.settings import TrainerSettings
from rlcredit.types import Randomness
from tests.policy.toy import toy_policy, toy_prompts, toy_task
from tests.trainer.test_loop import Shortness


@pytest.fixture(params=list(Packing))
def adapted(tmp_path: Path, request: pytest.FixtureRequest) -> CausalLM:
    toy_policy().export(tmp_path)
    source = HF(name=str(tmp_path), dtype=Dtype.float64, lora=LoRA(rank=2))
    made = source.load(
        toy_task(), seed=0, cache=tmp_path, device=torch.device("cpu"), say=lambda line: None
    )
    return made.packed(request.param, say=lambda line: None)


def trained(policy: CausalLM, reference: Reference) -> Trainer:
    made = Trainer(
        settings=TrainerSettings(
            steps=3, prompts_per_step=3, group_size=4, optimizer=AdamW(lr=0.1)
        ),
        policy=policy,
        rollout=HFRollout(max_new_tokens=6),
        scorer=Scorer(reward=Shortness(), rules=toy_task().rules, segmenter=Phrases()),
        estimator=GRPO(),
        loss=ClippedSurrogate(kl_coef=0.5, kl=KL.k3_plus),
        prompts=toy_prompts()[:7],
        seed=3,
        reference=reference,
    )
    made.step(1)
    made.step(2)
    return made


def test_adapters_that_are_off_give_the_log_probs_of_the_start(adapted: CausalLM):
    assert adapted.adapters is not None
    start = deepcopy(adapted)
    off = WithoutAdapters(policy=adapted, adapters=adapted.adapters)
    trained(adapted, off)
    rollouts = HFRollout(max_new_tokens=6)(
        adapted, toy_prompts()[:3], group_size=2, randomness=Randomness(seed=0, step=9)
    )
    with torch.no_grad():
        at_start = start.logprobs(rollouts).logprobs
        torch.testing.assert_close(off.logprobs(rollouts).logprobs, at_start, rtol=0, atol=1e-12)
        now = adapted.logprobs(rollouts).logprobs
    assert float((now - at_start).abs().max()) > 0.01, "the adapters are on again"
    assert any(p.requires_grad for p in adapted.model.parameters())


def test_training_held_to_it_is_training_held_to_a_copy(adapted: CausalLM):
    assert adapted.adapters is not None
    other = deepcopy(adapted)
    assert other.adapters is not None
    trained(adapted, WithoutAdapters(policy=adapted, adapters=adapted.adapters))
    trained(other, deepcopy(other))
    for got, want in zip(adapted.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
