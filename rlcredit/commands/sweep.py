"""Jobs of one command: their common name, and the table of what became of them."""

import os
import secrets
import shutil
import sys
from hashlib import blake2b
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from rlcredit.run.job import SINGLE
from rlcredit.run.sweep_table import is_noted, note_job, noted_jobs, print_sweep

SWEEP = "RLCREDIT_SWEEP"
"""Environment variable with a sweep's group, for jobs that Slurm starts by a command of its own."""
NOTES = "RLCREDIT_SWEEP_NOTES"
"""Environment variable with the name of a sweep's folder of notes, which no other sweep shares."""


def sweep_group() -> str:
    """One name for all jobs of a sweep, the same when the same command is given again."""
    if HydraConfig.get().mode is not RunMode.MULTIRUN:
        return SINGLE
    return os.environ.get(SWEEP) or _group_of_command()


def _group_of_command() -> str:
    return "sweep-" + blake2b(" ".join(sys.argv[1:]).encode(), digest_size=4).hexdigest()


def refuse_unmeasured(config: DictConfig) -> None:
    """Refuse a search (``hydra/sweeper=optuna``) that cannot choose by what its jobs return.

    Raises:
        ValueError: If the jobs score no validation split, or the lowest measure is asked for.
    """
    sweeper = HydraConfig.get().sweeper
    if "direction" not in sweeper:
        return
    direction = str(sweeper.direction).rpartition(".")[2]  # its default is an enum's member
    if direction != "maximize":
        raise ValueError(
            f"hydra.sweeper.direction={direction}: a job returns its measure on the "
            "validation split, of which more is better; give hydra.sweeper.direction=maximize"
        )
    if config.evaluation.every == 0:
        raise ValueError(
            "evaluation.every=0 scores no validation split, and a search judges its jobs by it; "
            "give evaluation.every=N, a number of steps (the last one is always scored)"
        )


class SweepTable(Callback):
    """Prints what became of every job of a sweep, and fails the command if one of them failed.

    Jobs may be processes on other machines, so each notes in the sweep's folder where it lies.
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Name the sweep for its jobs; the same command given twice at once is two sweeps."""
        del config
        os.environ[SWEEP] = _group_of_command()
        os.environ[NOTES] = f".{os.environ[SWEEP]}-{secrets.token_hex(4)}"

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Note where a job lies."""
        if config.hydra.mode is RunMode.MULTIRUN and NOTES in os.environ:
            note_job(
                self._notes(config),
                number=config.hydra.job.num,
                folder=Path(os.path.relpath(config.hydra.runtime.output_dir)),
            )

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """The same for one that was killed before it began."""
        del job_return
        if NOTES in os.environ and not is_noted(self._notes(config), number=config.hydra.job.num):
            self.on_job_start(config)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the table."""
        notes = self._notes(config)
        jobs = noted_jobs(notes)
        shutil.rmtree(notes, ignore_errors=True)
        del os.environ[SWEEP], os.environ[NOTES]
        if print_sweep(jobs) > 0:
            sys.exit(1)

    def _notes(self, config: DictConfig) -> Path:
        return Path(config.hydra.sweep.dir) / os.environ[NOTES]


def note_refused(why: str) -> None:
    """Note for the sweep's table why the running job may not use its folder."""
    hydra = HydraConfig.get()
    if NOTES in os.environ:
        note_job(
            Path(hydra.sweep.dir) / os.environ[NOTES],
            number=hydra.job.num,
            folder=Path(os.path.relpath(hydra.runtime.output_dir)),
            refused=why,
        )
