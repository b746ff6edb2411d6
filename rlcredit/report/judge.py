"""Scores stored responses by many retrievers, with run files from which anyone can score them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlcredit.evaluation.cells import TREC_MEASURES, Cell, Source, Written
from rlcredit.evaluation.expansion import Expansion
from rlcredit.evaluation.scores import run_texts, score_responses
from rlcredit.evaluation.trec import write_runs
from rlcredit.rewards.ranking import RankingReward
from rlcredit.tasks.base import SearchTask
from rlcredit.types import Prompt

POLICY = (Source.sampled, Source.greedy)
Scores = dict[Cell, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """Scores stored responses, and writes their run files."""

    task: SearchTask
    prompts: tuple[Prompt, ...]
    rewards: Mapping[str, RankingReward]
    expansion: Expansion
    folder: Path
    """Folder of the run files."""

    def __call__(self, responses: Written, *, name: str) -> Scores:
        """[Q] scores of what was written, and of the baselines; the run files of the former."""
        rules, expansion = self.task.rules, self.expansion
        texts = run_texts(rules, self.prompts, responses, expansion=expansion)
        baselines = {str(source) for source in Source if source not in POLICY}
        own = {who: rows for who, rows in texts.items() if (who in baselines) != bool(responses)}
        write_runs(self.folder / name, self.prompts, own, self.rewards)
        scores = score_responses(
            self.rewards,
            rules,
            self.prompts,
            responses,
            expansion=expansion,
            measures=TREC_MEASURES,
        )
        return {cell: np.array(values) for cell, values in scores.items()}
