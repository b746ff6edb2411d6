"""Claims and what became of them."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from rlcredit.evaluation.stats import Interval, holm, paired_permutation
from rlcredit.tables.declare import Claim
from rlcredit.tables.grid import Grid, paired_difference, why_unpaired

ALPHA = 0.05
SEEDS_FOR_TEST = 6
"""Fewer seeds than this cannot reach p < .05 two-sided (2/32 for 5)."""


class Verdict(StrEnum):
    """What becomes of a claim, at the scale that was run."""

    supported = "supported"
    contradicted = "not supported"
    inconclusive = "inconclusive at this scale"
    untested = "not tested here"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A claim with its evidence."""

    key: str
    claim: Claim
    effect: Interval | None
    """Treatment minus control, in the column's unit."""
    pvalue: float | None
    adjusted: float | None
    verdict: Verdict
    seeds: int
    why: str = ""


def findings(grid: Grid) -> list[Finding]:
    """Each claim's effect, adjusted p (two-sided paired permutation over seeds, Holm) and verdict.

    Supported: adjusted p < .05 and the effect has the claimed sign. Not supported: adjusted p < .05
    and the other sign. Everything else is inconclusive, which is not evidence of no effect.

    A claim is tested once all declared seeds are there: to look after each seed and stop at a
    pleasing one is no test. Holm counts every claim that is to be tested, so that a table half
    filled does not correct for less than the whole one.
    """
    raw = {key: _test(grid, claim) for key, claim in grid.table.claims.items()}
    family = [key for key, claim in grid.table.claims.items() if claim.treatment]
    pvalues = [1.0 if (p := raw[key][1]) is None else p for key in family]
    corrected = dict(zip(family, holm(pvalues), strict=True))
    adjusted = {key: p for key, p in corrected.items() if raw[key][1] is not None}
    return [
        Finding(
            key=key,
            claim=grid.table.claims[key],
            effect=effect,
            pvalue=pvalue,
            adjusted=adjusted.get(key),
            verdict=_verdict(grid.table.claims[key], effect, adjusted.get(key)),
            seeds=seeds,
            why=why,
        )
        for key, (effect, pvalue, seeds, why) in raw.items()
    ]


def _test(grid: Grid, claim: Claim) -> tuple[Interval | None, float | None, int, str]:
    if not claim.treatment:
        return None, None, 0, claim.why
    treatment, control = (
        grid.cells[claim.data, row, claim.column] for row in (claim.treatment, claim.control)
    )
    seeds = [seed for seed in treatment.per_seed if seed in control.per_seed]
    gaps = "; ".join(dict.fromkeys((*treatment.gaps, *control.gaps)))
    effect = paired_difference(treatment, control)
    unpaired = why_unpaired(treatment, control)
    if unpaired:
        return None, None, len(seeds), "; ".join(filter(None, (unpaired, gaps)))
    declared = len(grid.table.size(grid.size).seeds)
    untested = ""
    if len(seeds) < declared:
        untested = f"{len(seeds)} of {declared} declared seeds"
    elif declared < SEEDS_FOR_TEST:
        untested = f"{declared} seeds, and fewer than {SEEDS_FOR_TEST} cannot reach p < .05"
    elif effect is None:
        untested = "no query is defined in every run of both"
    if untested:
        return effect, None, len(seeds), "; ".join(filter(None, (untested, gaps)))
    pairs = [np.array([c.per_seed[seed] for seed in seeds]) for c in (treatment, control)]
    return effect, paired_permutation(pairs[0], pairs[1]), len(seeds), gaps


def _verdict(claim: Claim, effect: Interval | None, adjusted: float | None) -> Verdict:
    if not claim.treatment:
        return Verdict.untested
    if effect is None or adjusted is None or adjusted >= ALPHA:
        return Verdict.inconclusive
    return Verdict.supported if (effect.mean > 0) == claim.larger else Verdict.contradicted
