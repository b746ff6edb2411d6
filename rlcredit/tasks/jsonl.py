"""Prompts of one's own in files of one JSON object per line."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any, ClassVar

from rlcredit.identity import ASIDE
from rlcredit.tasks.own_rows import OwnRows
from rlcredit.tasks.published.json_lines import read_lines
from rlcredit.tasks.settings import SPLITS, Source


@dataclass(frozen=True, kw_only=True)
class JSONLines(OwnRows):
    """Prompts in files of one JSON object per line.

    ``path`` is a folder of train.jsonl and, where they are there, validation.jsonl and test.jsonl;
    or one file, which is dealt out by a hash of each prompt.
    """

    name: ClassVar[str] = "jsonl"
    source: ClassVar[Source] = Source.path

    path: str = field(metadata=ASIDE)
    """The folder or the file."""

    def content(self) -> tuple[str, ...]:
        """The hashes of the files."""
        found = []
        for split, file in self._files().items():
            with file.open("rb") as opened:
                digest = file_digest(opened, lambda: blake2b(digest_size=16)).hexdigest()
            found.append(f"{split} {digest}")
        return tuple(found)

    def rows(self) -> Mapping[str, Iterable[tuple[int, Mapping[str, Any]]]]:
        """Number and object of the lines of each file.

        Raises:
            FileNotFoundError: If the folder or a file is missing.
        """
        return {split: read_lines(file) for split, file in self._files().items()}

    def place(self, split: str) -> str:
        """The file of a split."""
        return str(self._files()[split])

    def _files(self) -> dict[str, Path]:
        """Split -> file; "all" where one file is dealt out."""
        place = Path(self.path)
        if place.is_file():
            return {"all": place}
        named = {split: place / f"{split}.jsonl" for split in SPLITS}
        found = {split: file for split, file in named.items() if file.is_file()}
        if "train" not in found:
            raise FileNotFoundError(
                f"there is no {place} (a file) and no {named['train']}; dataset.path is a .jsonl "
                "file, or a folder with train.jsonl"
            )
        return found
