"""What finished runs wrote, scored by every retriever: the matrix trained-on x tested-on.

The policies do not write again. Runs that differ in their seed alone are one row.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from transformers.utils.logging import disable_progress_bar

from rlcredit.evaluation.cells import Source
from rlcredit.evaluation.evaluate import Evaluation, families_of
from rlcredit.evaluation.expansion import Expansion
from rlcredit.evaluation.names import SOURCES
from rlcredit.evaluation.trec import write_qrels
from rlcredit.files import replace_file
from rlcredit.report.judge import POLICY, Judge, Scores
from rlcredit.report.matrix import (
    MARK,
    UNSEEN,
    Matrix,
    Scored,
    TransferCell,
    console_table,
    markdown,
    record,
    values_csv,
)
from rlcredit.report.rescore import stored_evaluations, unchanged_task
from rlcredit.retrieval.base import Retriever
from rlcredit.rewards.ranking import Ranking
from rlcredit.run.console import RunConsole
from rlcredit.run.folder import RunSummary, code_revision, computed_with, touch_test_split
from rlcredit.run.ownership import owned
from rlcredit.tasks.base import Dataset, Task

WARM_START = "warm start"


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A finished run, as its folder describes it."""

    folder: Path
    method: str
    """The estimator's name."""
    settings: str
    """Hash of all that changes its numbers but the seed, the retriever and the data."""
    seed: int
    retriever: Retriever
    """The one that it was trained on."""
    retriever_name: str
    dataset: Dataset[Task]
    reward: Ranking
    summary: RunSummary
    before: Evaluation
    after: Evaluation

    @classmethod
    def read(
        cls,
        folder: Path,
        *,
        settings: str,
        seed: int,
        retriever: Retriever,
        dataset: Dataset[Task],
        reward: Ranking,
    ) -> "FinishedRun":
        """A run of these components, with what its folder holds.

        Raises:
            ValueError: If it holds no finished run.
        """
        summary, before, after = stored_evaluations(folder)
        return cls(
            folder=folder,
            method=summary.name.split("/")[-1],
            settings=settings,
            seed=seed,
            retriever=retriever,
            retriever_name=summary.headline.split("/")[0],
            dataset=dataset,
            reward=reward,
            summary=summary,
            before=before,
            after=after,
        )

    @property
    def name(self) -> str:
        """Name of the run's folder of run files."""
        return f"{self.method}-{self.retriever_name}-seed{self.seed}-{self.summary.digest[:8]}"


def transfer(
    runs: Sequence[FinishedRun],
    *,
    retrievers: Mapping[str, Retriever],
    out: Path,
    cache: Path,
) -> Path:
    """Score, print the matrix, and write it with its run files.

    Args:
        runs: On the same data and test prompts.
        retrievers: Retrievers that score besides those that the runs were trained on.
        out: Folder for ``matrix.md``, ``matrix.csv``, ``matrix.json`` and ``trec/``.
        cache: Where document embeddings are kept.

    Returns:
        The Markdown file.

    Raises:
        ValueError: If runs are not comparable, or their data are no longer those of the runs.
    """
    disable_progress_bar()
    first = runs[0]
    task = unchanged_task(first.folder, first.dataset, first.summary)
    for run in runs:
        _refuse_without_retriever(run)
    columns = _columns(runs, retrievers)
    runs = sorted(runs, key=lambda run: list(columns).index(run.retriever_name))
    rows = _rows(runs)
    rewards = {
        name: first.reward.bind(
            retriever.index(task.documents, cache=cache), failures=out / "failed_texts"
        )
        for name, retriever in columns.items()
    }
    judge = Judge(
        task=task,
        prompts=task.test[: len(first.after.prompt_ids)],
        rewards=rewards,
        expansion=Expansion.of(task.documents, first.reward, cache=cache),
        folder=out / "trec",
    )
    for run in runs:
        with owned(run.folder, wait=False, warn=RunConsole().warn):
            touch_test_split(run.folder, phase=f"transfer to {', '.join(columns)}")
    write_qrels(out / "trec" / "test.qrels", judge.prompts)
    matrix = _matrix(rows, judge)
    cells = list(matrix.cells())
    RunConsole().console.print(console_table(matrix, cells))
    _write(out, matrix, cells, judge, runs)
    return out / "matrix.md"


def _write(
    out: Path,
    matrix: Matrix,
    cells: Sequence[TransferCell],
    judge: Judge,
    runs: Sequence[FinishedRun],
) -> None:
    replace_file(out / "matrix.md", markdown(matrix, cells))
    replace_file(out / "matrix.csv", values_csv(cells))
    provenance = {
        "title": matrix.title,
        "data_digest": judge.task.digest,
        "code_revision": code_revision(Path(__file__).parent),
        "versions": computed_with(),
        "indexes": {name: reward.engine.index.digest for name, reward in judge.rewards.items()},
        "runs": {
            run.name: {"folder": str(run.folder), "digest": run.summary.digest}
            | {"code_revision": run.summary.code_revision}
            for run in runs
        },
        "cells": record(cells),
    }
    text = json.dumps(provenance, indent=1, ensure_ascii=False, allow_nan=False)
    replace_file(out / "matrix.json", text + "\n")


def _refuse_without_retriever(run: FinishedRun) -> None:
    """Refuse a run that was trained on another reward than a retriever's."""
    if not isinstance(run.reward, Ranking):
        raise ValueError(
            f"{run.folder} was trained on {type(run.reward).__name__}, which is no retriever, and "
            "a matrix compares retrievers; give runs of reward=ndcg, recall or reciprocal_rank, "
            "and score this one with rlcredit evaluate"
        )


