"""What a run is: public names and values, never import paths. The hash of that is its digest.

A component enters as its public name with its settings, the components within it likewise:

    {"class": "OSPO", "value": {"class": "Myerson", "max_width": 8}, "eps": 0.0001}

Four rules keep digests as they are while the code changes:

- The *public name* of a class is its own name; a class that is renamed keeps the old one in
  ``public_name: ClassVar[str]``. Where a class lies does not matter. A class from outside this
  package is named by its import path.
- A setting that changes no number (a path, a cache, the number of processes) has
  :data:`ASIDE` as its field's metadata and never enters.
- A setting that is younger than the digests is left out at the value that it had before it
  existed (:data:`BEFORE`), never at today's default.
- A class whose numbers change without a setting (another tokenizer, normalisation, tolerance)
  raises its ``numerics: ClassVar[int]``, which enters from 2 on.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from enum import Enum
from hashlib import blake2b
from typing import Any, Protocol, runtime_checkable

CLASS, NUMERICS, TARGET = "class", "numerics", "_target_"
PACKAGE = "rlcredit"

BEFORE: Mapping[str, Mapping[str, object]] = {
    "BM25": {"k3": None},
    "ClippedSurrogate": {
        "decay": None,
        "kl_weighted": False,
        "traced_share": None,
        "unit_weights": False,
    },
    "Countdown": {"instruction": None},
    "ESCI": {
        "ambiguous_share": 0.0,
        "instruction": None,
        "known_words": False,
        "new_words": False,
        "size": None,
        "void_overlong": False,
    },
    "GSM8K": {"instruction": None},
    "HF": {  # without a date: that of the day
        "date": None,
        "stop_tokens": [],
        "package": None,
        "warm_start": {
            CLASS: "WarmStart",
            "steps": 0,
            "batch_size": 32,
            "lr": 2e-5,
            "num_warmup_steps": 20,
            "final_lr": 0.1,
            "max_grad_norm": 1.0,
        },
    },
    "HFRollout": {"dtype": None},
    "HM": {
        "instruction": None,
        "known_words": False,
        "new_words": False,
        "void_overlong": False,
    },
    "JSONLines": {"template": None},
    "LPO": {"kl_coef": 0.0, "kl": "k3", "kl_weighted": False},
    "LSA": {"k3": None},
    "Ranking": {"shortcut": None, "unknown_cost": 0.0, "word_cost": 0.0},  # it came, and is gone
    "TFIDF": {"k3": None},
    "Tiny": {"alphabet": "bytes"},
    "TrainerSettings": {
        "autocast": False,
        "compute_dtype": None,
        "mismatch": {CLASS: "Mismatch"},
        "resample_equal_groups": 0,
    },
    "Mismatch": {"correction": None, "unit": "token", "max_weight": 2.0},
}
"""Public name -> setting -> what it meant before it existed. A line is never changed, even where
the setting's default is; a new setting of a class that enters digests needs a line."""

ASIDE: Mapping[str, bool] = {"aside": True}
"""Metadata of a dataclass field that changes no number of a run, and so is no part of it."""


CODE: Mapping[str, bool] = {"code": True}
"""Metadata of a dataclass field that holds the import path of code from outside this package
(``my_pkg.rewards:score``): a config may give it where the command line allows its package."""


@runtime_checkable
class Versioned(Protocol):
    """A component whose numbers depend on more than its settings: on code, or on weights.

    A class that has this method is known in a run's digest, and in the cache, by its settings and
    by what the method returns.
    """

    def content(self) -> tuple[str, ...]:
        """Hashes or versions of what the component reads. ValueError with the remedy."""
        ...


def public_name(cls: type) -> str:
    """How a class is called in identities, wherever it lies."""
    if cls.__module__.split(".")[0] != PACKAGE:
        return f"{cls.__module__}.{cls.__qualname__}"
    return cls.__dict__.get("public_name", cls.__name__)


def target(cls: type) -> str:
    """What a config says for a class: ``rlcredit.OSPO``, or an import path from outside."""
    name = public_name(cls)
    return name if "." in name else f"{PACKAGE}.{name}"


def _no_class(named: str) -> type:
    raise TypeError(f"{named}: a component was expected, not the config of one")


def identify(node: object, find: Callable[[str], type] = _no_class) -> Any:
    """The identity of a component's config, or of any value within one, as plain JSON values.

    Args:
        node: A component, or plain containers in which a mapping with ``_target_`` is one.
        find: The class that a ``_target_`` means.
    """
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        settings = {f.name: getattr(node, f.name) for f in dataclasses.fields(node) if f.init}
        return _component(type(node), settings, find)
    if isinstance(node, Mapping):
        if TARGET in node:
            return _component(find(str(node[TARGET])), node, find)
        return {str(key): identify(value, find) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [identify(value, find) for value in node]
    return node.value if isinstance(node, Enum) else node


def _component(
    cls: type, node: Mapping[Any, object], find: Callable[[str], type]
) -> dict[str, Any]:
    name, numerics = public_name(cls), getattr(cls, NUMERICS, 1)
    before = BEFORE.get(name, {})
    passed_over = {f.name for f in dataclasses.fields(cls) if f.metadata.get("aside")} | {TARGET}
    identity: dict[str, Any] = {CLASS: name} | ({} if numerics == 1 else {NUMERICS: numerics})
    for key, value in (_defaults(cls, known=before) | dict(node)).items():
        if key in passed_over:
            continue
        known = identify(value, find)
        if key not in before or known != before[key]:
            identity[str(key)] = known
    return identity


def _defaults(cls: type, *, known: Mapping[str, object]) -> dict[Any, Any]:
    """What a config that leaves a setting open means; the younger ones are known without it."""
    defaults: dict[Any, Any] = {}
    for f in (f for f in dataclasses.fields(cls) if f.init and f.name not in known):
        if f.default is not dataclasses.MISSING:
            defaults[f.name] = f.default
        elif f.default_factory is not dataclasses.MISSING:
            defaults[f.name] = f.default_factory()
    return defaults


def without_numerics(identity: Any) -> Any:
    """An identity as it would be if no component's numbers had ever changed.

    Two runs that agree in this and not in their digests were asked for the same, of versions that
    compute it differently.
    """
    if isinstance(identity, Mapping):
        skipped = {NUMERICS} if CLASS in identity else set()
        return {
            key: without_numerics(value) for key, value in identity.items() if key not in skipped
        }
    if isinstance(identity, list | tuple):
        return [without_numerics(value) for value in identity]
    return identity


def numerics_of(identity: Any, place: str = "") -> dict[str, int]:
    """The ``numerics`` above 1 in an identity, by the place of the component: ``{"policy": 3}``."""
    if isinstance(identity, list | tuple):
        identity = dict(enumerate(identity))
    if not isinstance(identity, Mapping):
        return {}
    found = {place: identity[NUMERICS]} if CLASS in identity and NUMERICS in identity else {}
    for key, value in identity.items():
        found |= numerics_of(value, f"{place}.{key}".lstrip("."))
    return found


def digest(identity: Any) -> str:
    """The hash of an identity: 32 hexadecimal digits, the same on every machine.

    Raises:
        TypeError: If the identity holds anything but JSON values.
        ValueError: If a number in it is not finite.
    """
    text = json.dumps(identity, sort_keys=True, allow_nan=False)
    return blake2b(text.encode(), digest_size=16).hexdigest()
