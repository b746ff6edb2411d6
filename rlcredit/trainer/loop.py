"""The training loop. ``Trainer.step`` reads as the algorithm's box does."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from rlcredit.credit.entropy import entropy_ranks
from rlcredit.credit.masked import masked_mean
from rlcredit.distributed.records import gather_records, rows_of_prompts
from rlcredit.distributed.world import Payload, World
from rlcredit.estimators.base import AdvantageEstimator
from rlcredit.losses.base import PolicyLoss
from rlcredit.policy.base import Policy
from rlcredit.policy.causal_lm import pad_id
from rlcredit.policy.reference import Reference
from rlcredit.rollout.base import Rollout
from rlcredit.rollout.health import perplexity, rollout_metrics
from rlcredit.rollout.observe import observe
from rlcredit.scoring.scorer import Scorer, reads_segments
from rlcredit.text.copying import WordRuns
from rlcredit.trainer.backward import Gradient, accumulate, microbatches
from rlcredit.trainer.exchange import add_up, clip
from rlcredit.trainer.memory import sampling_fits, update_fits
from rlcredit.trainer.mismatch import mismatch_metrics
from rlcredit.trainer.refused import NonFiniteError, Refused
from rlcredit.trainer.resample import Drawn, Resampler
from rlcredit.trainer.settings import TrainerSettings
from rlcredit.types import (
    Advantages,
    Metrics,
    Needs,
    Prompt,
    Randomness,
    Rollouts,
    Signals,
    UpdateBatch,
)


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """All that one step leaves behind."""

    step: int
    rollouts: Rollouts
    signals: Signals
    advantages: Advantages
    metrics: dict[str, float]


@dataclass(kw_only=True)
class Trainer:
    """Trains a policy on batches of rollouts; knows nothing of files, trackers or consoles."""

    settings: TrainerSettings
    policy: Policy
    rollout: Rollout
    scorer: Scorer
    estimator: AdvantageEstimator
    loss: PolicyLoss
    prompts: Sequence[Prompt]
    seed: int
    reference: Reference | None = None
    """The policy that training started from, for losses that need its log-probs."""
    documents: WordRuns | None = None
    """Runs of words of the catalogue, to tell what responses copy from it."""
    world: World = field(default_factory=World)
    """The processes that share the prompts of a step; all hold the whole policy."""
    optimizer: torch.optim.AdamW = field(init=False)
    training_loss: PolicyLoss = field(init=False)
    """The loss, corrected for what the sampler differs by, if that is asked for."""
    part: slice = field(init=False)
    """The prompts of a step that this process samples, scores and differentiates."""

    def __post_init__(self) -> None:
        """Build the optimizer; refuse what the loss cannot have, and weights that cannot move."""
        if self.loss.needs.ref_logprobs and self.reference is None:
            raise ValueError(f"{type(self.loss).__name__} needs a reference policy's log-probs")
        self.training_loss = self.settings.mismatch.corrected(self.loss)
        if self.settings.steps:
            self.settings.optimizer.refuse_coarse(self.policy.model)
        self.optimizer = self.settings.optimizer.build(self.policy.model)
        self.part = self.world.part(self.settings.prompts_per_step)

    @property
    def needs(self) -> Needs:
        """What must be scored before a gradient is taken."""
        return self.estimator.needs | self.loss.needs

    def run(self, *, after: int = 0) -> Iterator[StepResult]:
        """Steps ``after + 1`` to ``settings.steps``, one at a time."""
        for number in range(after + 1, self.settings.steps + 1):
            yield self.step(number)

    def step(self, number: int) -> StepResult:
        """Sample, score, attribute, update."""
        randomness = Randomness(seed=self.seed, step=number)
        clock = _Clock(world=self.world, step=number)
        prompts = self.batch_prompts(number)
        rollouts, signals, drawing = self.drawn(number, prompts, randomness, clock)
        with clock("credit"):
            advantages = self.estimator(signals)
            batch = self.update_batch(rollouts, advantages)
        with clock("update"):
            metrics = self.update(rollouts, batch, number)
        metrics |= (
            drawing
            | rollout_metrics(rollouts, signals, documents=self.documents)
            | advantages.metrics
        )
        metrics |= advantage_metrics(advantages, batch)
        if batch.ref_logprobs is not None:
            metrics["text/perplexity"] = perplexity(batch.ref_logprobs, batch.response_mask)
        return StepResult(
            step=number,
            rollouts=rollouts,
            signals=signals,
            advantages=advantages,
            metrics={name: float(value) for name, value in metrics.items()} | clock.metrics(),
        )

    def drawn(
        self, number: int, prompts: Sequence[Prompt], randomness: Randomness, clock: "_Clock"
    ) -> tuple[Rollouts, Signals, Metrics]:
        """The groups of all processes, with those of equal rewards replaced where that is asked."""

        def draw(prompts: Sequence[Prompt], offset: int) -> Drawn | None:
            return self.draw(prompts, offset, randomness, clock)

        filler = pad_id(self.policy.tokenizer, self.policy.eos_ids)
        groups, metrics = draw(prompts[self.part], self.part.start), Metrics()
        assert groups is not None, "every process has prompts of its own"
        if self.settings.resample_equal_groups:
            resample = Resampler(
                world=self.world,
                part=self.part,
                rounds=self.settings.resample_equal_groups,
                filler=filler,
                draw=draw,
                others=partial(self.other_prompts, number),
            )
            groups, prompts, metrics = resample(groups, prompts)
        with clock("reward"):
            rollouts, signals = gather_records(
                self.world, groups.rollouts, groups.signals, prompts, filler=filler
            )
        return rollouts, signals, metrics

    def draw(
        self, prompts: Sequence[Prompt], offset: int, randomness: Randomness, clock: "_Clock"
    ) -> Drawn | None:
        """Groups of this process, sampled and scored; None where it has no prompts.

        Args:
            prompts: Some.
            offset: Global index of the first.
            randomness: Of the step.
            clock: Of the step.
        """
        fits = sampling_fits(self.settings, max_new_tokens=self.rollout.max_new_tokens)
        with clock("rollout"), fits, self.policy.whole() as policy:
            if not prompts:
                return None
            rollouts = self.rollout(
                policy,
                prompts,
                group_size=self.settings.group_size,
                randomness=randomness,
                offset=offset,
                spans=reads_segments(self.estimator, self.scorer.reward),
            )
            seen = observe(
                policy,
                rollouts,
                self.needs,
                rollout=self.rollout,
                scorer=self.scorer,
                randomness=randomness,
                offset=offset,
                chunks=self.microbatches(rollouts),
            )
        with clock("reward"):
            signals = self.scorer(
                rollouts, self.needs, randomness=randomness, offset=offset, seen=seen
            )
        return Drawn(rollouts=rollouts, signals=signals)

    def batch_prompts(self, number: int) -> list[Prompt]:
        """The prompts of a step: permutations of the training set, one after another.

        A function of seed and step alone, so a resumed run needs no sampler state.
        """
        total, size = len(self.prompts), self.settings.prompts_per_step
        chosen: list[Prompt] = []
        position = (number - 1) * size
        while len(chosen) < size:
            epoch, start = divmod(position + len(chosen), total)
            generator = Randomness(seed=self.seed, step=epoch).generator("prompt order")
            order = torch.randperm(total, generator=generator).tolist()
            chosen += [self.prompts[i] for i in order[start : start + size - len(chosen)]]
        return chosen

    def other_prompts(self, number: int, start: int, count: int) -> list[Prompt]:
        """Prompts that a step has not asked for, in an order of its own; then from the start again.

        Of a training set that one step asks for as a whole, all of it.
        """
        asked = {prompt.prompt_id for prompt in self.batch_prompts(number)}
        generator = Randomness(seed=self.seed, step=number).generator("further prompts")
        order = [
            self.prompts[i] for i in torch.randperm(len(self.prompts), generator=generator).tolist()
        ]
        others = [prompt for prompt in order if prompt.prompt_id not in asked] or order
        return [others[n % len(others)] for n in range(start, start + count)]

    def update_batch(self, rollouts: Rollouts, advantages: Advantages) -> UpdateBatch:
        """Advantages within their limit, and every count that a loss divides by."""
        limit = self.settings.max_advantage
        values = advantages.values if limit is None else advantages.values.clamp(-limit, limit)
        mask = rollouts.response_mask
        return UpdateBatch(
            advantages=values,
            response_mask=mask,
            old_logprobs=rollouts.rollout_logprobs,
            rollout_logprobs=rollouts.rollout_logprobs,
            ref_logprobs=self.reference_logprobs(rollouts),
            num_tokens=int(mask.sum()),
            num_rollouts=mask.shape[0] * mask.shape[1],
            num_prompts=mask.shape[0],
        )

    def reference_logprobs(self, rollouts: Rollouts) -> Tensor | None:
        """Log-probs under the reference policy, where the loss asks for them."""
        reference = self.reference
        if reference is None or not self.loss.needs.ref_logprobs:
            return None
        return self.forward(lambda own, rows: reference.logprobs(own, rows).logprobs, rollouts)

    def entropy_ranks(self, rollouts: Rollouts) -> Tensor:
        """Every token of the update by the entropy of the policy as it now is."""
        entropy = self.forward(lambda own, rows: self.policy.logprobs(own, rows).entropy, rollouts)
        return entropy_ranks(entropy, rollouts.response_mask)

    def forward(self, of: Callable[[Rollouts, slice], Tensor], rollouts: Rollouts) -> Tensor:
        """A number for each token of the batch, [P, G, T], without a gradient.

        Args:
            of: Of rows of this process's share, [B, T].
            rollouts: Of all processes.
        """
        own = rows_of_prompts(rollouts, self.part)
        chunks = self.microbatches(own)
        fillers = chunks[:1] * max(0, self.num_passes(rollouts) - len(chunks))
        with torch.no_grad():
            parts = [of(own, rows) for rows in chunks]
            for rows in fillers:
                of(own, rows)
        payloads = self.world.gather(Payload(tensors={"values": torch.cat(parts)}))
        whole = torch.cat([payload.tensors["values"] for payload in payloads])
        return whole.view(rollouts.response_mask.shape).to(rollouts.response_mask.device)

    def microbatches(self, rollouts: Rollouts) -> list[slice]:
        """Rows that go through the policy together."""
        budget = self.settings.tokens_per_microbatch
        return microbatches(rollouts, budget, packing=self.policy.packing)

    def num_passes(self, rollouts: Rollouts) -> int:
        """Micro-batches of the process that has most, where all must run as many; else 0."""
        if not self.policy.is_sharded:
            return 0
        parts = self.world.parts(len(rollouts.prompts))
        return max(len(self.microbatches(rows_of_prompts(rollouts, part))) for part in parts)

    def update(self, rollouts: Rollouts, batch: UpdateBatch, number: int) -> Metrics:
        """One or more optimizer steps on a batch; metrics are those of the first.

        Each process differentiates its share of the prompts; the counts that a loss divides by are
        those of the whole batch, so the gradients add up.
        """
        rate = self.settings.optimizer.rate(number, self.settings.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        own = rows_of_prompts(rollouts, self.part)
        chunks = self.microbatches(own)
        metrics: Metrics = {}
        for index in range(self.settings.updates_per_batch):
            self.optimizer.zero_grad(set_to_none=True)
            if self.loss.needs.entropy_rank:
                batch = replace(batch, entropy_rank=self.entropy_ranks(rollouts))
            with update_fits(self.settings, own, chunks):
                gradient = accumulate(
                    self.policy,
                    self.training_loss,
                    own,
                    rows_of_prompts(batch, self.part),
                    chunks=chunks,
                    on_policy=index == 0,
                    num_passes=self.num_passes(rollouts),
                    factor=self.world.size if self.policy.is_sharded else 1.0,
                )
            gradient = add_up(self.world, gradient, self.policy)
            norm = clip(self.policy.model, self.settings.optimizer.max_grad_norm)
            tried = Refused(batch=batch, rollouts=rollouts, step=number, update=index)
            self.refuse_non_finite(gradient, norm, tried)
            if index == 0:
                batch = replace(batch, old_logprobs=gradient.logprobs)
                metrics = gradient.metrics | update_metrics(gradient, batch)
                metrics["train/grad_norm"] = norm.detach()
                self.settings.mismatch.refuse(metrics, tried)
            self.optimizer.step()
        metrics["train/learning_rate"] = torch.tensor(rate, dtype=torch.float64)
        return metrics

    def refuse_non_finite(self, gradient: Gradient, norm: Tensor, tried: Refused) -> None:
        """Stop before the optimizer takes a step that cannot be undone."""
        if torch.isfinite(norm) and torch.isfinite(torch.tensor(gradient.loss)):
            return
        raise NonFiniteError(
            f"step {tried.step}: loss {gradient.loss}, gradient norm {float(norm)}; both must be "
            "finite. The optimizer did not step. Lower trainer.optimizer.lr, set a "
            "trainer.max_advantage (4), or look at the saved batch",
            tried,
        )


def update_metrics(gradient: Gradient, batch: UpdateBatch) -> Metrics:
    """Loss, entropy, and how far the sampler's log-probs are from the trainer's."""
    return {
        "train/loss": torch.tensor(gradient.loss, dtype=torch.float64),
        "train/entropy_nats": _token_mean(gradient.entropy, batch.response_mask),
    } | mismatch_metrics(gradient.logprobs, batch)


def advantage_metrics(advantages: Advantages, batch: UpdateBatch) -> Metrics:
    """Size of the advantages, and the share that was clamped."""
    mask, values = batch.response_mask, advantages.values
    return {
        "advantage/rms": _token_mean(values.square(), mask).sqrt(),
        "advantage/clamped_share": _token_mean((values != batch.advantages).to(values.dtype), mask),
    }


def _token_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over all response tokens of a batch."""
    return masked_mean(values.flatten(), mask.flatten())


class _Clock:
    """Seconds by stage of this process, and the processor's for all stages of all processes.

    A busy machine does not stretch the latter. The others learn in which stage this process is.
    """

    def __init__(self, *, world: World, step: int) -> None:
        self.world, self.step = world, step
        self.seconds: dict[str, float] = {}
        self.cpu_s = 0.0

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        self.world.enter(f"step {self.step}, {stage}")
        start, cpu_start = time.perf_counter(), time.process_time()
        yield
        spent = time.perf_counter() - start
        self.seconds[f"time/{stage}_s"] = self.seconds.get(f"time/{stage}_s", 0.0) + spent
        self.cpu_s += time.process_time() - cpu_start

    def metrics(self) -> dict[str, float]:
        own = Payload(tensors={"cpu_s": torch.tensor(self.cpu_s, dtype=torch.float64)})
        cpu_s = sum(float(each.tensors["cpu_s"]) for each in self.world.gather(own))
        return self.seconds | {"time/step_s": sum(self.seconds.values()), "time/step_cpu_s": cpu_s}
