"""What a data set is: prompts in three disjoint splits, a teacher, and documents to search."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from typing_extensions import TypeVar

from rlcredit.identity import NUMERICS, identify
from rlcredit.retrieval.base import Documents
from rlcredit.text.response import TextRules
from rlcredit.text.words import is_word
from rlcredit.types import Prompt


@runtime_checkable
class Teacher(Protocol):
    """Writes demonstrations, from which a policy made from scratch learns the format."""

    def __call__(self, prompt: Prompt, generator: torch.Generator) -> str:
        """One response to a training prompt. Knows train-side material only."""
        ...


@dataclass(frozen=True, kw_only=True)
class Task:
    """A loaded data set. Train, validation and test share no query (nor customer, nor problem)."""

    name: str
    source: str
    """generated, path or hub; every header and table says it."""
    train: tuple[Prompt, ...]
    validation: tuple[Prompt, ...]
    test: tuple[Prompt, ...]
    rules: TextRules
    """Which part of a response is rewarded."""
    teacher: Teacher
    counts: Mapping[str, int] = field(default_factory=dict)
    """What was read, dropped and kept, and why; printed in the header."""
    digest: str
    """Hash of the prompts, the rules, and the documents where there are some."""

    def vocabulary(self) -> Iterator[str]:
        """Texts of the training side whose words a policy may need, besides prompts and answers."""
        return iter(())

    def searched(self) -> "SearchTask":
        """The task with its documents.

        Raises:
            ValueError: If there is nothing to search.
        """
        raise ValueError(
            f"dataset={self.name} has no documents, so there is nothing to search, to rank or to "
            "prepare; its answers are verified: leave reward=verifier, which comes with it"
        )


@dataclass(frozen=True, kw_only=True)
class SearchTask(Task):
    """A task of finding documents.

    Raises:
        ValueError: If a prompt's id is not one word.
    """

    documents: Documents
    hidden: frozenset[str] = frozenset()
    """Documents that nothing made from the training side may read: published ones that are relevant
    to a held-out prompt."""

    def __post_init__(self) -> None:
        """Check the ids of the prompts."""
        for prompt in (*self.train, *self.validation, *self.test):
            if not is_word(prompt.prompt_id):
                raise ValueError(
                    f"prompt id {prompt.prompt_id!r} of {self.name} holds white space or nothing, "
                    "which files of judgements cannot say; give prompts ids of one word"
                )

    def vocabulary(self) -> Iterator[str]:
        """The documents relevant to training prompts, but for the hidden ones."""
        relevant = {document for prompt in self.train for document in prompt.relevant} - self.hidden
        for document, text in zip(self.documents.ids, self.documents.texts, strict=True):
            if document in relevant:
                yield text

    def searched(self) -> "SearchTask":
        """Return the task itself."""
        return self


TaskT_co = TypeVar("TaskT_co", bound=Task, covariant=True, default=SearchTask)


@runtime_checkable
class Dataset(Protocol[TaskT_co]):
    """A data set's settings, and how to load it. ``Dataset`` alone is one of search."""

    @property
    def candidates(self) -> int:
        """K, where each response offers several search texts; 0 where it is one."""
        ...

    def content(self) -> tuple[str, ...]:
        """What the loaded set depends on besides its settings: hashes of files, versions."""
        ...

    @property
    def reading(self) -> int:
        """Version of how texts are read, 1 at first: raised when numbers move without a setting."""
        ...

    def load(self) -> TaskT_co:
        """Read or generate the set. ValueError or FileNotFoundError with the remedy."""
        ...


def data_identity(dataset: Dataset[Task]) -> dict[str, Any]:
    """What a data set is, without loading it: its settings and its content, not where it lies.

    The way of reading enters as ``numerics``, from 2 on: a run on texts that were read otherwise is
    found by a table, and marked there.

    Raises:
        FileNotFoundError: If a file of the set is missing.
    """
    read = {} if dataset.reading == 1 else {NUMERICS: dataset.reading}
    return identify(dataset) | {"content": list(dataset.content())} | read
