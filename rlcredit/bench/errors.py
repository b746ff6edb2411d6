"""Bias, variance and error of gradients by world, and errors beside those of a baseline."""

from collections.abc import Callable, Iterator, Sequence

from rlcredit.bench.cells import by_world, own_entries, shown
from rlcredit.bench.compare import BUDGET, Comparison, ErrorAtBudget, Resampled, less, median
from rlcredit.bench.run import Found
from rlcredit.report.sheets import Sheet

BASELINE = "grpo"
"""The estimator that the others are compared with."""


def error_sheets(found: Found) -> Iterator[Sheet]:
    """Everything with its interval, with each estimator's own loss."""
    yield _sheet(found, "Bias", lambda here: here.bias)
    for cost, at_budget in _COSTS:
        yield _sheet(found, f"Variance, {cost}", lambda here, of=at_budget: of(here).variance)
        yield _sheet(found, f"Error, {cost}", lambda here, of=at_budget: of(here).error)
        yield _sheet(
            found,
            f"Error at the best rate, {cost}",
            lambda here, of=at_budget: of(here).at_best_rate,
        )
    for cost, at_budget in _COSTS:
        yield _against(found, cost, lambda here, of=at_budget: of(here).at_best_rate)


_COSTS: Sequence[tuple[str, Callable[[Comparison], ErrorAtBudget]]] = (
    (f"{BUDGET} samples", lambda here: here.by_samples),
    (f"{BUDGET} rewards", lambda here: here.by_rewards),
)


def _sheet(found: Found, title: str, figure: Callable[[Comparison], Resampled]) -> Sheet:
    return by_world(found, f"{title}, own loss", lambda entry: shown(figure(entry.here), ".3g"))


def _against(found: Found, cost: str, figure: Callable[[Comparison], Resampled]) -> Sheet:
    """Methods less the baseline on the worlds of both, in pairs: their draws are the same."""
    own = own_entries(found)
    base = own.get(BASELINE, {})
    rows: list[tuple[str, ...]] = []
    for name, row in own.items():
        worlds = [world for world in row if world in base]
        if name == BASELINE or not worlds:
            continue
        ours, theirs = ([figure(of[world].here) for world in worlds] for of in (row, base))
        pairs = zip(worlds, ours, theirs, strict=True)
        apart = [(world, gap) for world, a, b in pairs if (gap := less(a, b)).excludes_zero]
        middles = median(ours), median(theirs)
        rows.append(
            (
                name,
                str(len(worlds)),
                *(shown(each) for each in middles),
                shown(less(*middles), "+.2g"),
                ", ".join(world for world, gap in apart if gap.mean < 0) or "none",
                ", ".join(world for world, gap in apart if gap.mean > 0) or "none",
            )
        )
    head = ("estimator", "worlds", "median", f"{BASELINE}'s", "difference", "less in", "more in")
    title = f"Error at the best rate, {cost}, beside {BASELINE}'s on the worlds of both, own loss"
    return Sheet(title=title, head=head, rows=tuple(rows))
