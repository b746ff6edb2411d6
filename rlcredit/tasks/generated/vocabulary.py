"""Reads the word lists that lie beside the generators."""

from importlib.resources import files
from typing import TypeVar

import msgspec
import yaml

VocabularyT = TypeVar("VocabularyT")


def read_vocabulary(name: str, kind: type[VocabularyT]) -> VocabularyT:
    """The word lists of one YAML file of this package, as an instance of a dataclass.

    Raises:
        msgspec.ValidationError: If a list is missing or has another type than its field.
    """
    text = (files("rlcredit.tasks.generated") / name).read_text(encoding="utf-8")
    return msgspec.convert(yaml.safe_load(text), kind)
