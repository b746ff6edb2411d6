"""What became of the jobs of a sweep, read from their folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlcredit.evaluation.lines import PLAIN_WIDTH, foreign, seconds, with_interval
from rlcredit.evaluation.names import measure_name
from rlcredit.files import replace_file
from rlcredit.run.console import plain_console
from rlcredit.run.folder import FAILURE_FILE, RunSummary, Status
from rlcredit.run.results import TIGHT


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of a sweep."""

    folder: Path
    status: Status
    summary: RunSummary | None
    """What it left, if it ever finished."""
    failure: str = ""


def save_failure(folder: Path, why: str) -> None:
    """Note in a job's folder why it failed; a later success removes the note."""
    replace_file(folder / FAILURE_FILE, why.rstrip() + "\n")


def note_job(notes: Path, *, number: int, folder: Path, refused: str = "") -> None:
    """Write down where a job of a sweep lies, in a folder that all of its processes see.

    Args:
        notes: Of one sweep; no other shares it.
        number: Of the job.
        folder: Where the job's run lies.
        refused: Why nothing ran, and nothing was written there: the folder is not this job's.
    """
    replace_file(notes / f"{number:06d}", f"{folder}\n{refused}\n")


def is_noted(notes: Path, *, number: int) -> bool:
    """Whether a job has been noted."""
    return (notes / f"{number:06d}").exists()


def noted_jobs(notes: Path) -> list[Job]:
    """What became of the jobs of a sweep, in their order."""
    jobs: list[Job] = []
    for path in sorted(notes.glob("[0-9]*")):
        folder, _, refused = path.read_text(encoding="utf-8").partition("\n")
        if why := refused.strip():
            job = Job(folder=Path(folder), status=Status.failed, summary=None, failure=why)
        else:
            job = read_job(Path(folder))
        jobs.append(job)
    return jobs


def read_job(folder: Path) -> Job:
    """What became of the job in a folder: failed if it says so, finished by its summary."""
    failure = folder / FAILURE_FILE
    summary = RunSummary.read(folder)
    if failure.exists():
        why = failure.read_text(encoding="utf-8").strip()
        return Job(folder=folder, status=Status.failed, summary=summary, failure=why)
    status = Status.interrupted if summary is None else summary.status
    why = "" if summary is None else summary.fault or ""
    return Job(folder=folder, status=status, summary=summary, failure=why)


def sweep_table(jobs: Sequence[Job]) -> Table:
    """One row per job: status, the headline measure before and after, seconds."""
    table = Table(title=Text("sweep"), title_justify="left", box=box.SIMPLE_HEAD, **TIGHT)
    table.add_column("job", overflow="fold", ratio=1)
    for name in ("data", "status", "measure"):
        table.add_column(name, no_wrap=True)
    for name in ("before", "after", "after - before", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for job in jobs:
        table.add_row(*(Text(cell) for cell in _row(job)))
    return table


def _row(job: Job) -> list[str]:
    summary = job.summary
    if job.status is not Status.finished or summary is None:
        return [str(job.folder), "", job.status, "", "", "", "", ""]
    change = summary.measures[summary.headline]
    return [
        str(job.folder),
        summary.data,
        job.status,
        measure_name(summary.headline),
        f"{change.before.mean:.3f}",
        f"{change.after.mean:.3f}",
        with_interval(change.difference, sign=True, short=True),
        seconds(summary.wall_time_s),
    ]


def print_sweep(jobs: Sequence[Job], console: Console | None = None) -> int:
    """Print the table and why jobs failed; how many are not finished."""
    console = console or plain_console()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    console.print(sweep_table(jobs))
    for job in jobs:
        if job.status is not Status.finished:
            why = job.failure.splitlines()[-1] if job.failure else "no summary was written"
            console.print(Text(f"{job.folder} {job.status}: {foreign(why)}"), soft_wrap=True)
    return sum(job.status is not Status.finished for job in jobs)
