"""What training changed, in sentences."""

from collections.abc import Sequence

import numpy as np

from rlcredit.evaluation.lines import with_interval
from rlcredit.evaluation.names import data_name, measure_name
from rlcredit.evaluation.stats import Interval
from rlcredit.report.runs import Method, ReportedRun


def verdict(method: Method) -> str:
    """Model, data, steps, and the headline measure before and after, with its interval.

    ``OSPO taught a policy made from scratch on ESCI (generated) for 100 steps: nDCG@10, sampled,
    BM25 rose from 0.221 to 0.534, by +0.314 [+0.282, +0.344].``
    """
    first, runs = method.runs[0], method.runs
    before = float(np.mean([run.change.before.mean for run in runs]))
    after = float(np.mean([run.change.after.mean for run in runs]))
    return (
        f"{method.label} trained {first.policy} on {data_name(first.data)} "
        f"({first.summary.data} data) for {_steps(runs)}. "
        f"{measure_name(first.summary.headline)} {_moved(runs)}: before {before:.3f}, "
        f"after {after:.3f}, difference {_differences(runs)}."
    )


def _steps(runs: Sequence[ReportedRun]) -> str:
    steps = sorted({run.summary.steps for run in runs})
    seeds = "" if len(runs) == 1 else f" with each of {len(runs)} seeds"
    return " or ".join(f"{count:,}" for count in steps) + f" steps{seeds}"


def _moved(runs: Sequence[ReportedRun]) -> str:
    """Rose, fell, or not told from no change; of several seeds how many did."""
    found = [_direction(run.change.difference) for run in runs]
    if len(runs) == 1:
        return {1: "rose", -1: "fell", 0: "did not change beyond chance"}[found[0]]
    return f"rose with {found.count(1)} of {len(runs)} seeds and fell with {found.count(-1)}"


def _direction(difference: Interval) -> int:
    return int(np.sign(difference.mean)) if difference.excludes_zero else 0


def _differences(runs: Sequence[ReportedRun]) -> str:
    return "; ".join(with_interval(run.change.difference, sign=True) for run in runs)
