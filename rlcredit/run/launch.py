"""One run, from an empty folder (or an unfinished one) to its summary.

Knows files and order; knows nothing of Hydra, nor of how a step is computed.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from rlcredit.checkpoint.folders import (
    Checkpoint,
    CheckpointError,
    at_step,
    differences,
    latest,
    latest_whole,
    listing,
    plain,
)
from rlcredit.distributed.environment import join_started
from rlcredit.distributed.launcher import Start, start_processes
from rlcredit.distributed.world import World
from rlcredit.errors import pasted
from rlcredit.evaluation.names import measure_name, method_name, run_name
from rlcredit.policy.base import Policy
from rlcredit.run.console import Header, RunConsole
from rlcredit.run.device import check_device, print_plan, refuse_absent
from rlcredit.run.evidence import caveat
from rlcredit.run.folder import RunSummary, Status
from rlcredit.run.job import Job, Parts, assemble
from rlcredit.run.ownership import (
    LOG_FILE,
    clear,
    new_run_id,
    owned,
    refuse_foreign,
    run_id,
    write_config,
)
from rlcredit.run.seal import verify
from rlcredit.run.session import Session
from rlcredit.trainer.settings import Resume
from rlcredit.types import Prompt


def no_sentence(error: BaseException) -> None:
    """Every error of another process is shown with its traceback."""
    del error


def launch(
    job: Job, folder: Path, *, explain: Callable[[BaseException], str | None] = no_sentence
) -> float | None:
    """Train, evaluate and write everything down; a finished run is only reported.

    Several processes are started from here, unless another program (torchrun, srun, mpirun) has
    started them already; then its number counts. One is this one.

    Args:
        job: What to run.
        folder: Where it writes.
        explain: The sentence for an error of another process, if a person can act on it.

    Returns:
        What a sweep may choose by: the headline measure of sampled responses (nDCG@10 by the
        training retriever, or Pass@1) on the validation split, after the last step. None where
        ``evaluation.every=0`` scores no validation split, and in all processes but the first.

    Raises:
        ValueError: For settings that cannot be run, or an environment that says of this process
            what cannot be.
        DeviceError: If the device is not there, or lacks what is asked of it.
        DoesNotFitError: If the device cannot hold the policy; said before anything is loaded.
        CheckpointError: If a checkpoint cannot be written, or must not be used.
        RefusedBatchError: If a loss or gradient is not finite, or the sampler is not the policy;
            the batch is saved.
        RankError: If one of several processes dies, fails or is stuck.
        SystemExit: After Ctrl-C or SIGTERM, with everything saved.
    """
    settings = job.trainer
    if not settings.plan and _finished(job, folder) is None:
        refuse_absent(settings.device)
    device = torch.device(settings.device).type
    world = join_started(os.environ, device=device, timeout_s=settings.timeout_s)
    if settings.plan:
        if world.leads:
            print_plan(job, world, say=RunConsole().say)
        world.leave()
        return None
    if world.size == 1 and settings.processes > 1 and _finished(job, folder) is None:
        if job.resume is Resume.wait:
            with _owned(job, folder, RunConsole()):
                pass  # waited for here, since the processes wait for each other only so long
        start = Start(
            processes=settings.processes,
            device=device,
            timeout_s=settings.timeout_s,
            port=settings.port,
        )
        return start_processes(run_rank, (job, folder), start, explain=explain)
    score = run_rank(job, folder, world=world)
    world.leave()
    return score


def run_rank(job: Job, folder: Path, *, world: World) -> float | None:
    """The share of one process; the first one alone writes files, prints and reports."""
    disable_progress_bar()  # of saving and loading weights; the console has its own
    _share_cores(job, world)
    _settle_kernels(job)
    world.enter("loading")
    console = RunConsole(None if world.leads else Console(quiet=True), brief=job.swept)
    with ExitStack() as ownership:
        done = _finished(job, folder) if world.leads else None
        if world.leads and done is None:
            ownership.enter_context(_owned(job, folder, console))
            done = _finished(job, folder)  # it may have ended while this process waited for it
        if world.largest(int(done is not None)) == [1]:
            return None if done is None else _report_finished(done, folder, console)
        checkpoint = _prepared(job, folder, warn=console.warn) if world.leads else None
        if world.leads:
            console.keep(folder / LOG_FILE)
        if job.swept:
            console.announce(f"{run_name(job.name)}, seed {job.seed}: {folder}")
        checkpoint = _agreed(checkpoint, folder, world)
        check_device(job, world, say=console.say)
        parts = assemble(job, failures=folder / "failed_texts", say=console.say, world=world)
        console.header(header(job, parts, folder))
        return Session(job=job, parts=parts, folder=folder, console=console)(checkpoint)


@contextmanager
def _owned(job: Job, folder: Path, console: RunConsole) -> Iterator[None]:
    """The folder, made if need be, and owned by this process."""
    _refuse_foreign(job, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with owned(folder, wait=job.resume is Resume.wait, warn=console.warn):
        yield


def _refuse_foreign(job: Job, folder: Path) -> None:
    """Refuse a folder that holds what is not this run's, and say which settings differ."""

    def differing() -> str:
        checkpoint, summary = latest(folder / "checkpoints"), RunSummary.read(folder)
        known = checkpoint or summary
        if known is None or not known.identity:
            return ""
        return ":\n" + listing(differences(known.identity, plain(job.identity)))

    anew = job.resume is Resume.never
    refuse_foreign(folder, job.digest, anew=anew, differences=differing)


