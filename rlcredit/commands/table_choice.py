"""Which finished run stands for a planned job: scored as declared, kept records first.

The digest of a run leaves out threads and evaluations. So several runs may have a job's digest: one
that ``make train`` left, on other threads or another machine, beside the record that is kept in the
repository; or one that was scored on fewer samples, queries or retrievers than the table declares.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlcredit.commands.components import build
from rlcredit.commands.saved import typed
from rlcredit.identity import TARGET, digest, identify, numerics_of, target
from rlcredit.tables.jobs import PlannedJob, SeedRun
from rlcredit.tables.kept import KeptRecords
from rlcredit.tables.records import FinishedRun, agree, conflict, kin, run_folders
from rlcredit.trainer.settings import EvaluationSettings

REMEDY = "move it away and run again"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The finished runs that tables may show: kept records first, then run folders."""

    runs: tuple[FinishedRun, ...]
    problems: tuple[str, ...]
    """A line for each run that cannot be read."""

    @cached_property
    def _by_digest(self) -> dict[str, list[FinishedRun]]:
        return _grouped((run.summary.digest, run) for run in self.runs)

    @cached_property
    def _by_kin(self) -> dict[str, list[FinishedRun]]:
        return _grouped((kin(run), run) for run in self.runs)

    def same(self, planned: PlannedJob) -> Sequence[FinishedRun]:
        """The runs with a job's digest."""
        return self._by_digest.get(planned.digest, [])

    def of(self, planned: PlannedJob) -> Sequence[FinishedRun]:
        """The runs with a job's digest, or else those that differ from it in ``numerics`` alone.

        Of several such kinds, those of the highest numbers are the latest.
        """
        same = self.same(planned)
        if same or not planned.kin:
            return same
        kins = self._by_kin.get(planned.kin, [])
        latest = max((_height(run) for run in kins), default=0)
        return [run for run in kins if _height(run) == latest]


def _height(run: FinishedRun) -> int:
    """Larger in a later version: a component's ``numerics`` is only ever raised."""
    return sum(numerics_of(run.summary.identity).values())


def _grouped(pairs: Iterable[tuple[str, FinishedRun]]) -> dict[str, list[FinishedRun]]:
    found: dict[str, list[FinishedRun]] = {}
    for key, run in pairs:
        found.setdefault(key, []).append(run)
    return found


@dataclass(frozen=True, kw_only=True)
class Sorted:
    """Finished runs of one job."""

    usable: tuple[FinishedRun, ...]
    unusable: tuple[FinishedRun, ...]
    why: tuple[str, ...]
    """The reason for each run that is not usable."""


def kept_folder(outputs: Path) -> Path:
    """Where records are kept, in the repository."""
    return outputs / "reference" / "jobs"


def finished_runs(outputs: Path) -> Finished:
    """Everything that is finished at or below a folder of outputs."""
    kept = KeptRecords(folder=kept_folder(outputs))
    folders, problems = run_folders(outputs)
    return Finished(runs=(*kept.runs, *folders), problems=(*kept.problems, *problems))


def sort_out(runs: Iterable[FinishedRun], planned: PlannedJob) -> Sorted:
    """What of finished runs with a job's digest may stand for it."""
    judged = [(run, why_not_shown(run, planned)) for run in runs]
    return Sorted(
        usable=tuple(run for run, why in judged if not why),
        unusable=tuple(run for run, why in judged if why),
        why=tuple(why for _, why in judged if why),
    )


