"""Whole steps on a GPU that is only said to be one: no tensor is made on the other device."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rlcredit.estimators import GRPO, OSPO, Myerson, SetPO, Weighted
from rlcredit.losses import LPO, ClippedSurrogate
from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.packing import Packing
from rlcredit.retrieval.encoders import Hashing
from rlcredit.rollout.hf import Decoding, HFRollout
from rlcredit.rollout.static import StaticDecoder
from rlcredit.scoring.scorer import Scorer
from rlcredit.text import Phrases
from rlcredit.trainer.loop import Trainer
from rlcredit.trainer.settings import TrainerSettings
from rlcredit.types import Randomness
from tests.forked import FORKED
from tests.policy.toy import toy_policy, toy_prompts, toy_task
from tests.pretended_gpu import NAME, OnGPU, pretended


class Letters:
    """The number of different letters of a text, over 100."""

    def __call__(self, prompts, texts):
        return torch.tensor([len(set(text)) / 100 for text in texts])


def alone(function, *arguments):
    """Call a function in a process of its own: torch learns of a device before its first gradient,
    or never, and a process of tests has taken many."""
    process = FORKED.Process(target=function, args=arguments)
    process.start()
    process.join(timeout=300)
    assert process.exitcode == 0, "its error is printed above"


def test_tensors_of_two_devices_do_not_meet():
    alone(on_gpu, two_devices)


def on_gpu(function, *arguments):
    """Call it with a device that is said to be a GPU."""
    with pretended() as gpu:
        function(gpu, *arguments)


def two_devices(gpu):
    here, there = torch.ones(3), torch.ones(3, device=gpu)
    assert isinstance(there, OnGPU)
    assert (there + 1).sum().item() == 6
    assert there.cpu().device.type == "cpu"
    assert here.to(gpu).tolist() == [1, 1, 1]
    with pytest.raises(RuntimeError, match="on the GPU and on the CPU"):
        here + there


def moved(policy, device):
    """Onto the device; embeddings and head, which are one weight, are made one again."""
    policy.model.to(device)
    policy.model.tie_weights()


CASES = {
    "ospo": (OSPO(value=Myerson(), construction=Weighted()), ClippedSurrogate()),
    "setpo": (SetPO(base=GRPO()), ClippedSurrogate()),
    "lpo": (GRPO(), LPO()),
    "grpo, divergence": (GRPO(), ClippedSurrogate(kl_coef=0.1)),
}


@pytest.mark.parametrize(
    ("name", "packing", "decoding"),
    [
        ("ospo", Packing.shared_prefix, Decoding.static),
        ("setpo", Packing.padded, Decoding.dynamic),
        ("lpo", Packing.shared_prefix, Decoding.dynamic),
        ("grpo, divergence", Packing.padded, Decoding.static),
    ],
)
def test_a_step_on_a_gpu_is_the_step_on_the_cpu(name, packing, decoding):
    alone(on_gpu, same_step, name, packing, decoding)


def same_step(gpu, name, packing, decoding):
    estimator, loss = CASES[name]

    def weights_after(device):
        made = toy_policy(steps=20)
        moved(made, device)
        policy = CausalLM(model=made.model, tokenizer=made.tokenizer, origin="")
        policy = policy.packed(packing, say=print)
        reference = None
        if loss.needs.ref_logprobs:
            other = toy_policy(steps=20)
            moved(other, device)
            reference = CausalLM(model=other.model, tokenizer=other.tokenizer, origin="")
        trainer = Trainer(
            settings=TrainerSettings(
                steps=4,
                prompts_per_step=3,
                group_size=4,
                updates_per_batch=2,
                tokens_per_microbatch=120,
                packing=packing,
                device=device.type,
            ),
            policy=policy,
            rollout=HFRollout(max_new_tokens=12, decoding=decoding),
            scorer=Scorer(
                reward=Letters(), rules=toy_task().rules, segmenter=Phrases(), encoder=Hashing()
            ),
            estimator=estimator,
            loss=loss,
            prompts=toy_prompts(),
            seed=0,
            reference=reference,
        )
        result = trainer.step(1)
        assert result.rollouts.response_ids.device.type == device.type
        return [p.detach().cpu() for p in policy.model.parameters()], result.rollouts.texts

    there, texts = weights_after(gpu)
    here, same = weights_after(torch.device("cpu"))
    assert texts == same
    for one, other in zip(there, here, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=3e-5)


def test_a_one_token_step_moves_nothing_between_devices():
    """A graph could not record that: it would copy what lay there when it was recorded."""
    alone(on_gpu, moves_nothing)


def moves_nothing(gpu):
    steps, step = [], StaticDecoder._step

    def watched(self, shape):
        steps.append(shape)
        with Staying():
            step(self, shape)

    StaticDecoder._step = watched  # this process ends with the test
    made = toy_policy(steps=20)
    moved(made, gpu)
    engine = HFRollout(max_new_tokens=12, decoding=Decoding.static)
    engine(made, toy_prompts()[:3], group_size=4, randomness=Randomness(seed=0, step=1))
    assert len(steps) > 3
    with pytest.raises(AssertionError, match="moves"), Staying():
        torch.ones(2).to(gpu)


class Staying(TorchDispatchMode):
    """Refuses to move numbers from one device to the other, and to make any on the CPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        asked = (kwargs or {}).get("device")
        assert asked is None or asked.type == NAME, f"{func} moves or makes numbers on {asked}"
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        inside = [isinstance(x, OnGPU) for x in given]
        assert all(inside) or not any(inside), f"{func} moves numbers between devices"
        assert all(inside) or asked is None, f"{func} moves numbers to {asked}"
        return func(*args, **(kwargs or {}))