def _prepared(job: Job, folder: Path, *, warn: Callable[[str], None]) -> Checkpoint | None:
    """The owned folder, cleared where the run starts anew, and its checkpoint, all verified.

    The run's id and config are written once, by its first sitting.
    """
    _refuse_foreign(job, folder)  # again, since another run in it may have been waited for
    if job.resume is Resume.never:
        clear(folder)
    checkpoint = _own_checkpoint(job, folder, warn=warn)
    if run_id(folder) is None:
        new_run_id(folder, job.digest)
    write_config(folder, config=job.config_text, words=job.words)
    return checkpoint


def _agreed(checkpoint: Checkpoint | None, folder: Path, world: World) -> Checkpoint | None:
    """The first process's checkpoint, in all of them; it alone has verified the files.

    Raises:
        CheckpointError: If another process does not see it.
    """
    (step,) = world.largest(0 if checkpoint is None else checkpoint.step)
    if not world.leads and step:
        checkpoint = at_step(folder / "checkpoints", step)
    (missing,) = world.largest(int(step > 0 and checkpoint is None))
    if missing:
        raise CheckpointError(
            f"{folder} holds a checkpoint of step {step} for the first process and none for "
            "another: the machines of a run must see the same run folder; place it on a shared "
            "disk with hydra.run.dir="
        )
    return checkpoint


def _share_cores(job: Job, world: World) -> None:
    """Processes of one machine do not crowd each other out; torchrun sees to it by itself."""
    threads = job.trainer.threads
    if threads is None and world.size > 1 and "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, len(os.sched_getaffinity(0)) // world.local_size)
    if threads is not None:
        torch.set_num_threads(threads)


def _settle_kernels(job: Job) -> None:
    """Kernels whose sums have one order, where that is asked for; set before the first is run."""
    if job.trainer.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # a warning, not an error: a sum along a row, which a GPU has one order for, is on the list
        torch.use_deterministic_algorithms(True, warn_only=True)


def _finished(job: Job, folder: Path) -> RunSummary | None:
    """The summary of this very run, if it lies there finished."""
    done = None if job.resume is Resume.never else RunSummary.read(folder)
    if done is None or done.status is not Status.finished or done.digest != job.digest:
        return None
    verify(folder, done.record, finished=True)
    return done


def _report_finished(done: RunSummary, folder: Path, console: RunConsole) -> float | None:
    change = done.measures[done.headline]
    console.announce(
        f"{folder} holds this very run, finished: {measure_name(done.headline)} "
        f"{change.before.mean:.3f} -> {change.after.mean:.3f}. To see it: "
        f"{pasted('rlcredit report', run=folder)}; to score it again: "
        f"{pasted('rlcredit evaluate', run=folder)}; to train it anew: resume=never"
    )
    return done.validated


def _own_checkpoint(job: Job, folder: Path, *, warn: Callable[[str], None]) -> Checkpoint | None:
    """The checkpoint to go on from. Refuses a folder in which another run lies."""
    parent, summary = folder / "checkpoints", RunSummary.read(folder)
    previous = job.resume is Resume.previous
    checkpoint = latest_whole(parent, say=warn) if previous else latest(parent)
    if checkpoint is not None:
        checkpoint.refuse_other(job.digest, job.identity)
        verify(folder, checkpoint.record, finished=False)
    if summary is not None and summary.digest != job.digest:
        other = "another config" if summary.identity else "an older version or another config"
        raise CheckpointError(
            f"{folder} holds a run of {other} (digest {summary.digest[:8]}, this one is "
            f"{job.digest[:8]}; its settings are in .hydra/overrides.yaml). Give that config, "
            "another hydra.run.dir, or resume=never to remove it and start anew"
        )
    return checkpoint


def header(job: Job, parts: Parts, folder: Path) -> Header:
    """What the person sees first."""
    return Header(
        task=parts.task,
        policy=parts.trainer.policy.description,
        prompt=_as_read(parts.trainer.policy, parts.task.train[0]),
        method=f"{method_name(job.estimator_name)} (estimator={job.estimator_name}), "
        f"loss={job.loss_name} ({type(job.loss).__name__})",
        reward=parts.evaluator.grader.rows,
        steps=job.trainer.steps,
        prompts_per_step=job.trainer.prompts_per_step,
        group_size=job.trainer.group_size,
        max_new_tokens=job.rollout.max_new_tokens,
        needs=parts.trainer.needs,
        folder=folder,
        caveat=caveat(job.words),
    )


def _as_read(policy: Policy, prompt: Prompt) -> str:
    """A prompt with all that a chat template puts around it."""
    ids, mask = policy.encode([prompt])
    text = policy.tokenizer.decode(ids[0][mask[0]])
    assert isinstance(text, str)  # one row
    return text