def chosen(
    planned: PlannedJob, runs: Sequence[FinishedRun]
) -> tuple[SeedRun, tuple[FinishedRun, ...]]:
    """What a table shows of a job that has finished runs, and the runs that are passed over.

    A kept record wins over other runs of its digest, so that a run of one's own changes no table
    of the repository; those whose measures differ from it are returned, to be named. Runs of which
    none is kept must agree, or none is shown.
    """
    found = sort_out(runs, planned)
    if not found.usable:
        return SeedRun(job=planned, record=None, gap="; ".join(found.why)), ()
    first = [run for run in found.usable if run.kept] or list(found.usable)
    several = len({run.summary.digest for run in found.usable}) > 1
    why = conflict(found.usable if several else first)
    if why is not None:
        return SeedRun(job=planned, record=None, gap=why), ()
    shown = first[0]
    others = (run for run in found.usable if run not in first)
    own = replace(planned, digest=shown.summary.digest)
    seed_run = SeedRun(job=own, record=shown.read(), changed=_changed(shown, planned))
    return seed_run, tuple(run for run in others if not agree(shown.summary, run.summary))


def _changed(run: FinishedRun, planned: PlannedJob) -> str:
    """Components whose ``numerics`` differ between a run and what the job would be today."""
    then, now = numerics_of(run.summary.identity), planned.numerics
    if not planned.kin or kin(run) != planned.kin:
        return ""
    places = [place for place in {**then, **now} if then.get(place, 1) != now.get(place, 1)]
    return ", ".join(f"{p} ({then.get(p, 1)} then, {now.get(p, 1)} now)" for p in places)


def why_not_shown(run: FinishedRun, planned: PlannedJob) -> str:
    """Why a finished run does not stand for a planned job, with the remedy; empty: it does."""
    if not run.summary.code_revision:
        return (
            f"{run.place}: no code revision was recorded (no git checkout, or git could not read "
            f"it): {REMEDY} in one"
        )
    try:
        made = run.evaluation_digest()
        if made and made == digest(identify(planned.evaluation)):
            return ""  # whatever a later command has written to the config
        scored = _settings(run)
    except (ValueError, OmegaConfBaseException) as error:
        return f"{run.place}: how it was scored cannot be read ({_line(error)}): {REMEDY}"
    if made and made != digest(identify(scored)):
        return (
            f"{run.place}: its scores were made with other evaluation settings than its config "
            f"says, which a later command has written, and than the table declares: {REMEDY}"
        )
    differing = _difference(scored, planned, run.summary.headline)
    return f"{run.place}: scored with {differing}: {REMEDY}" if differing else ""


def _difference(scored: EvaluationSettings, planned: PlannedJob, headline: str) -> str:
    """The first setting that differs, with both values; empty where none matters.

    More retrievers than declared do no harm; the training retriever always scores; and where
    nothing is searched (a headline without a retriever) there are none. The steps between two
    scores of the validation split matter only where a table shows these.
    """
    declared = planned.evaluation
    names = ("samples", "max_prompts", *(("every",) if planned.reads_validation else ()))
    for name in names:
        ours, theirs = getattr(scored, name), getattr(declared, name)
        if ours != theirs:
            return f"evaluation.{name}={_said(ours)}, the table declares {_said(theirs)}"
    retriever, searched, _ = headline.rpartition("/")
    if searched and set(declared.retrievers) - {*scored.retrievers, retriever}:
        ours, theirs = (",".join(each.retrievers) for each in (scored, declared))
        return f"evaluation.retrievers=[{ours}], the table declares [{theirs}]"
    return ""


def _said(value: int | None) -> str:
    return "null" if value is None else str(value)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _settings(run: FinishedRun) -> EvaluationSettings:
    """Evaluation settings of a run; younger ones as what they meant before they existed."""
    node = {TARGET: target(EvaluationSettings)} | dict(run.evaluation())
    return build(typed(OmegaConf.create(node)))


def by_overrides(
    runs: Iterable[FinishedRun],
) -> tuple[dict[tuple[str, ...], list[FinishedRun]], list[str]]:
    """Runs by the words they were asked for with, and the words that cannot be read.

    They stand in for the digest of a job whose data are not here. Words do not say which content
    the data had; the record does.
    """
    asked: dict[tuple[str, ...], list[FinishedRun]] = {}
    problems: list[str] = []
    for run in runs:
        try:
            asked.setdefault(run.overrides(), []).append(run)
        except ValueError as error:
            problems.append(str(error))
    return asked, problems
