"""Grades verified answers: Pass@k, greedy accuracy, and how many different solutions there are."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlcredit.data.base import Task
from rlcredit.evaluation.cells import PASS, Cell, Source, Written
from rlcredit.evaluation.scores import scored_text
from rlcredit.rewards.solutions import distinct_solutions, mode, pass_at_k, width
from rlcredit.rewards.verifier import Verifier, problem
from rlcredit.text.response import TextRules
from rlcredit.types import Judgement, Prompt

NO_RETRIEVER = ""
"""In a cell's place for a retriever."""
WELL_FORMED, SOLUTIONS = "well-formed", "solutions"
WIDTH, MODE = "width", "mode"


@dataclass(frozen=True, kw_only=True)
class VerifiedGrader:
    """Every answer is right or wrong by rule.

    Scores of sampled responses: ``pass@1`` (their accuracy) to ``pass@n``, ``well-formed`` and
    ``solutions`` (distinct correct ones of a prompt); of the greedy one: ``pass@1_greedy`` and
    ``well-formed_greedy``. Figures: ``width`` and ``mode`` of the sampled ones
    (arXiv:2602.01062, table 3).
    """

    reward: Verifier
    rules: TextRules
    utility: None = None
    counts: None = None
    documents: None = None
    trained_on: str = NO_RETRIEVER

    @classmethod
    def of(cls, task: Task, reward: Verifier) -> "VerifiedGrader":
        """For a task whose prompts all are problems.

        Raises:
            ValueError: If one is not.
        """
        for prompt in (*task.train, *task.validation, *task.test):
            problem(prompt)
        return cls(reward=reward, rules=task.rules)

    @property
    def headline(self) -> str:
        """Accuracy of sampled responses."""
        return f"{PASS}@1"

    @property
    def rows(self) -> Sequence[tuple[str, str]]:
        """The three rewards."""
        figures = f"{self.reward.correct:g} correct, {self.reward.well_formed:g} well-formed"
        return [("reward", f"verified by rule: {figures}, {self.reward.malformed:g} else")]

    def for_curves(self) -> "VerifiedGrader":
        """Itself: rules cost nothing."""
        return self

    def scores(
        self, prompts: Sequence[Prompt], responses: Written, *, prompts_per_batch: int
    ) -> dict[Cell, tuple[float, ...]]:
        """One score per prompt and measure; ``prompts_per_batch`` bounds nothing here."""
        del prompts_per_batch
        scores: dict[Cell, tuple[float, ...]] = {}
        for source, judged in self._judged(prompts, responses).items():
            correct = [sum(each.correct for each in own) for own in judged]
            for k in range(1, len(judged[0]) + 1):
                values = [
                    pass_at_k(len(own), count, k)
                    for own, count in zip(judged, correct, strict=True)
                ]
                scores[Cell(NO_RETRIEVER, f"{PASS}@{k}", source)] = tuple(values)
            scores[Cell(NO_RETRIEVER, WELL_FORMED, source)] = tuple(
                sum(each.well_formed for each in own) / len(own) for own in judged
            )
            if source is Source.sampled:
                found = tuple(float(distinct_solutions(own)) for own in judged)
                scores[Cell(NO_RETRIEVER, SOLUTIONS, source)] = found
        return scores

    def figures(self, scores: Mapping[Cell, Sequence[float]]) -> dict[str, float]:
        """Width and mode."""
        found = scores[Cell(NO_RETRIEVER, SOLUTIONS, Source.sampled)]
        distinct = [int(count) for count in found]
        return {WIDTH: float(width(distinct)), MODE: mode(distinct)}

    def write(
        self, folder: Path, prompts: Sequence[Prompt], responses: Written, *, phase: str
    ) -> None:
        """``solutions/test-<phase>.jsonl``: each prompt's samples, correct ones, and solutions."""
        path = folder / "solutions" / f"test-{phase}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        judged = self._judged(prompts, responses)[Source.sampled]
        with path.open("w", encoding="utf-8") as file:
            for prompt, own in zip(prompts, judged, strict=True):
                right = [each.solution for each in own if each.correct]
                record = {"prompt_id": prompt.prompt_id, "samples": len(own), "correct": len(right)}
                record |= {"solutions": sorted(set(right))}
                file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")

    def _judged(
        self, prompts: Sequence[Prompt], responses: Written
    ) -> dict[Source, list[list[Judgement]]]:
        """[P][n] judgements of what each wrote."""
        return {
            source: [
                [
                    problem(prompt).judge(scored_text(self.rules, prompt, response))
                    for response in own
                ]
                for prompt, own in zip(prompts, written, strict=True)
            ]
            for source, written in responses.items()
        }
