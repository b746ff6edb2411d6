"""From a composed config to objects. The composition root."""

import math
import os
import shutil
import sys
import traceback
from hashlib import blake2b
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.errors import InstantiationException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from rlcredit.commands.schema import (
    evaluation_digest,
    run_digest,
    run_identity,
    schema,
    settings_digest,
)
from rlcredit.errors import explain, raised_here
from rlcredit.explore import Explored, explore
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
    choices = HydraConfig.get().runtime.choices
    parts = {name: build(cfg[name]) for name in _COMPONENTS}
    check_pairing(
        parts["estimator"],
        parts["loss"],
        group_size=parts["trainer"].group_size,
        num_candidates=parts["dataset"].candidates,
        scores_parts=parts["reward"].scores_parts,
    )
    names = [*dict.fromkeys([str(choices["retriever"]), *cfg.evaluation.retrievers])]
    return Job(
        seed=cfg.seed,
        resume=cfg.resume,
        cache=Path(cfg.cache),
        digest=run_digest(cfg),
        identity=run_identity(cfg),
        evaluation_digest=evaluation_digest(cfg),
        config=_config(cfg),
        dataset_name=str(choices["dataset"]),
        estimator_name=str(choices["estimator"]),
        retriever_name=str(choices["retriever"]),
        retrievers={
            name: build(cfg.retriever if index == 0 else retriever_config(name))
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
    run = Path(cfg.run)
    saved = saved_config(run)
    rescore(
        run,
        dataset=build(typed(saved.dataset)),
        retriever=build(cfg.retriever),
        name=str(HydraConfig.get().runtime.choices["retriever"]),
        reward=build(typed(saved.reward)),
        temperature=saved.rollout.temperature,
        cache=Path(cfg.cache),
    )


def transfer_runs(cfg: DictConfig) -> Path:
    """Write the matrix of ``conf/transfer.yaml``; where it lies."""
    asked = [cfg.runs] if isinstance(cfg.runs, str) else list(cfg.runs)
    found, _ = find_runs([Path(folder) for folder in asked])
    return transfer(
        [_finished(run.folder) for run in found],
        retrievers={name: build(retriever_config(name)) for name in cfg.retrievers},
        out=Path(cfg.out),
        cache=Path(cfg.cache),
    )


def _finished(folder: Path) -> FinishedRun:
    saved = saved_config(folder)
    saved.trainer = typed(saved.trainer)  # with the settings that are younger than the run
    parts = {name: build(typed(saved[name])) for name in ("retriever", "dataset", "reward")}
    return FinishedRun.read(folder, settings=settings_digest(saved), seed=saved.seed, **parts)


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
    saved = saved_config(folder.parent)
    trainer = build(typed(saved.trainer))
    return replay_batch(
        Replayed(
            folder=folder,
            seed=saved.seed,
            cache=Path(cfg.cache),
            device=cfg.device or trainer.device,
            trainer=trainer,
            **{part: build(typed(saved[part])) for part in ("dataset", "policy", "loss")},
        )
    )


def _explored(run: Path, cfg: DictConfig) -> Explored:
    """A finished run's components, and the estimators that its responses are shown to."""
    saved = saved_config(run)
    dataset = build(typed(saved.dataset))
    names = cfg.set_estimators if dataset.candidates else cfg.estimators
    return Explored(
        run=run,
        dataset=dataset,
        retriever=build(typed(saved.retriever)),
        reward=build(typed(saved.reward)),
        segmenter=build(typed(saved.segmenter)),
        encoder=build(typed(saved.encoder)),
        estimators={
            name: build(compose("train", overrides=[f"estimator={name}"]).estimator)
            for name in names
        },
        seed=saved.seed,
        cache=Path(cfg.cache),
    )


def saved_config(run: Path) -> DictConfig:
    """What a run folder says the run was made of.

    Raises:
        ValueError: If it is no run folder.
    """
    path = run / ".hydra" / "config.yaml"
    if not path.exists():
        raise ValueError(f"{run} is no run folder: it has no .hydra/config.yaml; give run=<folder>")
    saved = OmegaConf.load(path)
    assert isinstance(saved, DictConfig), "the root of a config is a mapping"
    return saved


def typed(node: DictConfig) -> DictConfig:
    """A component's node read back from a file, with the types of its schema (enums above all)."""
    whole = OmegaConf.structured(schema(get_class(node["_target_"])))
    merged = OmegaConf.merge(whole, node)
    assert isinstance(merged, DictConfig), "a component is a mapping"
    return merged


def build(node: DictConfig) -> Any:
    """Instantiate a component; its own complaint comes through unwrapped."""
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if cause is not None and raised_here(cause):
            raise cause from None
        raise


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
