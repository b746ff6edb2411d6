"""A finished run's stored responses, loaded again for the credit explorer of its report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rlcredit.estimators.base import AdvantageEstimator
from rlcredit.evaluation.cells import Source
from rlcredit.evaluation.evaluate import SMALLEST_GROUP
from rlcredit.evaluation.on_disk import load_evaluation
from rlcredit.report.candidate_views import CandidateViews
from rlcredit.report.explorer import Explorer, Views
from rlcredit.report.segment_views import SegmentViews
from rlcredit.report.views import PromptView
from rlcredit.retrieval.base import Encoder, Retriever
from rlcredit.rewards.base import Reward
from rlcredit.rewards.ranking import Ranking
from rlcredit.run.folder import RunSummary
from rlcredit.run.seal import verify
from rlcredit.scoring.scorer import Scorer
from rlcredit.tasks.base import Dataset, SearchTask
from rlcredit.text.base import Segmenter


@dataclass(frozen=True, kw_only=True)
class Explored:
    """A run's components, and the estimators that its responses are shown to."""

    run: Path
    dataset: Dataset
    retriever: Retriever
    reward: Reward | Ranking
    segmenter: Segmenter
    encoder: Encoder
    estimators: Mapping[str, AdvantageEstimator]
    seed: int
    cache: Path


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """What the page shows of a run's responses."""

    prompts: dict[str, list[PromptView]] = field(default_factory=dict)
    """Phase -> views."""
    part: str = SegmentViews.name
    """What a response's parts are called."""
    titles: dict[str, str] = field(default_factory=dict)
    """Document id -> its text."""


def explore(job: Explored, *, num_prompts: int, phases: Sequence[str]) -> Exploration:
    """Views of the first test prompts, and the texts of the catalogue's documents.

    Args:
        job: The run, and who judges its responses.
        num_prompts: Prompts that are shown; 0: none.
        phases: ``after`` training, ``before`` it, or both.

    Raises:
        ValueError: If the run holds too little to compare, or its data have changed.
    """
    if num_prompts == 0 or not isinstance(job.reward, Ranking):  # it shows what parts find
        return Exploration()
    groups = {phase: _stored(job.run, phase, num_prompts) for phase in phases}
    task = _unchanged(job)
    index = job.retriever.index(task.documents, cache=job.cache)
    reward = job.reward.bind(index, catalogue=task.documents)
    scorer = Scorer(
        reward=reward,
        rules=task.rules,
        segmenter=job.segmenter,
        utility=job.reward.utility,
        encoder=job.encoder,
    )
    views: Views = SegmentViews(scorer=scorer, reward=reward)
    if task.rules.num_candidates:
        views = CandidateViews(rules=task.rules, reward=reward, utility=job.reward.utility)
    explorer = Explorer(
        scorer=scorer,
        views=views,
        estimators=job.estimators,
        tokenizer=_tokenizer(job.run / "policy"),
        seed=job.seed,
    )
    return Exploration(
        prompts={phase: explorer(task.test[: len(own)], own) for phase, own in groups.items()},
        part=views.name,
        titles=dict(zip(task.documents.ids, task.documents.texts, strict=True)),
    )


def _stored(run: Path, phase: str, num_prompts: int) -> Sequence[Sequence[str]]:
    """The sampled responses of a finished run to its first test prompts."""
    summary, evaluation = RunSummary.read(run), load_evaluation(run, "test", phase)
    if summary is None or evaluation is None:
        raise ValueError(
            f"{run} holds no finished run (no summary.json, or no evaluations/test-{phase}.json);"
            " give explore=<folder of a finished run>, or prompts=0 for a report without explorer"
        )
    verify(run, {**summary.record, **summary.exported}, finished=True)
    groups = evaluation.responses[Source.sampled][:num_prompts]
    if len(groups[0]) < SMALLEST_GROUP:
        raise ValueError(
            f"{run} stored {len(groups[0])} sampled responses per prompt, and the explorer "
            f"compares groups of {SMALLEST_GROUP} or more; run with evaluation.samples=4, or give "
            "prompts=0 for a report without explorer"
        )
    return groups


def _unchanged(job: Explored) -> SearchTask:
    """The data of the run, loaded again."""
    task, summary = job.dataset.load(), RunSummary.read(job.run)
    if summary is None or task.digest != summary.data_digest:
        then = "nothing" if summary is None else summary.data_digest[:12]
        raise ValueError(
            f"the data are no longer those of {job.run} (hash {task.digest[:12]}, then "
            f"{then}); put the same files back, or give prompts=0"
        )
    return task.searched()


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} holds no tokenizer to cut responses with ({error}); restore the folder, or "
            "give prompts=0 for a report without explorer"
        ) from error
