"""What the processes of a test's world do; importable, since they are started anew."""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from rlcredit.checkpoint.writer import CheckpointWriter
from rlcredit.credit.ratio import KL
from rlcredit.credit.simplex import Divergence
from rlcredit.distributed.board import Board
from rlcredit.distributed.launcher import Start, start_processes
from rlcredit.distributed.records import tensors_of
from rlcredit.distributed.world import Payload, World
from rlcredit.estimators import GRPO, OSPO, OTB, SetPO, Vine
from rlcredit.estimators.constructions import Additive
from rlcredit.estimators.values import Myerson
from rlcredit.losses import TokenWeighted
from rlcredit.losses.lpo import LPO
from rlcredit.losses.surrogate import ClippedSurrogate, Ratio
from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.hf import HF, Dtype, LoRA
from rlcredit.policy.packing import Packing
from rlcredit.policy.reference import WithoutAdapters
from rlcredit.policy.sharded import Sharded
from rlcredit.policy.tiny import Tiny
from rlcredit.policy.warm_start import WarmStart
from rlcredit.retrieval.encoders import Hashing
from rlcredit.rollout.hf import HFRollout
from rlcredit.run.job import Job
from rlcredit.run.launch import run_rank
from rlcredit.run.session import Session
from rlcredit.scoring.scorer import Scorer
from rlcredit.text.segmenters import Phrases
from rlcredit.trainer.loop import Trainer
from rlcredit.trainer.optim import AdamW
from rlcredit.trainer.settings import TrainerSettings
from rlcredit.types import Counts, Prompt, Randomness
from tests.policy.toy import toy_prompts, toy_task


class Letters:
    """The number of different letters of a text, over 100; texts of odd length are remembered."""

    def __init__(self) -> None:
        self.counts = Counts()

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> torch.Tensor:
        odd = sum(len(text) % 2 for text in texts)
        self.counts += Counts(distinct=len(texts), remembered=odd, truncated=odd)
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
    "lpo": {"estimator": GRPO(), "loss": LPO(kl_coef=0.1, kl=KL.k3_plus)},
    "lpo_reverse": {"estimator": GRPO(), "loss": LPO(divergence=Divergence.reverse_kl)},
    "setpo": {"estimator": SetPO(base=GRPO()), "loss": ClippedSurrogate()},
    "otb": {"estimator": OTB(), "loss": ClippedSurrogate()},
    "resampled": {
        "estimator": OSPO(value=Myerson(), construction=Additive()),
        "loss": ClippedSurrogate(),
        "settings": {"resample_equal_groups": 3, "group_size": 2},
    },
    "vine": {"estimator": Vine(samples=2), "loss": ClippedSurrogate()},
    "top_entropy": {
        "estimator": GRPO(),
        "loss": TokenWeighted(loss=ClippedSurrogate(kl_coef=0.1), top_entropy=0.3),
    },
    "s_trace": {
        "estimator": GRPO(),
        "loss": ClippedSurrogate(ratio=Ratio.trace, decay=0.9, traced_share=0.5),
    },
}
"""Every kind of signal, and a loss that couples a group."""


def unchanged(made: CausalLM) -> CausalLM:
    return made


def trainer(
    method: str, made: CausalLM, world: World, *, wrap: Callable[[Any], Any] = unchanged
) -> Trainer:
    """Three updates of 5 prompts x 4 responses; micro-batches that split groups."""
    parts = dict(METHODS[method])
    settings = {
        "steps": 3,
        "prompts_per_step": 5,
        "group_size": 4,
        "updates_per_batch": 2,
        "tokens_per_microbatch": 150,
        "optimizer": AdamW(lr=3e-3),
    } | parts.pop("settings", {})
    asked, adapters = parts["loss"].needs.ref_logprobs, made.adapters
    reference = wrap(deepcopy(made)) if asked and adapters is None else None
    policy, reward = wrap(made), Letters()
    if asked and adapters is not None:
        reference = WithoutAdapters(policy=policy, adapters=adapters)
    return Trainer(
        settings=TrainerSettings(**settings),
        policy=policy,
        rollout=HFRollout(max_new_tokens=9),
        scorer=Scorer(
            reward=reward,
            rules=toy_task().rules,
            segmenter=Phrases(),
            encoder=Hashing(),
            counts=lambda: reward.counts,
        ),
        prompts=toy_prompts()[:7],
        seed=3,
        reference=reference,
        world=world,
        **parts,
    )


def train(
    cache: Path, folder: Path, methods: Sequence[str], shard: bool = False, *, world: World
) -> float:
    """Two steps of each method; the first process writes what came of them."""
    assert (world.local_rank, world.local_size) == (world.rank, world.size)
    for method in methods:
        wrap = partial(Sharded.of, world=world, dtype=None) if shard else unchanged
        made = trainer(method, policy(cache), world, wrap=wrap)
        began = time.process_time()
        results = [made.step(1), made.step(2)]
        own = time.process_time() - began
        reported = sum(result.metrics["time/step_cpu_s"] for result in results)
        assert reported > own if world.size > 1 else reported <= own
        assert 0 < results[0].metrics["perf/cache_hit"] < 1
        with made.policy.whole() as whole:
            weights = {n: p.detach().clone() for n, p in whole.model.named_parameters()}
        for other in world.gather(Payload(tensors=weights)):
            assert all(torch.equal(other.tensors[n], p) for n, p in weights.items())
        if world.leads:
            found = {f"weights.{name}": value for name, value in weights.items()}
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


