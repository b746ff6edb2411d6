"""Which finished run stands for a planned job: scored as declared, kept records first.

The digest of a run leaves out threads and evaluations. So several runs may have a job's digest: one
that ``make train`` left, on other threads or another machine, beside the record that is kept in the
repository; or one that was scored on fewer samples, queries or retrievers than the table declares.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rlcredit.commands.components import build
from rlcredit.commands.digests import evaluation_digest
from rlcredit.commands.saved import read_config, typed
from rlcredit.identity import digest, identify
from rlcredit.report.evaluations import evaluation_path
from rlcredit.report.run_folder import RunSummary
from rlcredit.tables.jobs import PlannedJob, SeedRun
from rlcredit.tables.records import Record, agree, conflict, made_with, read_record
from rlcredit.trainer.settings import EvaluationSettings

REMEDY = "move it away and run again"


@dataclass(frozen=True, kw_only=True)
class Sorted:
    """Finished runs of one job."""

    usable: tuple[Path, ...]
    unusable: tuple[Path, ...]
    why: tuple[str, ...]
    """Of each that is not usable."""


def kept_folder(outputs: Path) -> Path:
    """Where compact records are kept, in the repository."""
    return outputs / "reference" / "jobs"


def sort_out(folders: Iterable[Path], planned: PlannedJob) -> Sorted:
    """What of finished runs with a job's digest may stand for it."""
    why = {folder: why_not_shown(folder, planned) for folder in folders}
    return Sorted(
        usable=tuple(folder for folder in why if not why[folder]),
        unusable=tuple(folder for folder in why if why[folder]),
        why=tuple(filter(None, why.values())),
    )


def chosen(
    planned: PlannedJob, folders: Sequence[Path], kept: Path
) -> tuple[SeedRun, tuple[Path, ...]]:
    """What a table shows of a job that has finished runs, and the runs that are passed over.

    A kept record (below ``kept``) wins over other runs of its digest, so that a run of one's own
    changes no table of the repository; those whose measures differ from it are returned, to be
    named. Runs of which none is kept must agree, or none is shown.
    """
    found = sort_out(folders, planned)
    if not found.usable:
        return SeedRun(job=planned, record=None, gap="; ".join(found.why)), ()
    try:
        records = [read_record(folder) for folder in found.usable]
    except ValueError as error:
        return SeedRun(job=planned, record=None, gap=str(error)), ()
    first = [record for record in records if record.folder.is_relative_to(kept)] or records
    why = conflict(records if _of_several_data(records) else first)
    if why is not None:
        return SeedRun(job=planned, record=None, gap=why), ()
    shown = first[0]
    of_first = {record.folder for record in first}
    others = (r.folder for r in records if r.folder not in of_first and not agree(shown, r))
    own = replace(planned, digest=shown.summary.digest)
    return SeedRun(job=own, record=shown), tuple(others)


def _of_several_data(records: Sequence[Record]) -> bool:
    return len({record.summary.digest for record in records}) > 1


def why_not_shown(folder: Path, planned: PlannedJob) -> str:
    """Why a finished run does not stand for a planned job, with the remedy; empty: it does."""
    try:
        summary = RunSummary.read(folder)
        if summary is not None and not summary.code_revision:
            return (
                f"{folder}: no code revision was recorded (no git checkout, or git could not read "
                f"it): {REMEDY} in one"
            )
        made = _evaluation_digest(folder)
        if made and made == digest(identify(planned.evaluation)):
            return ""  # whatever a later command has written to the config
        cfg = _config(folder)
        if made and made != evaluation_digest(cfg):
            return (
                f"{folder}: its scores were made with other evaluation settings than its config "
                f"says, which a later command has written, and than the table declares: {REMEDY}"
            )
        scored = _evaluation(cfg)
    except (ValueError, OSError, YAMLError, OmegaConfBaseException) as error:
        return f"{folder}: how it was scored cannot be read ({_line(error)}): {REMEDY}"
    headline = "" if summary is None else summary.headline
    differing = _difference(scored, planned, headline)
    if not differing:
        return ""
    return f"{folder}: scored with {differing}: {REMEDY}"


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


def _config(folder: Path) -> DictConfig:
    """What a run or a record says it was made of. ValueError if that says nothing of its scores."""
    paths = (folder / "config.yaml", folder / ".hydra" / "config.yaml")
    for path in filter(Path.exists, paths):
        cfg = read_config(path)
        if not isinstance(cfg.get("evaluation"), DictConfig):
            raise ValueError(f"{path} has no evaluation settings")
        return cfg
    raise ValueError("it has no config.yaml")


def _evaluation(cfg: DictConfig) -> EvaluationSettings:
    """With what settings that are younger than the run meant before they existed."""
    return build(typed(cfg.evaluation))


def _evaluation_digest(folder: Path) -> str:
    """Of the settings that a run was scored with; empty for a kept record, which has none."""
    try:
        text = evaluation_path(folder, "test", "after").read_text(encoding="utf-8")
        record = json.loads(text)
    except (OSError, ValueError):
        return ""  # reading its scores will say what is wrong with them
    digest = record.get("digest") if isinstance(record, dict) else None
    return digest.partition("-")[2] if isinstance(digest, str) else ""


def by_overrides(
    folders: Iterable[Path],
) -> tuple[dict[tuple[str, ...], list[Path]], list[str]]:
    """Folders of runs by the words they were asked for with, and the words that cannot be read.

    They stand in for the digest of a job whose data are not here. Words do not say which content
    the data had; the record does.
    """
    asked: dict[tuple[str, ...], list[Path]] = {}
    problems: list[str] = []
    for folder in folders:
        try:
            asked.setdefault(made_with(folder), []).append(folder)
        except ValueError as error:
            problems.append(str(error))
    return asked, problems
