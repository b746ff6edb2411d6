"""Reads this package's docstrings for the reference: roles and examples become Markdown."""

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":[a-z]+:`~?([^`]+)`")
_SYMBOLS = re.compile(r"(?<!`)(\[[^\]\n]*\])(?![(`])")


def as_markdown(text: str) -> str:
    """A docstring whose roles are code, whose examples are blocks, and whose axes are no links."""
    lines, inside = [], False
    for line in text.replace("``", "`").splitlines():
        example = line.lstrip().startswith((">>>", "...")) or (inside and bool(line.strip()))
        if example != inside:
            lines += ["", "```python"] if example else ["```", ""]
        lines.append(line.strip() if example else _plain(line))
        inside = example
    return "\n".join([*lines, "```"] if inside else lines)


def _plain(line: str) -> str:
    return _SYMBOLS.sub(lambda found: found[1].replace("[", r"\["), _ROLE.sub(r"`\1`", line))


class Docstrings(Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite the docstring of one object, if it has one."""
        del kwargs
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
