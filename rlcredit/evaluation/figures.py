"""Figures of evaluations: means, intervals, paired differences."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from rlcredit.evaluation.cells import Cell
from rlcredit.evaluation.evaluate import Evaluation
from rlcredit.evaluation.stats import Interval, mean_interval, paired_interval


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One measure before and after training, on the same prompts."""

    cell: Cell
    before: Interval
    after: Interval
    difference: Interval
    """Paired by prompt."""


def compare(before: Evaluation, after: Evaluation) -> list[Comparison]:
    """Every score that both evaluations have.

    Raises:
        ValueError: If they are not of the same prompts.
    """
    if before.prompt_ids != after.prompt_ids:
        raise ValueError(
            f"the {before.split} evaluations before and after are of different prompts "
            f"({len(before.prompt_ids)} and {len(after.prompt_ids)}), so no difference is paired; "
            "evaluate again, or start anew with resume=never"
        )
    return [
        Comparison(
            cell=cell,
            before=mean_interval(before.values(cell), after.family_numbers),
            after=mean_interval(after.values(cell), after.family_numbers),
            difference=paired_interval(
                after.values(cell), before.values(cell), after.family_numbers
            ),
        )
        for cell in after.scores
        if cell in before.scores
    ]


def intervals(evaluation: Evaluation) -> dict[str, Interval]:
    """Mean and interval of every score by the cell's name, ``bm25/ndcg@10_sampled``."""
    families = evaluation.family_numbers
    return {
        cell.name: mean_interval(evaluation.values(cell), families) for cell in evaluation.scores
    }


def truth_rho(evaluation: Evaluation) -> Interval | None:
    """Rank correlation of credit with truth over prompts; None where nothing was correlated."""
    check = evaluation.credit
    if check is None or not check.rho:
        return None
    by_id = dict(zip(evaluation.prompt_ids, evaluation.family_numbers.tolist(), strict=True))
    families = np.array([by_id[prompt] for prompt in check.rho], dtype=np.int64)
    found = mean_interval(np.array(list(check.rho.values()), dtype=np.float64), families)
    if found.low is None or found.high is None:
        return found
    return replace(found, low=max(found.low, -1.0), high=min(found.high, 1.0))


def evaluation_metrics(evaluation: Evaluation) -> dict[str, float]:
    """What is logged about an evaluation: the policy's mean scores, and the check of its credit."""
    return evaluation.metrics() | dict(_credit_metrics(evaluation))


def _credit_metrics(evaluation: Evaluation) -> Iterator[tuple[str, float]]:
    check, rho = evaluation.credit, truth_rho(evaluation)
    if check is None:
        return
    name = f"eval/{evaluation.split}/credit/truth_rho"
    yield f"{name}_responses", float(check.counted)
    yield f"{name}_skipped", float(check.skipped)
    if rho is None:
        return
    yield name, rho.mean
    if rho.low is not None and rho.high is not None:
        yield f"{name}_low", rho.low
        yield f"{name}_high", rho.high
