"""What the bench's sheets and pictures share: what they show, and how figures are written."""

from collections.abc import Callable, Sequence

from rlcredit.bench.compare import Resampled, median
from rlcredit.bench.run import Entry, Found
from rlcredit.evaluation.lines import with_interval
from rlcredit.evaluation.stats import Interval
from rlcredit.report.sheets import Sheet

GAP = "—"


def own_entries(found: Found) -> dict[str, dict[str, Entry]]:
    """Estimator -> world -> with the loss that its YAML chooses."""
    methods = found.methods
    measured = {(each.estimator, each.loss, each.world): each for each in found.entries}
    table = {
        name: {
            world.name: measured[key]
            for world in found.worlds
            if (key := (methods.same_as(name), methods.own[name], world.name)) in measured
        }
        for name in methods.estimators
    }
    return {name: row for name, row in table.items() if row}


def by_world(found: Found, title: str, cell: Callable[[Entry], str]) -> Sheet:
    """One row per estimator with its own loss, one column per world."""
    names = [world.name for world in found.worlds]
    rows = [
        (name, *(cell(row[world]) if world in row else GAP for world in names))
        for name, row in own_entries(found).items()
    ]
    return Sheet(title=title, head=("estimator", *names), rows=tuple(rows))


def shown(figure: Interval | None, form: str = ".3f") -> str:
    """``0.412 [0.391, 0.433]``."""
    return GAP if figure is None else with_interval(figure, form=form)


def middle(figures: Sequence[Resampled], form: str = ".3f") -> str:
    """The median over worlds with its interval."""
    return shown(median(figures), form) if figures else GAP
