"""Does the credit of segments follow the truth? Asked where the data know what is true."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from rlcredit.credit.spread import segment_credit
from rlcredit.text.response import segment_key
from rlcredit.types import Advantages, Responses, Segments

DECIMALS = 6
"""Credit is compared to so many decimals: fp32 sums in another order must not break ties."""


@dataclass(frozen=True, kw_only=True)
class CreditCheck:
    """Spearman's rank correlation of segment credit with truth, within responses, by prompt."""

    rho: Mapping[str, float]
    """Prompt id -> mean over its responses; prompts without a counted response are left out."""
    counted: int
    """Responses that enter."""
    skipped: int
    """Responses whose segments are all true, all false, of one credit, or fewer than two."""


def check_credit(
    responses: Responses, segments: Segments, advantages: Advantages
) -> CreditCheck | None:
    """Correlate, within each response, a segment's raw credit with whether its phrase is true.

    Segments that do not count and segments that repeat an earlier one are left out.

    Returns:
        None where the method gives no credit to segments, or the data know no truth.
    """
    if advantages.credit is None or not all(prompt.truth for prompt in responses.prompts):
        return None
    credit = segment_credit(advantages.credit, segments.ids, segments.mask.shape[2])
    usable = segments.mask & segments.valid & segments.first & ~credit.isnan()
    rho: dict[str, float] = {}
    counted = skipped = 0
    for p, prompt in enumerate(responses.prompts):
        truth = {segment_key(phrase) for phrase in prompt.truth}
        found = []
        for g, text in enumerate(responses.texts[p]):
            spans = segments.spans[p, g][usable[p, g]].tolist()
            true = np.array([segment_key(text[a:b]) in truth for a, b in spans], dtype=np.float64)
            value = spearman(credit[p, g][usable[p, g]].cpu().double().numpy(), true)
            if value is None:
                skipped += 1
            else:
                found.append(value)
        counted += len(found)
        if found:
            rho[prompt.prompt_id] = math.fsum(found) / len(found)
    return CreditCheck(rho=rho, counted=counted, skipped=skipped)


def merge(checks: list[CreditCheck]) -> CreditCheck | None:
    """One check over the prompts of several; None for none."""
    if not checks:
        return None
    return CreditCheck(
        rho={prompt_id: value for check in checks for prompt_id, value in check.rho.items()},
        counted=sum(check.counted for check in checks),
        skipped=sum(check.skipped for check in checks),
    )


def spearman(credit: NDArray[np.float64], true: NDArray[np.float64]) -> float | None:
    """Rank correlation with mean ranks for ties; None where one side has no variance."""
    rounded = credit.round(DECIMALS)
    if len(true) < 2 or np.ptp(rounded) == 0 or np.ptp(true) == 0:
        return None
    return float(np.corrcoef(rankdata(rounded), rankdata(true))[0, 1])
