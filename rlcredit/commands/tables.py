"""Run the jobs that tables lack, then render the tables: ``rlcredit tables --size smoke``.

A finished job with the same digest is reused, from its run folder or from the records kept under
``outputs/reference/jobs``; an interrupted one goes on; a failed one is listed and tried again the
next time. Rendering reads files alone.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from hydra import compose
from omegaconf import DictConfig

from rlcredit.commands.components import build
from rlcredit.commands.conf import composing, conf_folder
from rlcredit.commands.errors import in_a_sentence
from rlcredit.commands.schema import register
from rlcredit.commands.table_choice import (
    Finished,
    by_overrides,
    chosen,
    finished_runs,
    kept_folder,
)
from rlcredit.commands.table_jobs import Planner, run_missing
from rlcredit.distributed.environment import refuse_together
from rlcredit.errors import PACKAGE
from rlcredit.run.folder import code_revision
from rlcredit.tables.declare import Table
from rlcredit.tables.grid import Grid
from rlcredit.tables.jobs import PlannedJob, SeedRun
from rlcredit.tables.kept import KeptRecords
from rlcredit.tables.price import Batch, gpu_hours
from rlcredit.tables.proof import table_folder, write_table
from rlcredit.tables.records import FinishedRun, why_unfinished

PROMPT_TOKENS = 256
"""Assumed by the estimate of GPU hours."""


def table_names() -> list[str]:
    """Tables that are declared."""
    return sorted(path.stem for path in (conf_folder() / "experiment").glob("table_*.yaml"))


def declared(name: str) -> Table:
    """A table by its name, with or without ``table_``.

    Raises:
        ValueError: If it is not declared.
    """
    known = table_names()
    full = name if name.startswith("table_") else f"table_{name}"
    if full not in known:
        near = get_close_matches(full, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"no table {name!r}{hint} Tables: {', '.join(known)}")
    return build(compose("parts", overrides=[f"+experiment={full}"]).table)


def fill(
    name: str, table: Table, size: str, jobs: Sequence[PlannedJob], finished: Finished
) -> Grid:
    """The table from what is finished."""
    problems = list(finished.problems)
    asked: dict[tuple[str, ...], list[FinishedRun]] = {}
    if any(not planned.digest for planned in jobs):
        asked, unread = by_overrides(finished.runs)
        problems += unread
    runs: dict[tuple[str, str], list[SeedRun]] = {}
    passed_over: dict[str, None] = {}
    for planned in jobs:
        known = finished.of(planned) if planned.digest else asked.get(planned.overrides)
        if known:
            seed_run, others = chosen(planned, known)
            passed_over |= dict.fromkeys(run.place for run in others)
        else:
            gap = _why_not_run(planned, table.data[planned.data].path)
            seed_run = SeedRun(job=planned, record=None, gap=gap)
        runs.setdefault((planned.data, planned.row), []).append(seed_run)
    if passed_over:
        problems.append(
            "kept records are shown instead of runs of the same digest with other results (other "
            f"threads, another machine?): {', '.join(passed_over)}"
        )
    ordered = {(d, r): runs[d, r] for d in table.data for r in table.rows if (d, r) in runs}
    return Grid(name=name, size=size, table=table, runs=ordered, problems=tuple(problems))


def _why_not_run(planned: PlannedJob, read_from: str) -> str:
    if planned.lacks:
        return f"not run: {planned.lacks}"
    if read_from and not planned.digest:
        return f"not run: {read_from} does not hold the published files"
    return why_unfinished(planned.folder)


def batch_of(cfg: DictConfig) -> Batch:
    """What a composed job does at every step."""
    return Batch(
        steps=cfg.trainer.steps,
        prompts_per_step=cfg.trainer.prompts_per_step,
        group_size=cfg.trainer.group_size,
        updates=cfg.trainer.updates_per_batch,
        prompt_tokens=PROMPT_TOKENS,
        new_tokens=cfg.rollout.max_new_tokens,
        continuations=build(cfg.estimator).needs.continuations,
        rounds=cfg.trainer.resample_equal_groups,
    )


def price(table: Table, size: str, jobs: Sequence[PlannedJob], planner: Planner) -> str:
    """An estimate of what the jobs cost on GPUs."""
    gpus, hours = table.size(size).gpus, 0.0
    configs = {(planned.settings, planned.seed): planned for planned in jobs}
    for planned in configs.values():
        cfg = planner.config(planned.settings, planned.seed)
        hours += gpu_hours(
            batch_of(cfg), parameters=table.size(size).parameters_of(cfg.policy.name)
        )
    return (
        f"{len(configs)} jobs composed, not run: about {hours:.0f} GPU hours "
        f"({hours / max(gpus, 1):.0f} hours on {gpus} GPUs), by a count of operations"
    )


def reproduce(
    names: Sequence[str],
    *,
    size: str,
    outputs: Path,
    workers: int,
    only: Sequence[str] = (),
    renew: bool = False,
) -> int:
    """Run and render tables; how many jobs failed.

    Args:
        names: Of tables.
        size: Of all of them.
        outputs: Where runs lie and tables are written.
        workers: Jobs at a time; 0: none is run.
        only: Data sets whose jobs are run; none: all.
        renew: Run those jobs too that finished before a component's ``numerics`` was raised.
    """
    tables = {name: declared(name).at(size) for name in names}
    planners = {table.conf: Planner(outputs=outputs, conf=table.conf) for table in tables.values()}
    plans = {
        name: list(planners[table.conf].jobs(table, size, table.data))
        for name, table in tables.items()
    }
    failed = 0
    if workers:
        wanted = [
            planned
            for name, table in tables.items()
            for planned in plans[name]
            if table.size(size).runs_here and (not only or planned.data in only)
        ]
        kept = KeptRecords(folder=kept_folder(outputs)) if size == "sample" else None
        failed = _run(wanted, planners, kept=kept, workers=workers, renew=renew)
    finished = finished_runs(outputs)
    for name, table in tables.items():
        if not table.size(size).runs_here:
            print(f"{name}: {price(table, size, plans[name], planners[table.conf])}")
        full = name if name.startswith("table_") else f"table_{name}"
        folder = table_folder(outputs, full, size)
        write_table(fill(full, table, size, plans[name], finished), folder)
        print(f"{full}: {folder}/table.md .tex .csv .html ({table.size(size).label})")
    return failed


def _run(
    wanted: Sequence[PlannedJob],
    planners: Mapping[str, Planner],
    *,
    kept: KeptRecords | None,
    workers: int,
    renew: bool,
) -> int:
    """Run what is missing of the jobs whose data are here; how many jobs failed."""
    missing = [planned for planned in wanted if planned.digest and not planned.lacks]
    for lack in sorted({job.lacks for job in wanted if job.lacks}):
        lacking = {job.overrides for job in wanted if job.lacks == lack}
        print(f"{len(lacking)} jobs are not run: {lack}")
    absent = {job.overrides for job in wanted if not job.digest and not job.lacks}
    if absent:
        print(f"{len(absent)} jobs are not run: their published files are not here, see the table")
    if missing and code_revision(PACKAGE) is None:
        print(
            f"git knows no revision of {PACKAGE}: what runs now is a gap in tables for want of it"
        )
    failed = 0
    for planner in planners.values():
        own = [planned for planned in missing if planned.conf == planner.folder]
        failed += run_missing(own, planner, kept=kept, workers=workers, renew=renew) if own else 0
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 if a job failed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="smoke", help="smoke, sample or paper")
    parser.add_argument("--tables", default="", help="some of them, by comma; default: all")
    parser.add_argument("--data", default="", help="run jobs of these data alone; default: all")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    parser.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="jobs at a time, each on one thread; default: one a core",
    )
    parser.add_argument(
        "--renew",
        action="store_true",
        help="run jobs again that finished before a component's numbers changed; tables mark them",
    )
    parser.add_argument("--render-only", action="store_true", help="run nothing")
    asked = parser.parse_args(arguments)
    register()
    with in_a_sentence(), composing(conf_folder()):
        refuse_together(os.environ, command="rlcredit tables")
        failed = reproduce(
            asked.tables.split(",") if asked.tables else table_names(),
            size=asked.size,
            outputs=asked.outputs,
            workers=0 if asked.render_only else max(asked.workers, 1),
            only=asked.data.split(",") if asked.data else (),
            renew=asked.renew,
        )
    return 1 if failed else 0
