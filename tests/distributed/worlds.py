"""What the processes of a test's world do; importable, since they are started anew."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from rlcredit.credit.simplex import Divergence
from rlcredit.distributed.launcher import Start, start_processes
from rlcredit.distributed.records import tensors_of
from rlcredit.distributed.world import Parcel, World
from rlcredit.estimators import GRPO, OSPO, SetPO
from rlcredit.estimators.constructions import Additive
from rlcredit.estimators.values import Myerson
from rlcredit.losses.lpo import LPO
from rlcredit.losses.surrogate import ClippedSurrogate
from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.packing import Packing
from rlcredit.policy.tiny import Tiny
from rlcredit.policy.warm_start import WarmStart
from rlcredit.retrieval.encoders import Hashing
from rlcredit.rollout.hf import HFRollout
from rlcredit.rollout.score import Scorer
from rlcredit.text.segmenters import Phrases
from rlcredit.trainer.loop import Trainer
from rlcredit.trainer.optim import AdamW
from rlcredit.trainer.settings import TrainerSettings
from rlcredit.types import Prompt
from tests.policy.toy import toy_prompts, toy_task


class Letters:
    """The number of different letters of a text, over 100."""

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> torch.Tensor:
        counts = [len({c for c in text if c.isalpha()}) / 100 for text in texts]
        return torch.tensor(counts, dtype=torch.float64)


def policy(cache: Path) -> CausalLM:
    """In float64; from the cache, where it lies already."""
    tiny = Tiny(
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        head_dim=16,
        vocab_size=400,
        warm_start=WarmStart(steps=20),
    )
    made = tiny.load(
        toy_task(), seed=0, cache=cache, device=torch.device("cpu"), say=lambda line: None
    )
    made.model.double()
    return made.packed(Packing.shared_prefix, say=lambda line: None)


SEGMENTS = OSPO(value=Myerson(), construction=Additive())
METHODS: dict[str, dict[str, Any]] = {
    "grpo": {"estimator": GRPO(), "loss": ClippedSurrogate(kl_coef=0.1)},
    "ospo": {
        "estimator": OSPO(value=Myerson(), construction=Additive()),
        "loss": ClippedSurrogate(),
    },
    "lpo": {"estimator": GRPO(), "loss": LPO()},
    "lpo_reverse": {"estimator": GRPO(), "loss": LPO(divergence=Divergence.reverse_kl)},
    "setpo": {"estimator": SetPO(base=GRPO()), "loss": ClippedSurrogate()},
}
"""Every kind of signal, and a loss that couples a group."""


def trainer(
    method: str, made: CausalLM, world: World, *, wrap: Callable[[Any], Any] = lambda x: x
) -> Trainer:
    """Three updates of 5 prompts x 4 responses; micro-batches that split groups."""
    parts = METHODS[method]
    return Trainer(
        settings=TrainerSettings(
            steps=3,
            prompts_per_step=5,
            group_size=4,
            updates_per_batch=2,
            tokens_per_microbatch=150,
            optimizer=AdamW(lr=3e-3),
        ),
        policy=wrap(made),
        rollout=HFRollout(max_new_tokens=9),
        scorer=Scorer(
            reward=Letters(), rules=toy_task().rules, segmenter=Phrases(), encoder=Hashing()
        ),
        prompts=toy_prompts()[:7],
        seed=3,
        reference=wrap(deepcopy(made)) if parts["loss"].needs.ref_logprobs else None,
        world=world,
        **parts,
    )


def train(cache: Path, folder: Path, methods: Sequence[str], *, world: World) -> float:
    """Two steps of each method; the first process writes what came of them."""
    for method in methods:
        made = trainer(method, policy(cache), world)
        results = [made.step(1), made.step(2)]
        weights = dict(made.policy.model.named_parameters())
        everyone = world.gather(Parcel(tensors=weights))
        for other in everyone:
            assert all(torch.equal(other.tensors[n], p.detach()) for n, p in weights.items())
        if world.leads:
            found = {f"weights.{name}": p.detach() for name, p in weights.items()}
            for result in results:
                for name in ("rollouts", "signals", "advantages"):
                    record = getattr(result, name)
                    found |= tensors_of(record, f"{result.step}.{name}")
                for name, value in result.metrics.items():
                    if not name.startswith("time/"):
                        found[f"{result.step}.metrics.{name}"] = torch.tensor(value)
            save_file({n: t.contiguous().clone() for n, t in found.items()}, folder / method)
    return float(world.size)


def alone(cache: Path, folder: Path, methods: Sequence[str], *, world: World) -> float:
    """The same without the others: what they are compared with."""
    assert world.size == 1
    return train(cache, folder, methods, world=World())


def start(work: Callable[..., float | None], *args: Any, processes: int, **options: Any) -> Any:
    """A world of several, with errors as their type and message."""
    wanted = Start(processes=processes, device="cpu", **({"timeout_s": 60.0} | options))
    return start_processes(work, args, wanted, explain=said)


def said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


class Fatal:
    """A part of the trainer that works as before until, in step 2, something happens."""

    def __init__(self, part: Any, world: World, act: Callable[[], object]) -> None:
        self.part, self.world, self.act = part, world, act

    def __getattr__(self, name: str) -> Any:
        return getattr(self.part, name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        assert self.world.board is not None
        if self.world.rank == 1 and self.world.board.phase.startswith("step 2"):
            self.act()
        return self.part(*args, **options)


def die() -> None:
    """As when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def get_stuck() -> None:
    """For longer than anybody waits."""
    time.sleep(600)


def give_up() -> None:
    """With an error."""
    raise ValueError("the index is broken; make it again")


def end_in(cache: Path, part: str, act: Callable[[], object], *, world: World) -> None:
    """Two steps, of which the second one's phase is fatal to the second process."""
    made = trainer("grpo", policy(cache), world)
    setattr(made, part, Fatal(getattr(made, part), world, act))
    made.step(1)
    made.step(2)
