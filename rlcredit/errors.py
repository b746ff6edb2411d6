"""From errors to sentences: which were raised on purpose, and the valid name nearest to a typo."""

import linecache
import os
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

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


def explain(error: BaseException) -> str | None:
    """The sentence a person can act on; None for an error that is a bug and needs its traceback.

    Errors that this package raises on purpose name value, rule and remedy. To Hydra's about
    unknown groups, keys and values the nearest valid name is added. RLCREDIT_DEBUG=1 keeps every
    traceback.
    """
    if os.environ.get("RLCREDIT_DEBUG") == "1":
        return None
    links = list(chain(error))
    for link in links:
        if raised_here(link):
            return str(link)
    for link in links:
        if isinstance(link, MissingConfigException):
            return f"{link}{nearest(link.missing_cfg_file or '', link.options or [])}"
        if isinstance(link, InterpolationKeyError):
            return (
                f"{link}: a setting that is taken from another component, and the chosen one does "
                "not have it; choose components that go together (estimators of candidates go with "
                "rewards of search, dataset=esci)"
            )
        if isinstance(link, OmegaConfBaseException):
            return _about_key(error, link)
    return str(error) if isinstance(error, HydraException) else None


def _about_key(error: BaseException, link: OmegaConfBaseException) -> str:
    message = str(error) if isinstance(error, HydraException) else str(link)
    if str(link) not in message:
        message = f"{message}\n{link}"
    parent = link.parent_node
    if link.key is None or not isinstance(parent, DictConfig):
        return message
    names = [str(name) for name in parent if name != "_target_"]
    if str(link.key) in names:
        return message
    return f"{message}{nearest(str(link.key), names)}\nvalid names here: {', '.join(names)}"


def nearest(name: str, options: Iterable[str]) -> str:
    """A line with the option that a mistyped name is closest to; empty if none is close."""
    last = re.split(r"[/.]", name)[-1]
    close = get_close_matches(last, list(options), n=1, cutoff=0.5)
    return f"\ndid you mean {close[0]!r}?" if close else ""
