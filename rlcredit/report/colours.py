"""How a method looks: one colour in every plot, and dashes and marks that say it without colour.

A method is an estimator with its own settings (``ospo estimator/value=shapley``). Words about the
rest of a run (``trainer.updates_per_batch=2``) keep the colour and take other dashes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

PALETTE = (
    *("#0072b2", "#d55e00", "#009e73", "#c2609a", "#a87900", "#3b94cc", "#8561c5", "#7c8200"),
    *("#a5603f", "#7f7f7f", "#c9474f", "#2f9c9c"),
)
"""Colours after Okabe and Ito, each with a contrast of 3 or more on white and on the dark page."""
BLUE, ORANGE, GREEN, PINK, AMBER, SKY, VIOLET, OLIVE, BROWN, GREY, RED, TEAL = PALETTE
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 3)))
MARKERS = "osD^vPX*<>pd"
COLOURS: Mapping[str, str] = {
    "grpo": BLUE,
    "dr_grpo": SKY,
    "rloo": VIOLET,
    "maxrl": TEAL,
    "maxk": OLIVE,
    "lpo": RED,
    "lpo_reverse": BROWN,
    "setpo": OLIVE,
    "otb": TEAL,
    "otb_released": BROWN,
    "ospo": ORANGE,
    "ospo_owen": PINK,
    "ospo_rank": AMBER,
    "ospo_released": RED,
    "loo": GREEN,
    "prefix": TEAL,
    "scar": BROWN,
    "vine": OLIVE,
    "random_credit": GREY,
    "ospo estimator/value=random": GREY,
    "shape": ORANGE,
    "shape_loo": GREEN,
    "winner_takes_all": VIOLET,
}
"""Methods that have a name; where one plot shows two of a colour, marks and labels differ."""
ESTIMATOR = ("estimator.", "estimator/")
"""Words that make another method of an estimator."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one method looks in one plot."""

    colour: str
    dashes: str | tuple[int, tuple[int, ...]]
    marker: str


def colour_of(method: str) -> str:
    """The colour of a method, the same in every plot, as ``#rrggbb``.

    Args:
        method: Name of the estimator in ``conf/estimator``, and words of a command line behind it.
            A method without a colour of its own has one that follows from its name.
    """
    name, *words = method.split()
    own = " ".join([name, *(word for word in words if word.startswith(ESTIMATOR))])
    if own in COLOURS:
        return COLOURS[own]
    return PALETTE[blake2b(own.encode(), digest_size=4).digest()[0] % len(PALETTE)]


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """How the methods of one plot look.

    No two share colour and dashes while there are at most eight of a colour, nor a mark while there
    are at most twelve methods.
    """
    found: dict[str, Look] = {}
    of_colour: dict[str, int] = {}
    for number, method in enumerate(dict.fromkeys(methods)):
        colour = colour_of(method)
        same = of_colour.setdefault(colour, 0)
        of_colour[colour] += 1
        dashes, marker = DASHES[same % len(DASHES)], MARKERS[number % len(MARKERS)]
        found[method] = Look(colour=colour, dashes=dashes, marker=marker)
    return found
