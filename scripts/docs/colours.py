"""One colour for each method, wherever it is drawn."""

from rlcredit.scoring.named import CANDIDATES, ESTIMATORS

_DRAWN_FIRST = {
    "grpo": "#56B4E9",
    "ospo": "#0072B2",
    "loo": "#009E73",
    "random_credit": "#999999",
    "prefix": "#CC79A7",
    "rloo": "#E69F00",
}
"""Of Okabe and Ito's palette, which is told apart without colour vision."""
_OTHERS = ("#D55E00", "#117733", "#882255", "#332288", "#AA4499", "#44AA99")


def colour_of(method: str) -> str:
    """The colour of a method's public name, as ``#RRGGBB``."""
    if method in _DRAWN_FIRST:
        return _DRAWN_FIRST[method]
    others = [name for name in sorted({*ESTIMATORS, *CANDIDATES}) if name not in _DRAWN_FIRST]
    place = others.index(method) if method in others else len(method)
    return _OTHERS[place % len(_OTHERS)]
