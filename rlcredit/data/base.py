"""What a data set is: a catalogue, prompts in three disjoint splits, and a teacher."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch

from rlcredit.retrieval.base import Documents
from rlcredit.text.response import TextRules
from rlcredit.types import Prompt


@runtime_checkable
class Teacher(Protocol):
    """Writes demonstrations, from which a policy made from scratch learns the format."""

    def __call__(self, prompt: Prompt, generator: torch.Generator) -> str:
        """One response to a training prompt. Knows train-side material only."""
        ...


@dataclass(frozen=True, kw_only=True)
class SearchTask:
    """A loaded data set. Train, validation and test share no query (nor customer, nor pair)."""

    name: str
    source: str
    """generated, path or hub; every header and table says it."""
    documents: Documents
    train: tuple[Prompt, ...]
    validation: tuple[Prompt, ...]
    test: tuple[Prompt, ...]
    rules: TextRules
    """Which part of a response is searched with."""
    teacher: Teacher
    hidden: frozenset[str] = frozenset()
    """Documents that nothing made from the training side may read: published ones that are relevant
    to a held-out prompt."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What was read, dropped and kept, and why; printed in the header."""
    digest: str
    """Hash of the documents, the prompts and the rules."""


@runtime_checkable
class Dataset(Protocol):
    """A data set's settings, and how to load it."""

    @property
    def candidates(self) -> int:
        """K, where each response offers several search texts; 0 where it is one."""
        ...

    def fingerprint(self) -> str:
        """Hash of what the loaded set depends on (settings, source files), without loading it."""
        ...

    def load(self) -> SearchTask:
        """Read or generate the set. ValueError or FileNotFoundError with the remedy."""
        ...
