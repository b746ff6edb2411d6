"""A Jinja template that makes a prompt of a row's columns, in a sandbox."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

# What a template reads comes from a file that anybody wrote: it is put in as text and never read as
# a template. The template itself is the command's, and still cannot reach beyond the row's values.
_SANDBOX = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
)


@dataclass(frozen=True, kw_only=True)
class Template:
    """A template that was read."""

    text: str
    _compiled: Any

    @classmethod
    def of(cls, text: str) -> "Template":
        """Read a template.

        Raises:
            ValueError: If it is none.
        """
        try:
            return cls(text=text, _compiled=_SANDBOX.from_string(text))
        except TemplateError as error:
            raise ValueError(
                f"dataset.template={text!r} is no Jinja template: {error}; a column is written "
                "{{ question }}"
            ) from error

    def __call__(self, row: Mapping[str, Any], where: str) -> str:
        """The prompt of a row.

        Raises:
            ValueError: If the template raises on the row, or makes an empty prompt of it.
        """
        try:
            made = self._compiled.render(dict(row))
        except Exception as error:  # what a template calls on a value may raise anything
            raise ValueError(
                f"{where}: dataset.template raised {type(error).__name__}: {error}; the row has "
                f"the columns {', '.join(map(str, row)) or '(none)'}"
            ) from error
        if not made.strip():
            raise ValueError(
                f"{where}: dataset.template makes an empty prompt; a policy needs something to read"
            )
        return made
