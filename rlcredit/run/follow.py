"""What every process of a run but the first does: its share of the steps, and nothing on disk.

The first one evaluates, writes and prints meanwhile; the others wait for it in the next exchange.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlcredit.checkpoint.folders import Checkpoint
from rlcredit.checkpoint.state import restore
from rlcredit.checkpoint.writer import CheckpointWriter
from rlcredit.diagnose.refused_batch import save_batch
from rlcredit.distributed.world import World
from rlcredit.run.job import Job, Parts
from rlcredit.run.stop import StopRequest, stop_request
from rlcredit.trainer.loop import StepResult
from rlcredit.trainer.refused import RefusedBatchError
from rlcredit.trainer.settings import TrainerSettings


@dataclass(frozen=True, kw_only=True)
class AfterStep:
    """What happens after a step, the same in all processes."""

    saves: bool
    stop: StopRequest
    """Of whichever process was asked to stop; it has no number if none was."""

    @property
    def stops(self) -> bool:
        """Does the run end here, before its last step?"""
        return self.stop.number is not None


def after_step(
    step: int, settings: TrainerSettings, world: World, stop: StopRequest, *, improves: bool = False
) -> AfterStep:
    """Agree on it.

    Args:
        step: That is done.
        settings: Say when checkpoints are due.
        world: Of this process.
        stop: What this process was asked.
        improves: The policy is the best so far, which the first process knows.

    Raises:
        RankError: If a process is dead, or does not come in time.
    """
    number, best = world.largest(stop.number or 0, int(improves))
    last = step == settings.steps
    stopping = number > 0 and not last
    due = last or step % settings.checkpoint_every == 0
    saves = due or stopping or best > 0
    if saves:
        world.enter(f"the checkpoint of step {step}")
    return AfterStep(saves=saves, stop=StopRequest(number if stopping else None))


def checkpoint_writer(job: Job, folder: Path, world: World) -> CheckpointWriter:
    """Of a run's checkpoints; every process has one."""
    return CheckpointWriter(
        parent=folder / "checkpoints",
        digest=job.digest,
        identity=job.identity,
        keep=job.trainer.keep_checkpoints,
        world=world,
    )


def steps(parts: Parts, folder: Path, *, after: int) -> Iterator[StepResult]:
    """The steps that are left; a batch that is refused is saved before the run ends on it.

    Raises:
        RefusedBatchError: With where the batch lies, and the command that replays it.
    """
    try:
        yield from parts.trainer.run(after=after)
    except RefusedBatchError as error:
        where = save_batch(folder / "failed_batch", error, parts.trainer.policy.model)
        raise type(error)(
            f"{error} in {where}: rlcredit replay batch={where}", error.refused
        ) from error


def follow(job: Job, parts: Parts, folder: Path, checkpoint: Checkpoint | None) -> None:
    """All steps that are left.

    Raises:
        RankError: If a process is dead, or does not come in time.
        SystemExit: After a signal to any of the processes, with everything saved.
    """
    trainer, settings = parts.trainer, job.trainer
    checkpoints = checkpoint_writer(job, folder, trainer.world)
    _lend(parts, to="the evaluation before training")
    done = 0
    if checkpoint is None:
        _lend_if_evaluated(job, parts, 0)
    else:
        restore(checkpoint, trainer.policy.model, trainer.optimizer)
        done = checkpoint.step
    with stop_request() as stop, checkpoints.waited_for():
        for result in steps(parts, folder, after=done):
            _lend_if_evaluated(job, parts, result.step)
            then = after_step(result.step, settings, trainer.world, stop)
            if then.saves:
                checkpoints.start(
                    step=result.step,
                    model=trainer.policy.model,
                    optimizer=trainer.optimizer,
                    carry={},
                )
            if then.stops:
                checkpoints.wait()
                sys.exit(then.stop.exit_status)
    _lend(parts, to="the evaluation after training")
    _lend(parts, to="the export")


def _lend_if_evaluated(job: Job, parts: Parts, step: int) -> None:
    if job.evaluation.is_due(step, last=job.trainer.steps):
        _lend(parts, to=f"the evaluation after step {step}")


def _lend(parts: Parts, *, to: str) -> None:
    """This process's part of the weights to the first one, which uses the whole policy."""
    parts.trainer.world.enter(to)
    with parts.trainer.policy.whole():
        pass
