"""Reads the word lists that lie beside the generators."""

from importlib.resources import files
from typing import TypeVar

import msgspec

VocabularyT = TypeVar("VocabularyT")


def read_vocabulary(name: str, kind: type[VocabularyT]) -> VocabularyT:
    """The word lists of one YAML file of this package, as an instance of a dataclass.

    Raises:
        msgspec.ValidationError: If a list is missing or has another type than its field.
    """
    return msgspec.yaml.decode((files("rlcredit.tasks.generated") / name).read_bytes(), type=kind)
