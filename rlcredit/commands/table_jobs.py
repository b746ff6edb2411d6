"""The jobs of tables: composed once a configuration, run one after another or several at a time.

Every job computes on one thread, so that its bits do not depend on how many run beside it.
"""

import contextlib
import gc
import os
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from rlcredit.commands.build import job
from rlcredit.commands.components import build
from rlcredit.commands.composer import Composer
from rlcredit.commands.conf import conf_folder
from rlcredit.commands.digests import run_identity, subfolder
from rlcredit.commands.errors import explain
from rlcredit.commands.schema import register
from rlcredit.commands.table_choice import finished_runs, sort_out
from rlcredit.identity import digest, numerics_of, without_numerics
from rlcredit.policy.packaged import Package
from rlcredit.run.folder import RunSummary
from rlcredit.run.launch import launch
from rlcredit.run.ownership import FolderError
from rlcredit.run.sweep_table import save_failure
from rlcredit.tables.declare import Table
from rlcredit.tables.jobs import PlannedJob
from rlcredit.tables.kept import KeptRecords
from rlcredit.tables.records import FinishedRun, run_folders

EVERY_JOB = ("tracker=jsonl", "trainer.threads=1")


@dataclass(kw_only=True)
class Planner:
    """Composes the jobs of tables; each configuration once, whatever the number of seeds."""

    outputs: Path
    conf: str = ""
    """Folder below ``conf/`` to compose from; empty: ``conf/`` itself."""
    composed: dict[tuple[str, ...], DictConfig] = field(default_factory=dict)
    identities: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
    """Identity of each configuration, with the first seed that was asked for."""

    @property
    def folder(self) -> str:
        """The folder as a command line of today's directory names it; empty: ``conf/``."""
        return os.path.relpath(conf_folder() / self.conf) if self.conf else ""

    @cached_property
    def composer(self) -> Composer:
        """Of the planner's folder."""
        return Composer(folder=conf_folder() / self.conf)

    def config(self, overrides: Sequence[str], seed: int) -> DictConfig:
        """A job's config, with Hydra's own part, as train.py would compose it."""
        cfg = self._composed(overrides).copy()
        cfg.seed = seed
        return cfg

    def _composed(self, overrides: Sequence[str]) -> DictConfig:
        """The config that the jobs of all seeds share.

        Raises:
            ValueError: If anything but the seed depends on it.
        """
        key = tuple(overrides)
        if key not in self.composed:
            cfg = self.composer([*overrides, *EVERY_JOB])
            if "${seed}" in str(OmegaConf.to_container(cfg)):
                raise ValueError(
                    f"{' '.join(overrides)}: a setting that is taken from the seed (${{seed}}) "
                    "would be another for each seed of a row; write its value"
                )
            with open_dict(cfg):
                cfg.hydra.runtime.output_dir = "set by the job"
            self.composed[key] = cfg
        return self.composed[key]

    def jobs(self, table: Table, size: str, data: Iterable[str]) -> Iterator[PlannedJob]:
        """The jobs of a table, seed by seed, so that what is half done has every row."""
        for seed in table.size(size).seeds:
            for name in data:
                for row in table.rows_of(name):
                    overrides = table.overrides(row, name, size, seed)
                    cfg = self._composed(overrides)
                    needed = table.size(size).runs_here and not table.data[name].path
                    identity = self._identity(overrides, seed, needed=needed)
                    yield PlannedJob(
                        row=row,
                        data=name,
                        seed=seed,
                        settings=tuple(overrides),
                        overrides=(*overrides, *EVERY_JOB, f"seed={seed}"),
                        digest=digest(identity) if identity else "",
                        kin=digest(without_numerics(identity)) if identity else "",
                        numerics=numerics_of(identity),
                        folder=self._folder(cfg, identity),
                        evaluation=build(cfg.evaluation),
                        reads_validation=table.reads_validation(name),
                        lacks=_lacks(cfg),
                        conf=self.folder,
                    )

    def _identity(self, overrides: Sequence[str], seed: int, *, needed: bool) -> dict[str, Any]:
        """A job's identity; of data that are not here, none."""
        key = tuple(overrides)
        if key not in self.identities:
            try:
                self.identities[key] = run_identity(self._composed(overrides))
            except (ValueError, OSError):
                if needed:
                    raise
                self.identities[key] = {}
        known = self.identities[key]
        return known | {"seed": seed} if known else {}

    def _folder(self, cfg: DictConfig, identity: Mapping[str, Any]) -> Path:
        return self.outputs / (subfolder(cfg, identity) if identity else "data-not-here")


def _lacks(cfg: DictConfig) -> str:
    """What the policy of a job needs and is not here: weights in a package that nobody fetched."""
    node = cfg.policy.get("package")
    if node is None:
        return ""
    package: Package = build(node)
    if package.is_here(Path(cfg.cache)):
        return ""
    return (
        f"the weights in the package {package.project}=={package.version} are not here; "
        "make smollm2 fetches them"
    )