def _columns(
    runs: Sequence[FinishedRun], retrievers: Mapping[str, Retriever]
) -> dict[str, Retriever]:
    """Retrievers of a matrix: those trained on that were not asked for, then those asked for.

    A retriever that runs were trained on is taken as the runs have it.

    Raises:
        ValueError: If the runs cannot share a matrix.
    """
    first = runs[0]
    trained: dict[str, Retriever] = {}
    for run in runs:
        known = trained.setdefault(run.retriever_name, run.retriever)
        for what, unequal in _differences(run, first, known):
            if unequal:
                raise ValueError(
                    f"{run.folder} and {first.folder} have different {what}, so their scores do "
                    "not stand in one matrix; give runs that share them, in a matrix of their own"
                )
    added = {name: known for name, known in trained.items() if name not in retrievers}
    return added | {name: trained.get(name, known) for name, known in retrievers.items()}


def _differences(
    run: FinishedRun, other: FinishedRun, known: Retriever
) -> Iterator[tuple[str, bool]]:
    """What two runs must share; the data first, since only a search task's reward has a scope."""
    yield "data", run.summary.data_digest != other.summary.data_digest
    yield "test prompts", run.after.prompt_ids != other.after.prompt_ids
    yield "reward.scope", run.reward.scope is not other.reward.scope
    yield f"settings of retriever {run.retriever_name}", known != run.retriever


def _rows(runs: Sequence[FinishedRun]) -> list[list[FinishedRun]]:
    """Runs by method, settings and training retriever, in the order given; seeds rise."""
    rows: dict[tuple[str, str, str], list[FinishedRun]] = {}
    for run in runs:
        rows.setdefault((run.method, run.settings, run.retriever_name), []).append(run)
    for own in rows.values():
        own.sort(key=lambda run: run.seed)
        for one, other in pairwise(own):
            if one.seed == other.seed:
                raise ValueError(
                    f"{one.folder} and {other.folder} are one method with one seed, trained on "
                    f"{one.retriever_name}; give one of them"
                )
    return list(rows.values())


def _matrix(rows: Sequence[Sequence[FinishedRun]], judge: Judge) -> Matrix:
    warm: dict[str, tuple[FinishedRun, Scores]] = {}
    trained: list[Scored] = []
    for own in rows:
        before: list[Scores] = []
        for run in own:
            start = json.dumps(run.before.responses)
            if start not in warm:
                scores = judge(run.before.responses, name=f"warm-start-seed{run.seed}-{len(warm)}")
                warm[start] = run, scores
            before.append(warm[start][1])
        alike = {other[0].settings for other in rows if other[0].method == own[0].method}
        trained.append(
            Scored(
                method=own[0].method + (f" {own[0].settings[:8]}" if len(alike) > 1 else ""),
                trained_on=own[0].retriever_name,
                seeds=tuple(run.seed for run in own),
                runs=tuple(run.name for run in own),
                sources=POLICY,
                scores=_stacked([judge(run.after.responses, name=run.name) for run in own]),
                before=_stacked(before),
            )
        )
    starts = Scored(
        method=WARM_START,
        trained_on=None,
        seeds=tuple(run.seed for run, _ in warm.values()),
        runs=tuple(run.name for run, _ in warm.values()),
        sources=POLICY,
        scores=_stacked([scores for _, scores in warm.values()]),
    )
    return Matrix(
        title=f"Transfer between retrievers: {judge.task.name}, data: {judge.task.source}",
        tested_on=tuple(judge.rewards),
        measures=tuple(dict.fromkeys(cell.measure for cell in starts.scores)),
        rows=(*trained, starts, *_baselines(judge)),
        notes=_notes([run for own in rows for run in own], judge),
        families=np.array(families_of(judge.prompts), dtype=np.int64),
    )


def _baselines(judge: Judge) -> list[Scored]:
    scores = _stacked([judge({}, name="baselines")])
    return [
        Scored(
            method=SOURCES[source],
            trained_on=None,
            seeds=(),
            runs=(),
            sources=(source,),
            scores=scores,
        )
        for source in Source
        if any(cell.source is source for cell in scores)
    ]


def _stacked(by_seed: Sequence[Scores]) -> Scores:
    """Cell -> [S, Q]."""
    return {cell: np.stack([scores[cell] for scores in by_seed]) for cell in by_seed[0]}


def _notes(runs: Sequence[FinishedRun], judge: Judge) -> tuple[str, ...]:
    seeds = sorted({run.seed for run in runs})
    over = "seeds and families of prompts" if len(seeds) > 1 else "families of prompts"
    return (
        f"{MARK}: the retriever that was trained on. {UNSEEN}: the mean over all others.",
        f"{len(judge.prompts)} test prompts, seeds {', '.join(map(str, seeds))}; 95 % "
        f"intervals over {over}; gains are paired by seed and prompt."
        + ("" if len(seeds) > 1 else " One seed says nothing about other seeds."),
        "Stored responses, written once by each policy; sampled: the mean over its samples.",
        f"Data hash {judge.task.digest[:12]}. Runs: {', '.join(run.name for run in runs)}.",
        "Measures equal those of ir-measures on trec/ (gains 100, 10, 1; MRR, recall and MAP count "
        "Exact documents).",
    )
