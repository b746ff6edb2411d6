"""Run the jobs that tables lack, then render the tables: ``make reproduce-tables SIZE=smoke``.

A finished job with the same digest is reused, from its run folder or from the compact records under
``outputs/reference/jobs``; an interrupted one goes on; a failed one is listed and tried again the
next time. Rendering reads files alone.
"""

import argparse
import contextlib
import gc
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from rlcredit.build import build, explain, job
from rlcredit.config import register, run_digest, run_subfolder
from rlcredit.launch import launch
from rlcredit.report.sweep import save_failure
from rlcredit.tables.declare import Table
from rlcredit.tables.grid import Grid, PlannedJob, SeedRun
from rlcredit.tables.price import Batch, gpu_hours
from rlcredit.tables.proof import table_folder, write_table
from rlcredit.tables.records import conflict, find_records, keep, read_record, why_unfinished

ROOT = Path(__file__).resolve().parents[1]
PROMPT_TOKENS = 256
"""Assumed by the estimate of GPU hours."""


@dataclass(kw_only=True)
class Planner:
    """Composes the jobs of tables; each configuration once, whatever the number of seeds."""

    outputs: Path
    composed: dict[tuple[str, ...], DictConfig] = field(default_factory=dict)

    def config(self, overrides: Sequence[str], seed: int) -> DictConfig:
        """A job's config, with Hydra's own part, as train.py would compose it."""
        key = tuple(overrides)
        if key not in self.composed:
            words = [*overrides, "tracker=jsonl"]
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
                for row in table.rows:
                    overrides = table.overrides(row, name, size)
                    cfg = self.config(overrides, seed)
                    digest, folder = self._identity(cfg, here=table.size(size).runs_here)
                    yield PlannedJob(
                        row=row,
                        data=name,
                        seed=seed,
                        overrides=(*overrides, "tracker=jsonl", f"seed={seed}"),
                        digest=digest,
                        folder=folder,
                    )

    def _identity(self, cfg: DictConfig, *, here: bool) -> tuple[str, Path]:
        """Digest and folder; of data that are not here, when nothing is to run, neither."""
        try:
            return run_digest(cfg), self.outputs / run_subfolder(_root_=cfg)
        except (ValueError, OSError):
            if here:
                raise
            return "", self.outputs / "data-not-here"


def table_names() -> list[str]:
    """Tables that are declared."""
    return sorted(path.stem for path in (ROOT / "conf/experiment").glob("table_*.yaml"))


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
    return build(compose("train", overrides=[f"experiment={full}"]).table)


def run_missing(jobs: Sequence[PlannedJob], planner: Planner, *, kept: Path | None) -> int:
    """Run what is not finished; how many jobs failed.

    Args:
        jobs: Of one table or more; a digest is run once.
        planner: Composes them.
        kept: Where compact records are written; None: nowhere.
    """
    failed = 0
    finished, _ = find_records([planner.outputs])
    todo = {planned.digest: planned for planned in jobs if planned.digest not in finished}
    reused = len({planned.digest for planned in jobs}) - len(todo)
    print(f"{len(todo)} jobs to run, {reused} finished ones reused")
    for number, planned in enumerate(todo.values(), 1):
        began = time.monotonic()
        sentence = run_job(planned, planner)
        if sentence is not None:
            failed += 1
        elif kept is not None:
            keep(planned.folder, kept / planned.folder.relative_to(planner.outputs))
        status = "finished" if sentence is None else f"FAILED: {sentence}"
        seconds = time.monotonic() - began
        print(f"[{number}/{len(todo)}] {planned.folder} {status} ({seconds:.0f} s)", flush=True)
        gc.collect()
    return failed


def run_job(planned: PlannedJob, planner: Planner) -> str | None:
    """One job as train.py runs it, its console in ``console.txt``; why it failed, or None."""
    cfg = planner.config(planned.overrides[:-2], planned.seed)
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


