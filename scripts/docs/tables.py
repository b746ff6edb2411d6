"""Puts the kept tables of results on the pages that discuss them."""

import re
from pathlib import Path


def result_table(root: Path, name: str) -> str:
    """A kept table without its title, its headings one level down.

    Raises:
        FileNotFoundError: If there is no such table.
    """
    text = (root / "outputs" / "reference" / "tables" / name / "table.md").read_text()
    _, body = text.split("\n", 1)
    return re.sub(r"^#", "##", body, flags=re.MULTILINE).strip()
