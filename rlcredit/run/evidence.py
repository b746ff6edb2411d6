"""Which runs are too small for their numbers to say anything about a method."""

from collections.abc import Iterable

SMOKE = "size=smoke"
CAVEAT = "smoke: not evidence"
"""What stands beside every number of such a run."""


def caveat(words: Iterable[str]) -> str:
    """``smoke: not evidence`` for a run that was asked for with ``size=smoke``, else nothing."""
    return CAVEAT if SMOKE in words else ""
