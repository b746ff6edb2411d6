"""The jobs of tables: composed once a configuration, run one after another or several at a time.

Every job computes on one thread, so that its bits do not depend on how many run beside it.
"""

import contextlib
import gc
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from rlcredit.commands.build import job
from rlcredit.commands.components import build
from rlcredit.commands.conf import conf_folder
from rlcredit.commands.digests import run_digest, run_subfolder
from rlcredit.commands.errors import explain
from rlcredit.commands.schema import register
from rlcredit.commands.table_choice import sort_out
from rlcredit.launch import launch
from rlcredit.report.run_folder import RunSummary
from rlcredit.report.sweep import save_failure
from rlcredit.tables.declare import Table
from rlcredit.tables.jobs import PlannedJob
from rlcredit.tables.records import find_records, keep

EVERY_JOB = ("tracker=jsonl", "trainer.threads=1")


@dataclass(kw_only=True)
class Planner:
    """Composes the jobs of tables; each configuration once, whatever the number of seeds."""

    outputs: Path
    composed: dict[tuple[str, ...], DictConfig] = field(default_factory=dict)

    def config(self, overrides: Sequence[str], seed: int) -> DictConfig:
        """A job's config, with Hydra's own part, as train.py would compose it."""
        key = tuple(overrides)
        if key not in self.composed:
            words = [*overrides, *EVERY_JOB]
            cfg = compose("train", overrides=words, return_hydra_config=True)
            with open_dict(cfg):
                cfg.hydra.runtime.output_dir = "set by the job"
            self.composed[key] = cfg
        cfg = self.composed[key].copy()
        cfg.seed = seed
        return cfg

    def jobs(self, table: Table, size: str, data: Iterable[str]) -> Iterator[PlannedJob]:
        """The jobs of a table, seed by seed, so that what is half done has every row."""
        for seed in table.size(size).seeds:
            for name in data:
                for row in table.rows_of(name):
                    overrides = table.overrides(row, name, size)
                    cfg = self.config(overrides, seed)
                    needed = table.size(size).runs_here and not table.data[name].path
                    digest, folder = self._identity(cfg, needed=needed)
                    yield PlannedJob(
                        row=row,
                        data=name,
                        seed=seed,
                        settings=tuple(overrides),
                        overrides=(*overrides, *EVERY_JOB, f"seed={seed}"),
                        digest=digest,
                        folder=folder,
                        evaluation=build(cfg.evaluation),
                        reads_validation=table.reads_validation(name),
                    )

    def _identity(self, cfg: DictConfig, *, needed: bool) -> tuple[str, Path]:
        """Digest and folder; of data that are not here, neither."""
        try:
            return run_digest(cfg), self.outputs / run_subfolder(_root_=cfg)
        except (ValueError, OSError):
            if needed:
                raise
            return "", self.outputs / "data-not-here"


def run_missing(
    jobs: Sequence[PlannedJob], planner: Planner, *, kept: Path | None, workers: int = 1
) -> int:
    """Run what is not finished; how many jobs failed, could not be kept, or stand in their own way.

    A finished run that a table cannot show (it was scored otherwise) is neither reused nor run
    over: its folder is somebody's. It is named, with the remedy.

    Args:
        jobs: Of one table or more; a digest is run once.
        planner: Composes them.
        kept: Where compact records are written; None: nowhere.
        workers: Jobs at a time; more than one run in processes of their own.
    """
    todo, reused, failed = _to_run(jobs, planner, kept)
    print(f"{len(todo)} jobs to run, {len(reused)} finished ones reused", flush=True)
    if kept is not None:
        for planned, folders in reused:
            failed += not _kept_if_new(planned, folders, planner.outputs, kept)
    several = workers > 1 and len(todo) > 1
    outcomes = _in_processes if several else _one_by_one
    for number, outcome in enumerate(outcomes(todo, planner, workers), 1):
        folder, failure = outcome.planned.folder, outcome.failure
        status = "finished" if failure is None else f"FAILED: {failure}"
        if failure is None and kept is not None:
            why = _why_not_kept(folder, kept / folder.relative_to(planner.outputs))
            status += f" and is not kept: {why}" if why else ""
            failed += bool(why)
        failed += failure is not None
        print(f"[{number}/{len(todo)}] {folder} {status} ({outcome.seconds:.0f} s)", flush=True)
    return failed


def _to_run(
    jobs: Sequence[PlannedJob], planner: Planner, kept: Path | None
) -> tuple[list[PlannedJob], list[tuple[PlannedJob, tuple[Path, ...]]], int]:
    """Jobs to run, jobs that have usable runs, and how many are barred by one that is not."""
    todo: list[PlannedJob] = []
    reused: list[tuple[PlannedJob, tuple[Path, ...]]] = []
    barred = 0
    finished, _ = find_records([planner.outputs])
    for planned in {planned.digest: planned for planned in jobs}.values():
        found = sort_out(finished.get(planned.digest, ()), planned)
        places = {planned.folder}
        if kept is not None:
            places.add(kept / planned.folder.relative_to(planner.outputs))
        if found.usable:
            reused.append((planned, found.usable))
        elif places & set(found.unusable):
            barred += 1
            print(f"not run: {'; '.join(found.why)}", flush=True)
        else:
            todo.append(planned)
    return todo, reused, barred


def _kept_if_new(planned: PlannedJob, folders: Sequence[Path], outputs: Path, kept: Path) -> bool:
    """Keep a run that finished outside this sweep, or when it had just been stopped."""
    if any(folder.is_relative_to(kept) for folder in folders):
        return True
    why = _why_not_kept(folders[0], kept / planned.folder.relative_to(outputs))
    if why:
        print(f"{folders[0]} finished and is not kept: {why}", flush=True)
    return not why


def _why_not_kept(run: Path, kept: Path) -> str:
    """Write the compact record of a run; why that did not succeed, or an empty text."""
    try:
        keep(run, kept)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


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
    """In the order in which they end. Spawned: a fork would copy torch's threads half way.

    A worker that dies takes the pool with it: what has not finished by then has failed, and says
    why, so that the tables are rendered from what has.
    """
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)),
        mp_context=get_context("spawn"),
        initializer=_start_worker,
        initargs=(planner.outputs,),
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
    """Of a job that ran or waited when a worker died; it may have finished just before."""
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


def _start_worker(outputs: Path) -> None:
    """Hydra, for the life of a worker process."""
    register()
    initialize_config_dir(str(conf_folder()), version_base="1.3").__enter__()
    _worker.append(Planner(outputs=outputs))


def _work(planned: PlannedJob) -> Outcome:
    return run_job(planned, _worker[0])


def run_job(planned: PlannedJob, planner: Planner) -> Outcome:
    """One job as train.py runs it, its console in ``console.txt``; a failure ends it alone."""
    began = time.monotonic()
    try:
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
    hydra = folder / ".hydra"
    hydra.mkdir(parents=True, exist_ok=True)
    settings = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    OmegaConf.save(settings, hydra / "config.yaml")
    OmegaConf.save(OmegaConf.create(list(planned.overrides)), hydra / "overrides.yaml")
    with (folder / "console.txt").open("w", encoding="utf-8") as console:
        try:
            with contextlib.redirect_stdout(console):
                launch(job(settings), folder)
        except Exception as error:
            sentence = explain(error)
            save_failure(folder, sentence or traceback.format_exc())
            return sentence or repr(error)
    return None
