"""Prompts of one's own on the Hugging Face hub, or in files that ``datasets`` reads."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from rlcredit.tasks.own_rows import OwnRows
from rlcredit.tasks.published.hub import hub_records
from rlcredit.tasks.settings import Source


@dataclass(frozen=True, kw_only=True)
class SplitNames:
    """What the data set calls the three splits; only the first must be there."""

    train: str = "train"
    """Name of the training split."""
    validation: str = "validation"
    """Name of the validation split; where there is none, a part of the training split is it."""
    test: str = "test"
    """Name of the test split; where there is none, a part of the training split is it."""


@dataclass(frozen=True, kw_only=True)
class HubRows(OwnRows):
    """Prompts in any data set that ``datasets.load_dataset`` finds, columns and splits by name.

    Where the set has no validation or test split, a hash of each prompt deals them out of train.
    """

    name: ClassVar[str] = "hub"
    source: ClassVar[Source] = Source.hub

    hub_name: str
    """Name on the hub, or a local folder of parquet, JSON or CSV files."""
    part: str | None = None
    """Configuration on the hub; None: the only one."""
    revision: str | None = None
    """Commit on the hub; None: the newest."""
    splits: SplitNames = field(default_factory=SplitNames)

    def content(self) -> tuple[str, ...]:
        """Nothing: a commit is a setting, and what was read enters the data's own digest."""
        return ()

    def rows(self) -> Mapping[str, Iterable[tuple[int, Mapping[str, Any]]]]:
        """Number and columns of the rows of each split that is there.

        Raises:
            ConnectionError: If the hub cannot be reached and its cache does not hold the set.
            ValueError: If a split is missing.
        """
        found = hub_records(self.hub_name, part=self.part, revision=self.revision)
        given: dict[str, Iterable[tuple[int, Mapping[str, Any]]]] = {}
        for split in fields(SplitNames):
            wanted = getattr(self.splits, split.name)
            if wanted in found:
                given[split.name] = found[wanted]
            elif split.name == "train" or wanted != split.default:
                raise ValueError(
                    f"{self.hub_name} has no split {wanted!r}; it has {', '.join(found)}. Set "
                    f"dataset.splits.{split.name} to one of these"
                )
        return given

    def place(self, split: str) -> str:
        """The data set and its name of the split."""
        return f"{self.hub_name} ({getattr(self.splits, split)})"