def fill(name: str, table: Table, size: str, jobs: Sequence[PlannedJob], outputs: Path) -> Grid:
    """The table from what is finished."""
    found, problems = find_records([outputs / "reference", outputs])
    runs: dict[tuple[str, str], list[SeedRun]] = {}
    for planned in jobs:
        runs.setdefault((planned.data, planned.row), []).append(
            _seed_run(planned, found.get(planned.digest, []))
        )
    ordered = {(d, r): runs[d, r] for d in table.data for r in table.rows if (d, r) in runs}
    return Grid(name=name, size=size, table=table, runs=ordered, problems=tuple(problems))


def _seed_run(planned: PlannedJob, folders: Sequence[Path]) -> SeedRun:
    if not folders:
        return SeedRun(job=planned, record=None, gap=why_unfinished(planned.folder))
    try:
        records = [read_record(folder) for folder in folders]
    except ValueError as error:
        return SeedRun(job=planned, record=None, gap=str(error))
    why = conflict(records)
    if why is not None:
        return SeedRun(job=planned, record=None, gap=why)
    return SeedRun(job=planned, record=records[0])


def price(table: Table, size: str, jobs: Sequence[PlannedJob], planner: Planner) -> str:
    """An estimate of what the jobs cost on GPUs."""
    parameters, gpus = table.size(size).parameters, table.size(size).gpus
    hours = 0.0
    configs = {planned.overrides: planned for planned in jobs}
    for planned in configs.values():
        cfg = planner.config(planned.overrides[:-2], planned.seed)
        batch = Batch(
            steps=cfg.trainer.steps,
            prompts_per_step=cfg.trainer.prompts_per_step,
            group_size=cfg.trainer.group_size,
            prompt_tokens=PROMPT_TOKENS,
            new_tokens=cfg.rollout.max_new_tokens,
        )
        hours += gpu_hours(batch, parameters=parameters)
    return (
        f"{len(configs)} jobs composed, not run: about {hours:.0f} GPU hours "
        f"({hours / max(gpus, 1):.0f} hours on {gpus} GPUs), by a count of operations"
    )


def reproduce(
    names: Sequence[str], *, size: str, outputs: Path, run: bool, only: Sequence[str] = ()
) -> int:
    """Run and render tables; how many jobs failed.

    Args:
        names: Of tables.
        size: Of all of them.
        outputs: Where runs lie and tables are written.
        run: Whether missing jobs are run.
        only: Data sets whose jobs are run; none: all.
    """
    planner, failed = Planner(outputs=outputs), 0
    tables = {name: declared(name) for name in names}
    plans = {name: list(planner.jobs(table, size, table.data)) for name, table in tables.items()}
    here = [name for name in names if tables[name].size(size).runs_here]
    missing = [
        planned for name in here for planned in plans[name] if not only or planned.data in only
    ]
    if run and missing:
        kept = outputs / "reference" / "jobs" if size == "sample" else None
        failed = run_missing(missing, planner, kept=kept)
    for name, table in tables.items():
        if not table.size(size).runs_here:
            print(f"{name}: {price(table, size, plans[name], planner)}")
        full = name if name.startswith("table_") else f"table_{name}"
        folder = table_folder(outputs, full, size)
        write_table(fill(full, table, size, plans[name], outputs), folder)
        print(f"{full}: {folder}/table.md .tex .csv .html ({table.size(size).label})")
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="smoke", help="smoke, sample or paper")
    parser.add_argument("--tables", default="", help="some of them, by comma; default: all")
    parser.add_argument("--data", default="", help="run jobs of these data alone; default: all")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    parser.add_argument("--render-only", action="store_true", help="run nothing")
    chosen = parser.parse_args(arguments)
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        names = chosen.tables.split(",") if chosen.tables else table_names()
        only = chosen.data.split(",") if chosen.data else ()
        run = not chosen.render_only
        return reproduce(names, size=chosen.size, outputs=chosen.outputs, run=run, only=only)


if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        failures = main()
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        sys.exit(sentence)
    sys.exit(1 if failures else 0)
