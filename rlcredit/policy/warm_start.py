"""Supervised steps on a teacher's demonstrations, so that a policy writes what a task asks for."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from rlcredit.policy.causal_lm import CausalLM, pad_id
from rlcredit.tasks.base import Teacher
from rlcredit.types import Prompt, Randomness

REPORT_EVERY_S = 20.0
"""Seconds between two reports."""
TAIL = 25
"""Last steps over which the loss is taken."""


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """How long and how fast a policy is taught before reinforcement learning.

    Raises:
        ValueError: If a value is out of its range.
    """

    steps: int = 400
    """0 leaves the policy as it was initialised."""
    batch_size: int = 32
    """Fresh demonstrations a step."""
    lr: float = 3e-3
    """AdamW's peak learning rate."""
    num_warmup_steps: int = 20
    """The learning rate rises over so many steps, then falls linearly."""
    final_lr: float = 0.1
    """Learning rate of the last step, as a share of ``lr``."""
    max_grad_norm: float = 1.0
    """Longest gradient; a longer one is scaled to it."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.steps < 0 or self.num_warmup_steps < 0 or self.batch_size < 1:
            raise ValueError(
                f"policy.warm_start has steps={self.steps}, num_warmup_steps="
                f"{self.num_warmup_steps}, batch_size={self.batch_size}; the first two must be 0 "
                "or more, a batch 1 or more"
            )
        if not (self.lr > 0 and self.max_grad_norm > 0 and 0 <= self.final_lr <= 1):
            raise ValueError(
                f"policy.warm_start has lr={self.lr}, max_grad_norm={self.max_grad_norm}, final_lr="
                f"{self.final_lr}; the first two must be above 0, the last in [0, 1]"
            )

    def learning_rate(self, step: int) -> float:
        """Learning rate of step 0, 1, ..."""
        rise = (step + 1) / max(1, self.num_warmup_steps)
        left = (self.steps - step) / max(1, self.steps - self.num_warmup_steps)
        return self.lr * min(1.0, rise, self.final_lr + (1 - self.final_lr) * left)


def teach(
    policy: CausalLM,
    *,
    settings: WarmStart,
    prompts: Sequence[Prompt],
    teacher: Teacher,
    seed: int,
    say: Callable[[str], None],
) -> float | None:
    """Train a policy in place on demonstrations of the training prompts.

    A step draws its prompts, and a fresh demonstration of each, from a stream of its own. Only the
    response's tokens are learned, its end included.

    Args:
        policy: Its weights, or its adapters where it has some, are trained; its model is left in
            evaluation mode.
        settings: How long and how fast.
        prompts: Training prompts.
        teacher: Writes the demonstrations.
        seed: Of the run.
        say: Gets a line now and then.

    Returns:
        Mean loss in nats a token over the last steps; None without steps.

    Raises:
        FloatingPointError: If the loss is not finite.
    """
    model = policy.model
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=settings.lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True
    )
    losses: list[float] = []
    began = reported = monotonic()
    model.train()
    for step in range(settings.steps):
        generator = Randomness(seed=seed, step=step).generator("warm_start")
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate(step)
        pairs = demonstrations(prompts, teacher, settings.batch_size, generator)
        loss = demonstration_loss(policy, pairs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        _check_finite(losses[-1], step, settings)
        if monotonic() - reported > REPORT_EVERY_S:
            reported = monotonic()
            left = (reported - began) / (step + 1) * (settings.steps - step - 1)
            say(
                f"warm start: step {step + 1}/{settings.steps}, loss {_mean_of_tail(losses):.3f} "
                f"nats a token, {left:.0f} s left"
            )
    model.eval()
    return _mean_of_tail(losses) if losses else None


def _mean_of_tail(losses: Sequence[float]) -> float:
    tail = losses[-TAIL:]
    return sum(tail) / len(tail)


def demonstrations(
    prompts: Sequence[Prompt], teacher: Teacher, num: int, generator: torch.Generator
) -> list[tuple[Prompt, str]]:
    """Prompts drawn with replacement, each with a fresh demonstration."""
    chosen = torch.randint(len(prompts), (num,), generator=generator).tolist()
    return [(prompts[index], teacher(prompts[index], generator)) for index in chosen]


def demonstration_loss(policy: CausalLM, pairs: Sequence[tuple[Prompt, str]]) -> torch.Tensor:
    """Mean cross-entropy of the demonstrations' tokens and of the token that ends each, in nats.

    Rows are padded on the right, where no token of a causal model sees the padding.
    """
    questions = policy.prompt_ids([prompt for prompt, _ in pairs])
    rows: Any = policy.tokenizer([answer for _, answer in pairs], add_special_tokens=False)
    end = policy.turn_end
    answers = [[*answer, end] for answer in rows["input_ids"]]
    length = max(len(q) + len(a) for q, a in zip(questions, answers, strict=True))
    ids = torch.full((len(pairs), length), pad_id(policy.tokenizer, policy.eos_ids))
    learned = torch.zeros_like(ids, dtype=torch.bool)
    for row, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        ids[row, : len(question) + len(answer)] = torch.tensor(question + answer)
        learned[row, len(question) : len(question) + len(answer)] = True
    model: Any = policy.model
    ids, learned = ids.to(model.device), learned.to(model.device)
    hidden = model.get_decoder()(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    return cross_entropy(model.get_output_embeddings()(hidden[learned[:, 1:]]), ids[learned])


def _check_finite(loss: float, step: int, settings: WarmStart) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the warm start's loss is {loss} at step {step}; lower policy.warm_start.lr "
            f"(it is {settings.lr})"
        )
