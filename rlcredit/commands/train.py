"""``rlcredit train``: train one policy, or a sweep of them."""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from rlcredit.commands.build import job
from rlcredit.commands.conf import composing, conf_folder
from rlcredit.commands.errors import explain
from rlcredit.commands.run_main import run_main
from rlcredit.commands.schema import register
from rlcredit.commands.sweep import note_refused, refuse_unmeasured
from rlcredit.distributed.environment import place
from rlcredit.run.launch import launch
from rlcredit.run.ownership import FolderError
from rlcredit.run.sweep_table import save_failure


def run(cfg: DictConfig) -> float | None:
    """One Hydra job: its measure on the validation split, which a sweep may choose by.

    In a sweep a job that fails is recorded, it has no measure (None), and the others go on.

    Raises:
        ValueError: If torchrun, srun or mpirun starts a sweep in several processes, or a sweeper is
            to judge jobs that score no validation split.
    """
    folder = Path(os.path.relpath(HydraConfig.get().runtime.output_dir))
    if HydraConfig.get().mode is RunMode.RUN:
        return launch(job(cfg), folder, explain=explain)
    if (size := place(os.environ).size) > 1:
        raise ValueError(
            f"{size} processes were started together (by torchrun, srun or mpirun), which share "
            "one run, and -m asks for a sweep of runs; start one process of "
            "rlcredit train -m ... trainer.processes=N, which starts the processes of each"
        )
    refuse_unmeasured(cfg)
    try:
        return launch(job(cfg), folder, explain=explain)
    except FolderError as error:  # not ours to write into
        note_refused(str(error))
        print(f"this job was refused and the sweep goes on: {error}", file=sys.stderr)
        return None
    except Exception as error:
        sentence = explain(error)
        save_failure(folder, sentence or traceback.format_exc())
        print(f"this job failed and the sweep goes on: {sentence or error!r}", file=sys.stderr)
        return None


def start(words: Sequence[str]) -> Path:
    """One run from a program; the folder that it wrote.

    Raises:
        ValueError: If a word is none, or settings do not go together.
    """
    register()
    before = HydraConfig.instance().cfg
    try:
        with composing(conf_folder()):
            cfg = _composed(words)
            folder = Path(cfg.hydra.run.dir)
            with open_dict(cfg):
                cfg.hydra.runtime.output_dir = str(folder)
            HydraConfig.instance().set_config(cfg)
            settings = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
            launch(job(settings, words), folder, explain=explain)
    finally:
        HydraConfig.instance().cfg = before
    return folder


def _composed(words: Sequence[str]) -> DictConfig:
    """The config of a command line, Hydra's own node included."""
    try:
        return compose("train", list(words), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error) or str(error)) from error


def main() -> None:
    """The command line."""
    run_main(run, config_name="train", together=True)
