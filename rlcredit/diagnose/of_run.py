"""The batch that a run stopped on, computed again with the run's own weights and settings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from rlcredit.checkpoint.state import restore_weights
from rlcredit.diagnose.recompute import Finding, Replay, replay
from rlcredit.diagnose.refused_batch import load_batch
from rlcredit.losses.base import PolicyLoss
from rlcredit.policy.base import Policy, PolicySource
from rlcredit.tasks.base import Dataset
from rlcredit.trainer.refused import Refused
from rlcredit.trainer.settings import TrainerSettings


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a run was made of, as far as an update needs it."""

    folder: Path
    """``failed_batch`` of the run."""
    seed: int
    cache: Path
    device: str
    dataset: Dataset
    policy: PolicySource
    loss: PolicyLoss
    trainer: TrainerSettings


def replay_batch(job: Replayed, *, say: Callable[[str], None]) -> Replay:
    """Say why the run stopped, and where the first value that is not finite arises.

    Args:
        job: The batch with the settings of its run.
        say: Gets the report, line by line.

    Raises:
        ValueError: If the folder holds no batch.
        CheckpointError: If its weights are not those of the policy that the settings make.
    """
    device = torch.device(job.device)
    why, refused = load_batch(job.folder, device=device)
    if job.trainer.threads is not None:
        torch.set_num_threads(job.trainer.threads)
    policy = job.policy.load(
        job.dataset.load(), seed=job.seed, cache=job.cache, device=device, say=say
    ).packed(job.trainer.packing, autocast=job.trainer.autocast, say=say)
    restore_weights(job.folder / "weights", policy.model)
    loss = job.trainer.mismatch.corrected(job.loss)
    shown = replay(policy, loss, refused, tokens=job.trainer.tokens_per_microbatch)
    for line in lines(shown, refused, why, policy):
        say(line)
    return shown


def lines(shown: Replay, refused: Refused, why: str, policy: Policy) -> list[str]:
    """The report, a sentence or a finding a line."""
    again = "computes" if shown.finite else "is not finite"
    told = [
        f"the run said: {why}",
        f"again: loss {shown.loss:.6g}, gradient norm {shown.grad_norm:.6g}; the update {again}",
    ]
    told += [f"given: {_told(finding)}" for finding in shown.given]
    told += [f"first: {_told(finding)}" for finding in shown.first]
    rows = sorted({row for finding in (*shown.given, *shown.first) for row in finding.rows})
    told += [_response(row, refused) for row in rows[:3]]
    if not shown.finite and not shown.first:
        told.append("no response alone is at fault: only their sum is not finite")
    if shown.finite:
        told.append(f"sampler and trainer differ by {shown.kl_nats:.4g} nats per token; most in:")
        told += [
            f"row {each.row}: {each.max_abs_logprob:.4g} at token {each.token} "
            f"({_token(each.row, each.token, refused, policy)!r}). {_response(each.row, refused)}"
            for each in shown.furthest
        ]
    return told


def _told(finding: Finding) -> str:
    rows = ", ".join(map(str, finding.rows[:12]))
    more = f" and {len(finding.rows) - 12} more" if len(finding.rows) > 12 else ""
    return f"{finding.where}: {finding.what}" + (f" (rows {rows}{more})" if rows else "")


def _response(row: int, refused: Refused) -> str:
    prompt, index = divmod(row, refused.batch.response_mask.shape[1])
    rollouts = refused.rollouts
    text = rollouts.texts[prompt][index]
    return f"row {row} is response {index} to {rollouts.prompts[prompt].prompt_id!r}: {text!r}"


def _token(row: int, token: int, refused: Refused, policy: Policy) -> str:
    ids = refused.rollouts.response_ids.flatten(0, 1)[row, token : token + 1]
    return str(policy.tokenizer.decode(ids.tolist()))
