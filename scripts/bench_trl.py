"""TRL's GRPO trainer and rlcredit's on the same work, step by step in turn, in one process."""

import tempfile
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback, TrainerCallback
from transformers.utils.logging import disable_progress_bar
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from rlcredit.losses import ClippedSurrogate
from rlcredit.policy.packing import Packing
from rlcredit.trainer.backward import accumulate, microbatches
from rlcredit.trainer.loop import Trainer
from rlcredit.types import Prompt, Rollouts, UpdateBatch
from scripts.bench_timing import Timing, own_step, paired_ratio, timed
from scripts.bench_work import LEARNING_RATE, NO_CLIPPING, Work, distinct, own_trainer, policy_of


class Rival(GRPOTrainer):
    """TRL's trainer; remembers the batch it takes its loss from, and what generating took."""

    timing: Timing
    captured: dict[str, Tensor]

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        start = time.perf_counter()
        scored = super()._generate_and_score_completions(inputs)
        self.timing.add("rollout and reward", time.perf_counter() - start)
        self.captured = {k: v.clone() for k, v in scored.items() if isinstance(v, Tensor)}
        self.timing.tokens.append(float(scored["completion_mask"].sum(1).double().mean()))
        return scored


class Turns(TrainerCallback):
    """After each of TRL's steps, one of everybody else's."""

    def __init__(
        self, rival: Rival, own: Mapping[str, Trainer], timings: Mapping[str, Timing]
    ) -> None:
        self.rival, self.own, self.timings = rival, own, timings
        self.open: Any = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock; the sampling of prompts before the first step is not counted."""
        self.open = timed(self.rival.timing)
        self.open.__enter__()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop it; take the others' turns."""
        self.open.__exit__(None, None, None)
        for name, trainer in self.own.items():
            own_step(trainer, state.global_step, self.timings[name])


def rival_of(
    work: Work, model: Any, *, steps: int, bf16: bool, folder: str, rows: int | None = None
) -> Rival:
    """TRL with the settings of the same work: one update a batch, no KL term, no clipping.

    It takes gradients of ``rows`` responses at a time, of the whole batch unless told.
    """
    batch = work.prompts_per_step * work.group_size
    rows = rows or batch
    args = GRPOConfig(
        output_dir=folder,
        use_cpu=not torch.cuda.is_available(),
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=10**6,
        seed=0,
        bf16=bf16,
        max_steps=steps,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=batch // rows,
        num_generations=work.group_size,
        max_completion_length=work.max_new_tokens,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        max_grad_norm=NO_CLIPPING,
        gradient_checkpointing=False,
        beta=0.0,
    )

    def reward(completions: list[str], **_: Any) -> list[float]:
        return distinct(completions)

    judge: Any = reward
    found = Rival(
        model=model,
        reward_funcs=judge,
        args=args,
        train_dataset=Dataset.from_dict({"prompt": work.texts()}),
        processing_class=work.tokenizer(),
    )
    found.remove_callback(PrinterCallback)
    found.timing = Timing()
    return found


