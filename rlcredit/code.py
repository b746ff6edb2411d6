"""A function from outside this package, by its import path or at hand, and its code's version."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Code:
    """A function from outside this package."""

    path: str
    """``my_pkg.rewards:score``."""
    function: Callable[..., Any]
    version: str | None
    """Its attribute ``version``, else the SHA-256 of the source of its module; None: it has
    neither. What the module imports is not in the hash: give a ``version`` and raise it when that
    changes."""
    file: str | None
    """File of the source; None where there is none."""

    @classmethod
    def of(cls, path: str, *, setting: str = "reward.path") -> "Code":
        """Import a function. Its package's code runs: ask for paths that a person gave.

        Args:
            path: Module and name: ``my_pkg.rewards:score``.
            setting: What a sentence calls the path.

        Raises:
            ValueError: If the path has another form, cannot be imported, names nothing that can be
                called, or has a version that is neither a text nor a whole number.
        """
        module, _, name = path.partition(":")
        if not (all(map(str.isidentifier, module.split("."))) and name.isidentifier()):
            raise ValueError(
                f"{setting}={path} names no function; give the module and the function's name, "
                "such as my_pkg.rewards:score"
            )
        try:
            function = getattr(import_module(module), name)
        except Exception as error:  # a module's own code may raise anything
            raise ValueError(
                f"{setting}={path} cannot be imported ({type(error).__name__}: {error}); is it "
                "on PYTHONPATH?"
            ) from error
        if not callable(function) or isinstance(function, type):
            raise ValueError(
                f"{setting}={path} is a {type(function).__name__}, which is no function; name one, "
                "or an object with __call__"
            )
        return cls(
            path=path,
            function=function,
            version=_version(path, module, function),
            file=_file(module),
        )

    @classmethod
    def at_hand(cls, function: Callable[..., Any]) -> "Code":
        """A function, or an object that can be called, as a program or a notebook has it.

        Raises:
            ValueError: If its version is neither a text nor a whole number.
        """
        named = function if hasattr(function, "__qualname__") else type(function)
        path = f"{named.__module__}:{named.__qualname__}"
        version = _version(path, named.__module__, function)
        return cls(path=path, function=function, version=version, file=_file(named.__module__))


def _file(module: str) -> str | None:
    return vars(sys.modules[module]).get("__file__") if module in sys.modules else None


def _version(path: str, module: str, function: Callable[..., Any]) -> str | None:
    """The version of a function, by its own word or by the source it stands in."""
    own = getattr(function, "version", None)
    if isinstance(own, str | int) and not isinstance(own, bool):
        return str(own)
    if own is not None:
        raise ValueError(
            f"{path} has version={own!r}; a version is a text or a whole number, such as '2'"
        )
    modules = dict.fromkeys((module, getattr(function, "__module__", module)))
    try:
        sources = [inspect.getsource(sys.modules[name]) for name in modules]
    except (OSError, TypeError, KeyError):
        return None
    return sha256("\0".join(sources).encode()).hexdigest()
