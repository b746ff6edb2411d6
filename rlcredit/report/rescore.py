"""A finished run's stored responses, scored by a retriever of your choice."""

from dataclasses import replace
from pathlib import Path

from rlcredit.evaluation.evaluate import Evaluation
from rlcredit.evaluation.graders import Surroundings, grader_of
from rlcredit.evaluation.on_disk import load_evaluation, save_evaluation
from rlcredit.retrieval.base import Retriever
from rlcredit.rewards.base import Reward
from rlcredit.rewards.ranking import Ranking
from rlcredit.run.console import RunConsole
from rlcredit.run.folder import RunSummary, touch_test_split
from rlcredit.run.ownership import owned
from rlcredit.run.seal import verify
from rlcredit.tasks.base import Dataset, SearchTask, Task

_PROMPTS_PER_BATCH = 64


def rescore(
    run: Path,
    *,
    dataset: Dataset[Task],
    retriever: Retriever,
    name: str,
    reward: Reward | Ranking,
    temperature: float,
    cache: Path,
) -> tuple[Evaluation, Evaluation]:
    """Score the responses before and after training, print the table, keep both evaluations.

    Args:
        run: Folder of a finished run.
        dataset: The run's own.
        retriever: Indexes the run's documents.
        name: The retriever's, for the table and the files.
        reward: The run's own, of which every retriever but this one is taken away.
        temperature: Of the sampled responses, for the table.
        cache: Where document embeddings are kept.

    Raises:
        ValueError: If the folder holds no finished run, its record is damaged, it cannot be written
            or is in use, or the data are no longer those of the run.
    """
    summary, *stored = stored_evaluations(run)
    console = RunConsole()
    with owned(run, wait=False, warn=console.warn):
        task = unchanged_task(run, dataset, summary)
        around = Surroundings(
            retrievers={name: retriever}, cache=cache, failures=run / "failed_texts"
        )
        grader = grader_of(reward, task, around)
        touch_test_split(run, phase=f"scored again with {name}")
        scored: list[Evaluation] = []
        for old in stored:
            prompts = task.test[: len(old.prompt_ids)]
            scores = grader.scores(prompts, old.responses, prompts_per_batch=_PROMPTS_PER_BATCH)
            new = replace(old, scores=scores, credit=None)
            save_evaluation(run, replace(new, phase=f"{old.phase}-{name}"), digest=summary.digest)
            scored.append(new)
    console.results(
        scored[0],
        scored[1],
        task=task,
        trained_on=summary.headline.rpartition("/")[0],
        temperature=temperature,
    )
    return scored[0], scored[1]


def stored_evaluations(run: Path) -> tuple[RunSummary, Evaluation, Evaluation]:
    """A finished run's summary, and its evaluations on the test split before and after training.

    Raises:
        ValueError: If the folder holds no finished run.
    """
    summary = RunSummary.read(run)
    before, after = (load_evaluation(run, "test", phase) for phase in ("before", "after"))
    if summary is None or before is None or after is None:
        raise ValueError(
            f"{run} holds no finished run (no summary.json, or no evaluations/test-*.json); give "
            "the folder that a run printed at its end, as run=<folder>"
        )
    verify(run, summary.record, finished=True)
    return summary, before, after


def unchanged_task(run: Path, dataset: Dataset[Task], summary: RunSummary) -> SearchTask:
    """The data of a finished run, loaded again.

    Raises:
        ValueError: If they are no longer those of the run.
    """
    task = dataset.load().searched()
    if task.digest != summary.data_digest:
        raise ValueError(
            f"the data are no longer those of {run} (hash {task.digest[:12]}, then "
            f"{summary.data_digest[:12]}); put the same files back, or train anew"
        )
    return task
