"""Foreign text within Markdown: shown as it is, whatever it holds."""

import re

_ACTIVE = re.compile(r"[\\`*_\[\]<>#|~&$:]")
"""What Markdown, HTML or a formula within them may read as more than a letter."""


def inline(text: str) -> str:
    """A text for a paragraph or a cell of a table, on one line.

    Characters that could mean something are written as numeric character references, which
    CommonMark never takes for markup (section 2.5).
    """
    printable = "".join(c if c.isprintable() else " " for c in text)
    return _ACTIVE.sub(lambda match: f"&#{ord(match[0])};", printable)


def fenced(text: str, language: str = "") -> str:
    """A text as a block of code, in a fence that is longer than any row of backticks in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
