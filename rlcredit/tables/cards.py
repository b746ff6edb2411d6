"""A card for each claim: what is estimated, what would refute it, what it rests on, the verdict.

The items are those that the survey of credit assignment (arXiv:2604.09459) asks a report to name.
"""

from rlcredit.evaluation.lines import with_interval
from rlcredit.report.sheets import Sheet
from rlcredit.tables.claims import Finding, findings
from rlcredit.tables.declare import Table
from rlcredit.tables.grid import Grid

NOT_GIVEN = "not declared"


def cards(grid: Grid) -> list[Sheet]:
    """A sheet for each claim that is tested, in the table's order."""
    return [_card(grid, finding) for finding in findings(grid) if finding.claim.treatment]


def comparison(table: Table, key: str) -> str:
    """What is subtracted from what, and which sign is claimed."""
    claim = table.claims[key]
    columns = {name: c.label for name, c in (*table.scores.items(), *table.logged.items())}
    sign = "higher" if claim.larger else "lower"
    treatment, control = table.rows[claim.treatment].label, table.rows[claim.control].label
    return (
        f"{treatment} minus {control}, {columns[claim.column]}, {table.data[claim.data].label} "
        f"(claimed: {sign})"
    )


def _card(grid: Grid, finding: Finding) -> Sheet:
    claim, table = finding.claim, grid.table
    rows = (
        ("claimed by", claim.source),
        ("estimand", claim.estimand or NOT_GIVEN),
        ("comparison", comparison(table, finding.key)),
        ("would count against it", claim.falsifier or NOT_GIVEN),
        ("seen", _seen(finding)),
        ("rests on", _provenance(grid, finding)),
        ("verdict", str(finding.verdict) + (f" ({finding.why})" if finding.why else "")),
    )
    return Sheet(title=f"Card: {claim.text}", head=("item", ""), rows=rows)


def _seen(finding: Finding) -> str:
    if finding.effect is None:
        return "nothing yet"
    effect = with_interval(finding.effect, sign=True)
    p = "" if finding.adjusted is None else f", p = {finding.adjusted:.4f} adjusted"
    return f"{effect} over {finding.seeds} seeds{p}"


def _provenance(grid: Grid, finding: Finding) -> str:
    """The runs of both sides, as ``rlcredit explain`` finds them, and the code that made them."""
    claim = finding.claim
    sides = (claim.treatment, claim.control)
    commands = [f"rlcredit explain {grid.name}/{claim.data}/{row}" for row in sides]
    revisions = {each for row in sides for each in grid.row_revisions(claim.data, row)}
    code = f"code {', '.join(sorted(each[:12] for each in revisions))}" if revisions else "no run"
    marks = [f"{row}: {why}" for row in sides for why in grid.changed(claim.data, row)]
    return "; ".join([*commands, code, *marks])
