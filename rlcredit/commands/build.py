"""From a composed config to objects. The composition root."""

import math
import os
import shutil
import sys
import traceback
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rlcredit.commands.components import allowed, build
from rlcredit.commands.digests import evaluation_digest, run_identity, settings_digest
from rlcredit.commands.saved import saved_config, typed
from rlcredit.errors import explain
from rlcredit.explore import Explored, explore
from rlcredit.identity import digest
from rlcredit.job import Job
from rlcredit.launch import launch
from rlcredit.replay import Replayed, replay_batch
from rlcredit.report.page import find_runs, render, write_page
from rlcredit.report.sweep import note_job, noted_jobs, print_sweep, save_failure
from rlcredit.rescore import rescore
from rlcredit.trainer.pairing import check_pairing
from rlcredit.trainer.replay import Replay
from rlcredit.transfer import FinishedRun, transfer


def run(cfg: DictConfig) -> float | None:
    """One Hydra job. In a sweep a job that fails is recorded and the others go on."""
    folder = Path(os.path.relpath(HydraConfig.get().runtime.output_dir))
    if HydraConfig.get().mode is RunMode.RUN:
        return launch(job(cfg), folder, explain=explain)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ValueError(
            "torchrun starts the processes of one run, and -m asks for a sweep of runs; use "
            "python train.py -m ... trainer.processes=N, which starts the processes of each"
        )
    try:
        return launch(job(cfg), folder, explain=explain)
    except Exception as error:
        sentence = explain(error)
        save_failure(folder, sentence or traceback.format_exc())
        print(f"this job failed and the sweep goes on: {sentence or error!r}", file=sys.stderr)
        return math.nan


def job(cfg: DictConfig) -> Job:
    """Build every component of a config; the folder and the data are not touched.

    Raises:
        ValueError: If a value is out of range, or an estimator and a loss do not go together.
    """
    if cfg.table is not None:
        raise ValueError(
            "this experiment declares a table, not a run; make it with "
            "python scripts/reproduce_tables.py --size smoke"
        )
    choices, allow = HydraConfig.get().runtime.choices, allowed_by_command(cfg)
    parts = {name: build(cfg[name], allow=allow) for name in _COMPONENTS}
    check_pairing(
        parts["estimator"],
        parts["loss"],
        group_size=parts["trainer"].group_size,
        num_candidates=parts["dataset"].candidates,
        scores_parts=parts["reward"].scores_parts,
    )
    names = [*dict.fromkeys([str(choices["retriever"]), *cfg.evaluation.retrievers])]
    identity = run_identity(cfg, allow=allow)
    return Job(
        seed=cfg.seed,
        resume=cfg.resume,
        cache=Path(cfg.cache),
        digest=digest(identity),
        identity=identity,
        evaluation_digest=evaluation_digest(cfg),
        config=_config(cfg),
        dataset_name=str(choices["dataset"]),
        estimator_name=str(choices["estimator"]),
        retriever_name=str(choices["retriever"]),
        retrievers={
            name: build(cfg.retriever if index == 0 else retriever_config(name), allow=allow)
            for index, name in enumerate(names)
        },
        group=_sweep_group(),
        **parts,
    )


_COMPONENTS = (
    "policy",
    "estimator",
    "loss",
    "dataset",
    "reward",
    "segmenter",
    "encoder",
    "rollout",
    "trainer",
    "tracker",
    "evaluation",
)


def rescore_run(cfg: DictConfig) -> None:
    """Score a finished run's stored responses with the retriever of ``conf/evaluate.yaml``."""
    run, allow = Path(cfg.run), allowed_by_command(cfg)
    saved = saved_config(run, allow=allow)
    rescore(
        run,
        dataset=_part(saved.dataset, allow),
        retriever=build(cfg.retriever, allow=allow),
        name=str(HydraConfig.get().runtime.choices["retriever"]),
        reward=_part(saved.reward, allow),
        temperature=saved.rollout.temperature,
        cache=Path(cfg.cache),
    )


def transfer_runs(cfg: DictConfig) -> Path:
    """Write the matrix of ``conf/transfer.yaml``; where it lies."""
    asked = [cfg.runs] if isinstance(cfg.runs, str) else list(cfg.runs)
    found, _ = find_runs([Path(folder) for folder in asked])
    allow = allowed_by_command(cfg)
    return transfer(
        [_finished(run.folder, allow) for run in found],
        retrievers={name: build(retriever_config(name), allow=allow) for name in cfg.retrievers},
        out=Path(cfg.out),
        cache=Path(cfg.cache),
    )


