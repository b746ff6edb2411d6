"""What an integration relies on in another package, compared with what that package has today."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Methods of one class of another package, by their parameters and by lines they must hold."""

    package: str
    """As ``pip`` calls it."""
    versions: str
    """For which the contract was seen to hold."""
    parameters: Mapping[str, Sequence[str]]
    """Method -> the names of its parameters, in order."""
    lines: Mapping[str, Sequence[str]]
    """Method -> texts that its source holds."""

    def check(self, cls: type, version: str) -> None:
        """Compare a class with the contract.

        Raises:
            ImportError: With what has moved.
        """
        moved = [
            *(self._parameters_of(cls, name) for name in self.parameters),
            *(self._line_of(cls, name, line) for name, own in self.lines.items() for line in own),
        ]
        moved = [what for what in moved if what]
        if moved:
            raise ImportError(
                f"{self.package} {version} is not the {self.package} that this integration knows "
                f"({self.versions}): {'; '.join(moved)}. Install one of these versions"
            )

    def _parameters_of(self, cls: type, name: str) -> str:
        wanted = list(self.parameters[name])
        method = _method(cls, name)
        if method is None:
            return f"{cls.__name__} has no {name}"
        found = list(inspect.signature(method).parameters)
        return "" if found == wanted else f"{cls.__name__}.{name} takes {found}, not {wanted}"

    def _line_of(self, cls: type, name: str, line: str) -> str:
        method = _method(cls, name)
        if method is not None and line in inspect.getsource(method):
            return ""
        return f"{cls.__name__}.{name} no longer says {line!r}"


def _method(cls: type, name: str) -> Callable[..., Any] | None:
    found = getattr(cls, name, None)
    return None if found is None else inspect.unwrap(found)
