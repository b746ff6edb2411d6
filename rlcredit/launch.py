"""One run, from an empty folder (or an unfinished one) to its summary.

Knows files and order; knows nothing of Hydra, nor of how a step is computed.
"""

import shutil
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from rlcredit.job import Job, Parts, assemble
from rlcredit.report.console import Header, RunConsole
from rlcredit.report.run_folder import RunSummary, Status
from rlcredit.run import Run
from rlcredit.trainer.checkpoint import Checkpoint, CheckpointError, latest, latest_whole
from rlcredit.trainer.settings import Resume


def launch(job: Job, folder: Path) -> float:
    """Train, evaluate and write everything down; a finished run is only reported.

    Returns:
        The headline measure of sampled responses on the test split: nDCG@10 by the training
        retriever, or Pass@1.

    Raises:
        ValueError: For settings that cannot be run.
        CheckpointError: If a checkpoint cannot be written, or must not be used.
        RefusedBatchError: If a loss or gradient is not finite, or the sampler is not the policy;
            the batch is saved.
        SystemExit: After Ctrl-C or SIGTERM, with everything saved.
    """
    disable_progress_bar()  # of saving and loading weights; the console has its own
    console = RunConsole()
    done = None if job.resume is Resume.never else RunSummary.read(folder)
    if done is not None and done.status is Status.finished and done.digest == job.digest:
        return _report_finished(done, folder, console)
    folder.mkdir(parents=True, exist_ok=True)
    if job.resume is Resume.never:
        _clear(folder)
    checkpoint = _own_checkpoint(job, folder, console)
    if job.trainer.threads is not None:
        torch.set_num_threads(job.trainer.threads)
    parts = assemble(job, failures=folder / "failed_texts", say=console.say)
    console.header(header(job, parts, folder))
    run = Run(job=job, parts=parts, folder=folder, console=console)
    before = run.test("before")
    if checkpoint is not None:
        run.restore(checkpoint)
    with run.tracked():
        run.train()
        after = run.test("after")
        return run.conclude(before, after)


def _report_finished(done: RunSummary, folder: Path, console: RunConsole) -> float:
    score = done.measures[done.headline].after.mean
    console.say(
        f"{folder} holds this very run, finished: {done.headline} "
        f"{done.measures[done.headline].before.mean:.3f} -> {score:.3f}. To score it again: python "
        f"scripts/evaluate.py run={folder}; to train it anew: resume=never"
    )
    return score


def _own_checkpoint(job: Job, folder: Path, console: RunConsole) -> Checkpoint | None:
    """The checkpoint to go on from. Refuses a folder in which another run lies."""
    parent, summary = folder / "checkpoints", RunSummary.read(folder)
    if job.resume is Resume.previous:
        checkpoint = latest_whole(parent, say=console.warn)
    else:
        checkpoint = latest(parent)
    if checkpoint is not None:
        checkpoint.refuse_other(job.digest, job.identity)
    if summary is not None and summary.digest != job.digest:
        raise CheckpointError(
            f"{folder} holds a run of another config (digest {summary.digest[:8]}, this one is "
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
