"""A finished run's stored responses, loaded again for the credit explorer of its report."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer

from rlcredit.data.base import Dataset
from rlcredit.estimators.base import AdvantageEstimator
from rlcredit.report.evaluations import load_evaluation
from rlcredit.report.explorer import Explorer, PromptView
from rlcredit.report.run_folder import RunSummary
from rlcredit.retrieval.base import Encoder, Retriever
from rlcredit.rewards.ranking import Ranking
from rlcredit.rollout.score import Scorer
from rlcredit.text.base import Segmenter
from rlcredit.trainer.cells import Source
from rlcredit.trainer.evaluate import SMALLEST_GROUP


@dataclass(frozen=True, kw_only=True)
class Explored:
    """A run's components, and the estimators that its responses are shown to."""

    run: Path
    dataset: Dataset
    retriever: Retriever
    reward: Ranking
    segmenter: Segmenter
    encoder: Encoder
    estimators: Mapping[str, AdvantageEstimator]
    seed: int
    cache: Path


def explore(job: Explored, *, num_prompts: int) -> tuple[list[PromptView], dict[str, str]]:
    """Views of the first test prompts, and the texts of the catalogue's documents.

    Raises:
        ValueError: If the run holds too little to compare, or its data have changed.
    """
    if num_prompts == 0:
        return [], {}
    summary, evaluation = RunSummary.read(job.run), load_evaluation(job.run, "test", "after")
    if summary is None or evaluation is None:
        raise ValueError(
            f"{job.run} holds no finished run (no summary.json, or no evaluations/test-after.json);"
            " give explore=<folder of a finished run>, or prompts=0 for a report without explorer"
        )
    groups = evaluation.responses[Source.sampled][:num_prompts]
    if len(groups[0]) < SMALLEST_GROUP:
        raise ValueError(
            f"{job.run} stored {len(groups[0])} sampled responses to a prompt, and the explorer "
            f"compares groups of {SMALLEST_GROUP} or more; run with evaluation.samples=4, or give "
            "prompts=0 for a report without explorer"
        )
    task = job.dataset.load()
    if task.rules.num_candidates:
        return [], {}  # the explorer takes segments of one text away, and a set is several
    if task.digest != summary.data_digest:
        raise ValueError(
            f"the data are no longer those of {job.run} (hash {task.digest[:12]}, then "
            f"{summary.data_digest[:12]}); put the same files back, or give prompts=0"
        )
    reward = job.reward.bind(job.retriever.index(task.documents, cache=job.cache))
    explorer = Explorer(
        scorer=Scorer(
            reward=reward, rules=task.rules, segmenter=job.segmenter, encoder=job.encoder
        ),
        reward=reward,
        estimators=job.estimators,
        tokenizer=AutoTokenizer.from_pretrained(job.run / "policy", trust_remote_code=False),
        seed=job.seed,
    )
    texts = dict(zip(task.documents.ids, task.documents.texts, strict=True))
    return explorer(task.test[: len(groups)], groups), texts
