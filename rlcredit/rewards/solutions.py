"""How many problems several attempts solve, and in how many ways."""

import math
from collections.abc import Sequence

from rlcredit.types import Judgement


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Probability that one of k samples, drawn without replacement from n, is correct.

    ``1 - C(n - c, k) / C(n, k)``, the unbiased estimate of arXiv:2107.03374 (eq. 1); 1 where fewer
    than k are wrong.

    Raises:
        ValueError: If k is not in 1..n, or c not in 0..n.
    """
    if not 1 <= k <= num_samples or not 0 <= num_correct <= num_samples:
        raise ValueError(
            f"pass@{k} of {num_samples} samples, {num_correct} of them correct: k lies in 1..n, "
            "and the correct ones in 0..n; raise evaluation.samples for a larger k"
        )
    wrong = math.comb(num_samples - num_correct, k)
    return 1 - wrong / math.comb(num_samples, k)


def distinct_solutions(judged: Sequence[Judgement]) -> int:
    """How many different correct solutions there are among the attempts at one problem."""
    return len({judgement.solution for judgement in judged if judgement.correct})


def width(distinct: Sequence[int]) -> int:
    """Problems with two or more distinct correct solutions (arXiv:2602.01062, table 3).

    Args:
        distinct: Of each problem, how many distinct correct solutions were found.
    """
    return sum(count >= 2 for count in distinct)


def mode(distinct: Sequence[int]) -> float:
    """Mean number of distinct correct solutions of the problems that :func:`width` counts; else 0.

    Args:
        distinct: As of :func:`width`.
    """
    wide = [count for count in distinct if count >= 2]
    return math.fsum(wide) / len(wide) if wide else 0.0