def _finished(folder: Path, allow: Sequence[str]) -> FinishedRun:
    saved = saved_config(folder, allow=allow)
    parts = {name: _part(saved[name], allow) for name in ("retriever", "dataset", "reward")}
    settings = settings_digest(saved, allow=allow)
    return FinishedRun.read(folder, settings=settings, seed=saved.seed, **parts)


def report_runs(cfg: DictConfig) -> Path:
    """Write the page of ``conf/report.yaml``; where it lies."""
    runs, gaps = find_runs([Path(cfg.run)])
    explored = Path(cfg.explore) if cfg.explore else runs[0].folder
    shown = explore(_explored(explored, cfg), num_prompts=cfg.prompts)
    html = render(
        runs,
        gaps,
        explored=shown.prompts,
        part=shown.part,
        titles=shown.titles,
        explored_run=explored,
    )
    return write_page(Path(cfg.out) if cfg.out else Path(cfg.run) / "report.html", html)


def replay_refused(cfg: DictConfig) -> Replay:
    """Compute the batch of ``conf/replay.yaml`` again, with the settings of its run."""
    folder = Path(cfg.batch)
    allow = allowed_by_command(cfg)
    saved = saved_config(folder.parent, allow=allow)
    trainer = _part(saved.trainer, allow)
    return replay_batch(
        Replayed(
            folder=folder,
            seed=saved.seed,
            cache=Path(cfg.cache),
            device=cfg.device or trainer.device,
            trainer=trainer,
            **{part: _part(saved[part], allow) for part in ("dataset", "policy", "loss")},
        )
    )


def _explored(run: Path, cfg: DictConfig) -> Explored:
    """A finished run's components, and the estimators that its responses are shown to."""
    allow = allowed_by_command(cfg)
    saved = saved_config(run, allow=allow)
    dataset = _part(saved.dataset, allow)
    names = cfg.set_estimators if dataset.candidates else cfg.estimators
    return Explored(
        run=run,
        dataset=dataset,
        retriever=_part(saved.retriever, allow),
        reward=_part(saved.reward, allow),
        segmenter=_part(saved.segmenter, allow),
        encoder=_part(saved.encoder, allow),
        estimators={
            name: build(compose("train", overrides=[f"estimator={name}"]).estimator, allow=allow)
            for name in names
        },
        seed=saved.seed,
        cache=Path(cfg.cache),
    )


def _part(node: DictConfig, allow: Sequence[str]) -> Any:
    return build(typed(node, allow=allow), allow=allow)


def allowed_by_command(cfg: DictConfig) -> tuple[str, ...]:
    """The packages from outside that the words of the running command allow.

    Raises:
        ValueError: If a file says so.
    """
    allow = allowed(HydraConfig.get().overrides.task)
    if tuple(cfg.allow) != allow:
        raise ValueError(
            f"allow={list(cfg.allow)} stands in a file, and files allow no code; give it on the "
            "command line"
        )
    return allow


def retriever_config(name: str) -> DictConfig:
    """The config of a retriever by its name in conf/retriever."""
    return compose("train", overrides=[f"retriever={name}"]).retriever


def _config(cfg: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict), "the root of a config is a mapping"
    return {str(key): value for key, value in plain.items()}


def _sweep_group() -> str:
    """One name for all jobs of a sweep, the same when the same command is given again."""
    if HydraConfig.get().mode is RunMode.RUN:
        return "single"
    return os.environ.get(SWEEP) or _group_of_command()


def _group_of_command() -> str:
    return "sweep-" + blake2b(" ".join(sys.argv[1:]).encode(), digest_size=4).hexdigest()


SWEEP = "RLCREDIT_SWEEP"
"""Environment variable with a sweep's group, for jobs that Slurm starts by a command of its own."""


class SweepTable(Callback):
    """Prints what became of every job of a sweep, and fails the command if one of them failed.

    Jobs may be processes on other machines, so each notes in the sweep's folder where it lies.
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Name the sweep for its jobs."""
        os.environ[SWEEP] = _group_of_command()
        shutil.rmtree(self._notes(config), ignore_errors=True)

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Note where a job lies."""
        if config.hydra.mode is RunMode.MULTIRUN and SWEEP in os.environ:
            note_job(
                self._notes(config),
                number=config.hydra.job.num,
                folder=Path(os.path.relpath(config.hydra.runtime.output_dir)),
            )

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """The same for one that was killed before it began."""
        del job_return
        self.on_job_start(config)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the table."""
        notes = self._notes(config)
        folders = noted_jobs(notes)
        shutil.rmtree(notes, ignore_errors=True)
        del os.environ[SWEEP]
        if print_sweep(folders) > 0:
            sys.exit(1)

    def _notes(self, config: DictConfig) -> Path:
        return Path(config.hydra.sweep.dir) / f".{os.environ[SWEEP]}"
