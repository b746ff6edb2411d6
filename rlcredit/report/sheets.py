"""A table of plain text, as Markdown and as LaTeX (booktabs): the same cells twice."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Plain text in rows: what every format shows."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sheet_markdown(sheet: Sheet) -> str:
    """A heading and a table of pipes."""
    lines = [f"## {sheet.title}", "", _pipes(sheet.head), "|" + "---|" * len(sheet.head)]
    return "\n".join([*lines, *(_pipes(row) for row in sheet.rows)])


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


_LATEX = str.maketrans(
    {c: "\\" + c for c in "&%$#_{}"}
    | {"—": "--", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "\\": "\\textbackslash{}"}
)


def sheet_latex(sheet: Sheet) -> str:
    """A tabular for booktabs, its title in a comment."""
    rows = [" & ".join(cell.translate(_LATEX) for cell in row) + r" \\" for row in sheet.rows]
    head = " & ".join(cell.translate(_LATEX) for cell in sheet.head) + r" \\"
    lines = [
        f"% {sheet.title}",
        rf"\begin{{tabular}}{{l{'r' * (len(sheet.head) - 1)}}}",
        *(r"\toprule", head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"),
    ]
    return "\n".join(lines)
