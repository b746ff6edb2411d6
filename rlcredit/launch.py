"""One run, from an empty folder (or an unfinished one) to its summary.

Knows files and order; knows nothing of Hydra, nor of how a step is computed.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from rlcredit.distributed.launcher import Start, start_processes, world_of_torchrun
from rlcredit.distributed.world import World
from rlcredit.follow import follow
from rlcredit.job import Job, Parts, assemble
from rlcredit.report.console import Header, RunConsole
from rlcredit.report.run_folder import RunSummary, Status
from rlcredit.run import Run
from rlcredit.trainer.checkpoint import Checkpoint, CheckpointError, latest, latest_whole
from rlcredit.trainer.settings import Resume


def no_sentence(error: BaseException) -> None:
    """Every error of another process is shown with its traceback."""
    del error


def launch(
    job: Job, folder: Path, *, explain: Callable[[BaseException], str | None] = no_sentence
) -> float | None:
    """Train, evaluate and write everything down; a finished run is only reported.

    Several processes are started from here, unless torchrun has started them already. One is this
    one.

    Args:
        job: What to run.
        folder: Where it writes.
        explain: The sentence for an error of another process, if a person can act on it.

    Returns:
        The headline measure of sampled responses on the test split: nDCG@10 by the training
        retriever, or Pass@1. None in all processes but the first.

    Raises:
        ValueError: For settings that cannot be run.
        CheckpointError: If a checkpoint cannot be written, or must not be used.
        RefusedBatchError: If a loss or gradient is not finite, or the sampler is not the policy;
            the batch is saved.
        RankError: If one of several processes dies, fails or is stuck.
        SystemExit: After Ctrl-C or SIGTERM, with everything saved.
    """
    settings = job.trainer
    device = torch.device(settings.device).type
    world = world_of_torchrun(device=device, timeout_s=settings.timeout_s)
    if world.size == 1 and settings.processes > 1 and _finished(job, folder) is None:
        start = Start(
            processes=settings.processes,
            device=device,
            timeout_s=settings.timeout_s,
            port=settings.port,
        )
        return start_processes(take_part, (job, folder), start, explain=explain)
    score = take_part(job, folder, world=world)
    world.leave()
    return score


def take_part(job: Job, folder: Path, *, world: World) -> float | None:
    """The share of one process; the first one alone writes files, prints and reports."""
    disable_progress_bar()  # of saving and loading weights; the console has its own
    _share_cores(job, world)
    world.enter("loading")
    done = _finished(job, folder) if world.leads else None
    if world.largest(int(done is not None)) == [1]:
        return None if done is None else _report_finished(done, folder, RunConsole())
    if not world.leads:
        world.wait()  # until the first has removed or set aside what is not to be used
        checkpoint = _own_checkpoint(job, folder, warn=_nothing)
        parts = _assembled(job, folder, checkpoint, world, say=_nothing)
        follow(job, parts, folder, checkpoint)
        return None
    console = RunConsole()
    folder.mkdir(parents=True, exist_ok=True)
    if job.resume is Resume.never:
        _clear(folder)
    checkpoint = _own_checkpoint(job, folder, warn=console.warn)
    world.wait()
    parts = _assembled(job, folder, checkpoint, world, say=console.say)
    console.header(header(job, parts, folder))
    run = Run(job=job, parts=parts, folder=folder, console=console)
    before = run.test("before")
    if checkpoint is not None:
        run.restore(checkpoint)
    with run.tracked():
        run.train()
        after = run.test("after")
        return run.conclude(before, after)


def _nothing(line: str) -> None:
    """Only the first process speaks."""
    del line


def _share_cores(job: Job, world: World) -> None:
    """Processes of one machine do not crowd each other out; torchrun sees to it by itself."""
    threads = job.trainer.threads
    if threads is None and world.size > 1 and "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, len(os.sched_getaffinity(0)) // world.local_size)
    if threads is not None:
        torch.set_num_threads(threads)


def _assembled(
    job: Job,
    folder: Path,
    checkpoint: Checkpoint | None,
    world: World,
    *,
    say: Callable[[str], None],
) -> Parts:
    """The parts; all processes go on from the same step."""
    step = 0 if checkpoint is None else checkpoint.step
    most, least = world.largest(step, -step)
    if most != -least:
        raise CheckpointError(
            f"{folder} holds a checkpoint of step {most} for one process and {-least} for another "
            "(0: none): the machines of a run must see the same run folder; place it on a shared "
            "disk with hydra.run.dir="
        )
    return assemble(job, failures=folder / "failed_texts", say=say, world=world)


def _finished(job: Job, folder: Path) -> RunSummary | None:
    """The summary of this very run, if it lies there finished."""
    done = None if job.resume is Resume.never else RunSummary.read(folder)
    if done is None or done.status is not Status.finished or done.digest != job.digest:
        return None
    return done


def _report_finished(done: RunSummary, folder: Path, console: RunConsole) -> float:
    score = done.measures[done.headline].after.mean
    console.say(
        f"{folder} holds this very run, finished: {done.headline} "
        f"{done.measures[done.headline].before.mean:.3f} -> {score:.3f}. To score it again: "
        f"rlcredit evaluate run={folder}; to train it anew: resume=never"
    )
    return score


def _own_checkpoint(job: Job, folder: Path, *, warn: Callable[[str], None]) -> Checkpoint | None:
    """The checkpoint to go on from. Refuses a folder in which another run lies."""
    parent, summary = folder / "checkpoints", RunSummary.read(folder)
    previous = job.resume is Resume.previous
    checkpoint = latest_whole(parent, say=warn) if previous else latest(parent)
    if checkpoint is not None:
        checkpoint.refuse_other(job.digest, job.identity)
    if summary is not None and summary.digest != job.digest:
        other = "another config" if summary.identity else "an older version or another config"
        raise CheckpointError(
            f"{folder} holds a run of {other} (digest {summary.digest[:8]}, this one is "
            f"{job.digest[:8]}; its settings are in .hydra/overrides.yaml). Give that config, "
            "another hydra.run.dir, or resume=never to remove it and start anew"
        )
    return checkpoint


WRITTEN = (
    "metrics.jsonl",
    "completions.jsonl",
    "responses.jsonl",
    "summary.json",
    "failure.txt",
    "failed_batch",
    "run_id",
    "checkpoints",
    "evaluations",
    "trec",
    "solutions",
    "policy",
)
"""What a run leaves in its folder; the count of looks at the test split outlives a new start."""


def _clear(folder: Path) -> None:
    for name in WRITTEN:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def header(job: Job, parts: Parts, folder: Path) -> Header:
    """What the person sees first."""
    return Header(
        task=parts.task,
        policy=parts.trainer.policy.description,
        method=f"{job.estimator_name}, {type(job.loss).__name__}",
        reward=parts.evaluator.grader.rows,
        steps=job.trainer.steps,
        prompts_per_step=job.trainer.prompts_per_step,
        group_size=job.trainer.group_size,
        max_new_tokens=job.rollout.max_new_tokens,
        needs=parts.trainer.needs,
        folder=folder,
    )
