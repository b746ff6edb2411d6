"""The training loop. ``Trainer.step`` reads as the algorithm's box does."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from rlcredit.credit.masked import masked_mean
from rlcredit.estimators.base import AdvantageEstimator
from rlcredit.losses.base import PolicyLoss
from rlcredit.policy.base import Policy
from rlcredit.rollout.base import Rollout
from rlcredit.rollout.health import rollout_metrics
from rlcredit.rollout.score import Scorer
from rlcredit.text.copying import WordRuns
from rlcredit.trainer.backward import Gradient, accumulate, microbatches
from rlcredit.trainer.memory import sampling_fits, update_fits
from rlcredit.trainer.mismatch import mismatch_metrics
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


class NonFiniteError(RuntimeError):
    """A loss or gradient is NaN or infinite; the optimizer has not stepped on it."""

    def __init__(self, message: str, batch: UpdateBatch, rollouts: Rollouts) -> None:
        super().__init__(message)
        self.batch = batch
        self.rollouts = rollouts


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
    reference: Policy | None = None
    """A frozen copy for losses that need its log-probs."""
    documents: WordRuns | None = None
    """Of the catalogue, to tell what responses copy from it."""
    optimizer: torch.optim.AdamW = field(init=False)
    training_loss: PolicyLoss = field(init=False)
    """The loss, corrected for what the sampler differs by, if that is asked for."""

    def __post_init__(self) -> None:
        """Build the optimizer; refuse what the loss cannot have."""
        if self.loss.needs.ref_logprobs and self.reference is None:
            raise ValueError(f"{type(self.loss).__name__} needs a reference policy's log-probs")
        self.training_loss = self.settings.mismatch.corrected(self.loss)
        self.optimizer = self.settings.optimizer.build(self.policy.model)

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
        randomness, clock = Randomness(seed=self.seed, step=number), _Clock()
        settings = self.settings
        fits = sampling_fits(settings, max_new_tokens=self.rollout.max_new_tokens)
        with clock("rollout"), fits:
            rollouts = self.rollout(
                self.policy,
                self.batch_prompts(number),
                group_size=settings.group_size,
                randomness=randomness,
            )
        with clock("reward"):
            signals = self.scorer(rollouts, self.needs, randomness=randomness)
        with clock("credit"):
            advantages = self.estimator(signals)
            batch = self.update_batch(rollouts, advantages)
        with clock("update"):
            metrics = self.update(rollouts, batch, number)
        metrics |= rollout_metrics(rollouts, signals, documents=self.documents) | advantages.metrics
        metrics |= advantage_metrics(advantages, batch)
        return StepResult(
            step=number,
            rollouts=rollouts,
            signals=signals,
            advantages=advantages,
            metrics={name: float(value) for name, value in metrics.items()} | clock.metrics(),
        )

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
        if self.reference is None or not self.loss.needs.ref_logprobs:
            return None
        chunks = self.microbatches(rollouts)
        with torch.no_grad():
            parts = [self.reference.logprobs(rollouts, rows).logprobs for rows in chunks]
        return torch.cat(parts).view(rollouts.response_mask.shape)

    def microbatches(self, rollouts: Rollouts) -> list[slice]:
        """Rows that go through the policy together."""
        budget = self.settings.tokens_per_microbatch
        return microbatches(rollouts, budget, packing=self.policy.packing)

    def update(self, rollouts: Rollouts, batch: UpdateBatch, number: int) -> Metrics:
        """One or more optimizer steps on a batch; metrics are those of the first."""
        rate = self.settings.optimizer.rate(number, self.settings.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        chunks = self.microbatches(rollouts)
        metrics: Metrics = {}
        for index in range(self.settings.updates_per_batch):
            self.optimizer.zero_grad(set_to_none=True)
            with update_fits(self.settings, rollouts, chunks):
                gradient = accumulate(
                    self.policy,
                    self.training_loss,
                    rollouts,
                    batch,
                    chunks=chunks,
                    on_policy=index == 0,
                )
            norm = torch.nn.utils.clip_grad_norm_(
                [p for p in self.policy.model.parameters() if p.requires_grad],
                self.settings.optimizer.max_grad_norm,
            )
            self.refuse_non_finite(gradient, norm, number, batch, rollouts)
            if index == 0:
                batch = replace(batch, old_logprobs=gradient.logprobs)
                metrics = gradient.metrics | update_metrics(gradient, batch)
                metrics["train/grad_norm"] = norm.detach()
                self.settings.mismatch.refuse(metrics, step=number)
            self.optimizer.step()
        metrics["train/learning_rate"] = torch.tensor(rate, dtype=torch.float64)
        return metrics

    def refuse_non_finite(
        self,
        gradient: Gradient,
        norm: Tensor,
        number: int,
        batch: UpdateBatch,
        rollouts: Rollouts,
    ) -> None:
        """Stop before the optimizer takes a step that cannot be undone."""
        if torch.isfinite(norm) and torch.isfinite(torch.tensor(gradient.loss)):
            return
        raise NonFiniteError(
            f"step {number}: loss {gradient.loss}, gradient norm {float(norm)}; both must be "
            "finite. The optimizer did not step. Lower trainer.optimizer.lr or "
            "trainer.max_advantage, or look at the saved batch",
            batch,
            rollouts,
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
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[f"time/{stage}_s"] = time.perf_counter() - start

    def metrics(self) -> dict[str, float]:
        return self.seconds | {"time/step_s": sum(self.seconds.values())}