def freeze_in_an_exchange(cache: Path, *, world: World) -> None:
    """The second process stops after it has come, before the first one does."""
    if world.rank == 1:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGSTOP)).start()
    else:
        time.sleep(1)
    world.enter("step 7, update")
    world.wait()


def give_up() -> None:
    """With an error."""
    raise ValueError("the index is broken; make it again")


def end_in(cache: Path, part: str, act: Callable[[], object], *, world: World) -> None:
    """Two steps, of which the second one's phase is fatal to the second process."""
    made = trainer("grpo", policy(cache), world)
    setattr(made, part, Fatal(getattr(made, part), world, act))
    made.step(1)
    made.step(2)


def pretrained(folder: Path, **options: Any) -> CausalLM:
    """What :func:`policy` is, read from a folder."""
    source = HF(name=str(folder), **options)
    made = source.load(
        toy_task(), seed=0, cache=folder, device=torch.device("cpu"), say=lambda line: None
    )
    return made.packed(Packing.shared_prefix, say=lambda line: None)


ADAPTED = {
    "lora": LoRA(rank=2, target_modules=r".*\.(q_proj|down_proj)"),
    "gradient_checkpointing": True,
    "dtype": Dtype.float64,
}


def shard_adapters(cache: Path, *, world: World) -> None:
    """Low-rank adapters and recomputed activations: two steps in parts are two steps alone."""
    alone = trainer("lpo", pretrained(cache / "hf", **ADAPTED), World())
    parted = trainer(
        "lpo",
        pretrained(cache / "hf", **ADAPTED),
        world,
        wrap=partial(Sharded.of, world=world, dtype=None),
    )
    assert all(isinstance(p, DTensor) for p in parted.policy.model.parameters())
    for made in (alone, parted):
        made.step(1)
        made.step(2)
    with parted.policy.whole() as whole:
        pairs = zip(whole.model.parameters(), alone.policy.model.parameters(), strict=True)
        for got, want in pairs:
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9, check_stride=False)
    assert all(p.numel() == 0 for p in whole.model.parameters())
    assert sum(p.requires_grad for p in alone.policy.model.parameters()) == 8


def shard_coarsely(cache: Path, *, world: World) -> float:
    """bfloat16 in use, float32 kept; the largest weight change of two steps."""
    parted = trainer(
        "ospo",
        pretrained(cache / "hf"),
        world,
        wrap=partial(Sharded.of, world=world, dtype=torch.bfloat16),
    )
    before = [p.full_tensor() for p in parted.policy.model.parameters()]
    results = [parted.step(1), parted.step(2)]
    for parameter in parted.policy.model.parameters():
        moments = parted.optimizer.state[parameter]
        kept = (parameter, moments["exp_avg"], moments["exp_avg_sq"])
        assert all(each.dtype == torch.float32 for each in kept)
    with parted.policy.whole() as whole:
        assert whole.model.dtype == torch.bfloat16
    assert all(abs(result.metrics["mismatch/kl_nats"]) < 0.01 for result in results)
    after = [p.full_tensor() for p in parted.policy.model.parameters()]
    return max(float((a - b).abs().max()) for a, b in zip(after, before, strict=True))


def sample_unequally(cache: Path, folder: Path, *, world: World) -> float:
    """Inside ``whole`` a process may take more steps than the others, and export alone."""
    parted = Sharded.of(policy(cache), world, dtype=None)
    with parted.whole() as whole:
        for _ in range(1 + 2 * world.rank):
            HFRollout(max_new_tokens=3 + 9 * world.rank)(
                whole, toy_prompts()[:2], group_size=2, randomness=Randomness(seed=0, step=1)
            )
        if world.leads:
            whole.export(folder)
    with pytest.raises(RuntimeError, match="export the policy that whole"):
        parted.export(folder)
    return 1.0


def shard(cache: Path, folder: Path, *, world: World) -> float:
    """All of it in one world."""
    train(cache, folder, list(METHODS), True, world=world)
    shard_adapters(cache, world=world)
    sample_unequally(cache, folder / "exported", world=world)
    return shard_coarsely(cache, world=world)


MEETINGS = {
    Board: ("meet",),
    CheckpointWriter: ("start", "wait"),
    CausalLM: ("whole",),
    Sharded: ("whole",),
}
"""What every process of a run must call in the same order: exchanges, writes of checkpoints in
parts, and the gathering of weights in parts."""


def recorded(job: Job, folder: Path, out: Path, stop_at: int, *, world: World) -> float | None:
    """A rank of a run that writes down its meetings; the last one is told to stop after a step."""
    calls: list[str] = []

    def noting(cls: type, name: str) -> None:
        call = getattr(cls, name)

        def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
            assert world.board is not None
            calls.append(f"{cls.__name__}.{name} in {world.board.phase}")
            return call(self, *args, **kwargs)

        setattr(cls, name, noted)

    for cls, names in MEETINGS.items():
        for name in names:
            noting(cls, name)
    after = Session._after

    def told(self: Session, step: int, stop: Any, score: float | None) -> Any:
        if step == stop_at and world.rank == world.size - 1:
            signal.raise_signal(signal.SIGTERM)
        return after(self, step, stop, score)

    Session._after = told
    try:
        return run_rank(job, folder, world=world)
    finally:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{world.rank}.txt").write_text("\n".join(calls))
