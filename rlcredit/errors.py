"""Sentences from errors: which were raised on purpose, the valid name nearest to a typo."""

import linecache
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

PACKAGE = Path(__file__).parent


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes, outermost first; an error that is its own cause's context once."""
    seen: list[BaseException] = []
    while error is not None and not any(error is link for link in seen):
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def raised_here(error: BaseException | None) -> bool:
    """Was it raised on purpose, by a ``raise`` statement of this package?"""
    if (
        not isinstance(error, ValueError | OSError | RuntimeError | ArithmeticError)
        or error.__traceback__ is None
    ):
        return False
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    path = trace.tb_frame.f_code.co_filename
    statement = linecache.getline(path, trace.tb_lineno).strip()
    return PACKAGE in Path(path).parents and statement.startswith("raise ")


def nearest(name: str, options: Iterable[str]) -> str:
    """A line with the option that a mistyped name is closest to; empty if none is close."""
    last = re.split(r"[/.]", name)[-1]
    close = get_close_matches(last, list(options), n=1, cutoff=0.5)
    return f"\ndid you mean {close[0]!r}?" if close else ""