def run_missing(
    jobs: Sequence[PlannedJob],
    planner: Planner,
    *,
    kept: KeptRecords | None,
    workers: int = 1,
    renew: bool = False,
) -> int:
    """Run what is not finished; how many jobs failed, could not be kept, or stand in their own way.

    A finished run that a table cannot show (it was scored otherwise) is neither reused nor run
    over: its folder is somebody's. It is named, with the remedy. Records are kept at the end, in
    one part; a sitting that was killed leaves its runs, which the next one keeps.

    Args:
        jobs: Of one table or more; a digest is run once.
        planner: Composes them.
        kept: Where records are kept; None: nowhere.
        workers: Jobs at a time; more than one run in processes of their own.
        renew: Run those jobs too that finished before a component's ``numerics`` was raised; tables
            show such runs, marked.

    Raises:
        ValueError: If an index of kept records cannot be read: all its jobs would run again.
    """
    if kept is not None and kept.damaged:
        raise ValueError(f"no job is run: {'; '.join(kept.damaged)}")
    todo, reused, failed = _to_run(jobs, planner, renew=renew)
    print(f"{len(todo)} jobs to run, {len(reused)} finished ones reused", flush=True)
    done = [runs[0] for runs in reused if not any(run.kept for run in runs)]
    several = workers > 1 and len(todo) > 1
    outcomes = _in_processes if several else _one_by_one
    try:
        for number, outcome in enumerate(outcomes(todo, planner, workers), 1):
            folder, failure = outcome.planned.folder, outcome.failure
            status = "finished" if failure is None else f"FAILED: {failure}"
            failed += failure is not None
            done += run_folders(folder)[0] if failure is None else []
            print(f"[{number}/{len(todo)}] {folder} {status} ({outcome.seconds:.0f} s)", flush=True)
    finally:
        failed += _keep(done, kept) if kept is not None and done else 0
    return failed


def _to_run(
    jobs: Sequence[PlannedJob], planner: Planner, *, renew: bool
) -> tuple[list[PlannedJob], list[tuple[FinishedRun, ...]], int]:
    """Jobs to run, the usable runs of the others, and how many are barred by one that is not."""
    todo: list[PlannedJob] = []
    reused: list[tuple[FinishedRun, ...]] = []
    barred = 0
    finished = finished_runs(planner.outputs)
    for planned in {planned.digest: planned for planned in jobs}.values():
        found = sort_out(finished.same(planned) if renew else finished.of(planned), planned)
        if found.usable:
            reused.append(found.usable)
        elif any(run.kept or run.place == str(planned.folder) for run in found.unusable):
            barred += 1
            print(f"not run: {'; '.join(found.why)}", flush=True)
        else:
            todo.append(planned)
    return todo, reused, barred


def _keep(runs: Sequence[FinishedRun], kept: KeptRecords) -> int:
    """Keep the records of finished runs; how many could not be."""
    try:
        refused = kept.append(runs)
    except OSError as error:
        print(f"{len(runs)} records cannot be kept in {kept.folder}: {error}", flush=True)
        return len(runs)
    for why in refused:
        print(why, flush=True)
    return len(refused)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job."""

    planned: PlannedJob
    failure: str | None
    seconds: float


def _one_by_one(jobs: Sequence[PlannedJob], planner: Planner, _: int) -> Iterator[Outcome]:
    for planned in jobs:
        yield run_job(planned, planner)


def _in_processes(jobs: Sequence[PlannedJob], planner: Planner, workers: int) -> Iterator[Outcome]:
    """Run jobs in processes; yield outcomes in the order in which they end.

    Workers are forks of a server that has imported everything and started no thread; a fork of this
    process would copy torch's threads half way.

    A worker that dies takes the pool with it: what has not finished by then has failed, and says
    why, so that the tables are rendered from what has.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)),
        mp_context=context,
        initializer=_start_worker,
        initargs=(planner.outputs, planner.conf),
    )
    waiting: dict[Future[Outcome], PlannedJob] = {}
    unasked: list[PlannedJob] = []
    try:
        for planned in jobs:
            try:
                waiting[pool.submit(_work, planned)] = planned
            except BrokenProcessPool:
                unasked.append(planned)
        for future in as_completed(waiting):
            try:
                yield future.result()
            except BrokenProcessPool:
                yield _left_by_a_dead_worker(waiting[future], workers)
        for planned in unasked:
            yield _left_by_a_dead_worker(planned, workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _left_by_a_dead_worker(planned: PlannedJob, workers: int) -> Outcome:
    """Outcome of a job that ran or waited when a worker died; it may have finished just before."""
    why = (
        f"a worker died (killed, or out of memory: {workers} jobs ran at a time) before this job "
        "was done. The same command goes on; give --workers 1 if memory was short"
    )
    try:
        summary = RunSummary.read(planned.folder)
        if summary is not None and summary.digest == planned.digest:
            return Outcome(planned=planned, failure=None, seconds=0.0)
        save_failure(planned.folder, why)
    except (ValueError, OSError) as error:
        why = f"{why} ({error})"
    return Outcome(planned=planned, failure=why, seconds=0.0)


_worker: list[Planner] = []


def _start_worker(outputs: Path, conf: str) -> None:
    """A planner, for the life of a worker process."""
    register()
    _worker.append(Planner(outputs=outputs, conf=conf))


def _work(planned: PlannedJob) -> Outcome:
    return run_job(planned, _worker[0])


def run_job(planned: PlannedJob, planner: Planner) -> Outcome:
    """One job as train.py runs it, its console in ``train.log`` alone; a failure ends it alone."""
    began = time.monotonic()
    try:
        with planner.composer.hydra():
            failure = _launched(planned, planner)
    except Exception as error:  # before the run began, or while its failure was written down
        failure = explain(error) or repr(error)
    gc.collect()
    return Outcome(planned=planned, failure=failure, seconds=time.monotonic() - began)


def _launched(planned: PlannedJob, planner: Planner) -> str | None:
    """Why the job failed, or None."""
    cfg = planner.config(planned.settings, planned.seed)
    folder = planned.folder
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = str(folder)
    HydraConfig.instance().set_config(cfg)
    folder.mkdir(parents=True, exist_ok=True)
    settings = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        try:
            with contextlib.redirect_stdout(nowhere):
                launch(job(settings, planned.overrides), folder)
        except FolderError as error:  # not ours to write into
            return str(error)
        except Exception as error:
            sentence = explain(error)
            save_failure(folder, sentence or traceback.format_exc())
            return sentence or repr(error)
    return None