@dataclass(frozen=True, kw_only=True)
class Arms:
    """One comparison: which TRL, and which steps of rlcredit take turns with it."""

    work: Work
    steps: int
    warm_up: int = 0
    """Steps before those that are counted; the first comparison of a process needs one."""
    bf16: bool = False
    """TRL under bf16 autocast."""
    compact: bool = False
    """TRL's head restricted to response positions, which it does on a GPU alone."""
    own: tuple[bool, ...] = (False, True)
    """``trainer.autocast`` of each of rlcredit's arms."""

    def run(self) -> dict[str, Any]:
        """Alternate, and summarise."""
        steps = self.warm_up + self.steps
        model = self.work.model()
        own = {
            "rlcredit bf16" if autocast else "rlcredit fp32": own_trainer(
                self.work, model, autocast=autocast
            )
            for autocast in self.own
        }
        timings = {name: Timing() for name in own}
        heads = patch("trl.trainer.utils._use_triton", lambda device: True)
        with tempfile.TemporaryDirectory() as folder:
            rival = rival_of(self.work, model, steps=steps, bf16=self.bf16, folder=folder)
            disable_progress_bar()
            rival.add_callback(Turns(rival, own, timings))
            if self.compact:
                heads.start()
            try:
                rival.train()
            finally:
                if self.compact:
                    heads.stop()
        samples = self.work.prompts_per_step * self.work.group_size
        theirs = rival.timing.summary(samples, skip=self.warm_up)
        mine = {
            name: timing.summary(samples, skip=self.warm_up) for name, timing in timings.items()
        }
        return {
            "work": self.work.name,
            "trl": f"{'bf16' if self.bf16 else 'fp32'}{', compact head' if self.compact else ''}",
            "trl_measured": theirs,
            "own_measured": mine,
            "ratios": {name: paired_ratio(theirs, row) for name, row in mine.items()},
        }


def captured_rollouts(batch: Mapping[str, Tensor], group_size: int) -> tuple[Rollouts, UpdateBatch]:
    """TRL's batch as rlcredit's records. Its rows are brought back into groups of one prompt."""
    order = torch.unique(batch["prompt_ids"], dim=0, return_inverse=True)[1].argsort(stable=True)
    rows = {name: value[order] for name, value in batch.items() if value.ndim > 0}
    mask = rows["completion_mask"].bool().unflatten(0, (-1, group_size))
    shape = mask.shape
    prompts = tuple(
        Prompt(prompt_id=str(index), text="", query="", relevance={}) for index in range(shape[0])
    )
    zeros = torch.zeros(shape)
    rollouts = Rollouts(
        prompts=prompts,
        texts=tuple(("",) * group_size for _ in prompts),
        prompt_ids=rows["prompt_ids"][::group_size],
        prompt_mask=rows["prompt_mask"][::group_size].bool(),
        response_ids=rows["completion_ids"].unflatten(0, (-1, group_size)),
        response_mask=mask,
        char_spans=torch.zeros(*shape, 2, dtype=torch.long),
        rollout_logprobs=zeros,
        finished=torch.ones(shape[:2], dtype=torch.bool),
    )
    advantages = rows["advantages"].unflatten(0, (-1, group_size))[..., None]
    update = UpdateBatch(
        advantages=advantages.expand(shape) * mask,
        response_mask=mask,
        old_logprobs=zeros,
        rollout_logprobs=zeros,
        num_tokens=int(mask.sum()),
        num_rollouts=shape[0] * shape[1],
        num_prompts=shape[0],
    )
    return rollouts, update


def gradient_parity(work: Work) -> float:
    """||rlcredit's gradient - TRL's|| / ||TRL's|| on the batch of one of TRL's own steps."""
    model = work.model()
    before = deepcopy(model)
    with tempfile.TemporaryDirectory() as folder:
        rival = rival_of(work, model, steps=1, bf16=False, folder=folder)
        found: list[Tensor] = []

        class Keep(TrainerCallback):
            def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
                found.extend(p.grad.clone() for p in model.parameters() if p.grad is not None)

        rival.add_callback(Keep())
        rival.train()
    rollouts, update = captured_rollouts(rival.captured, work.group_size)
    policy = policy_of(work, before, packing=Packing.shared_prefix)
    chunks = microbatches(rollouts, 2**16, packing=Packing.shared_prefix)
    accumulate(policy, ClippedSurrogate(), rollouts, update, chunks=chunks, on_policy=True)
    mine = [p.grad for p in before.parameters() if p.grad is not None]
    pairs = zip(mine, found, strict=True)
    apart = sum(float((a - b).double().square().sum()) for a, b in pairs)
    return (apart / sum(float(b.double().square().sum()) for b in found)) ** 0.5
