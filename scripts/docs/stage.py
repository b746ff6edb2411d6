"""Copies the pages of the site into one folder and fills in what is made from the code.

The folder has the layout of the repository, so a relative link leads to the same place on the site
and in a checkout. A page says where something is made, and what readers of a checkout see instead:

    <!-- made: settings loss -->
    `make docs` puts a table here.
    <!-- end -->
"""

import re
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from scripts.docs import methods, settings
from scripts.docs.picture import credit_figure
from scripts.docs.tables import result_table

ROOT = Path(__file__).parents[2]
CONFIG = "zensical.toml"
FOLDERS = ("docs", "examples", "outputs/reference")
FILES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CITATION.cff", "LICENSE")
LEFT_OUT = {"__pycache__", "jobs"}
"""Folders that no page links to: caches, and the kept records behind the tables (10 MB)."""

MAKERS: Mapping[str, Callable[..., str]] = {
    "estimators": methods.estimators,
    "losses": methods.losses,
    "values": methods.values,
    "constructions": methods.constructions,
    "credit": credit_figure,
    "settings": settings.group,
    "command": settings.command,
    "evaluation": settings.evaluation,
    "table": partial(result_table, ROOT),
}
"""What a page may ask for: the first word behind ``made:``; further words are its arguments."""

_MARKS = re.compile(r"\[([a-z])\](?= \[[a-z]\])")
"""A mark of a table in front of another one, which Markdown takes for a link to it."""
_MADE = re.compile(r"<!-- made: (.+?) -->\n.*?<!-- end -->", re.DOTALL)


def filled(page: str) -> str:
    """A page with everything made that it asks for.

    Raises:
        ValueError: If it asks for something that nothing makes.
    """
    made = _MADE.sub(lambda found: _made(*found[1].split()), page)
    return _MARKS.sub(r"\\[\1\\]", made)


def _made(maker: str, *words: str) -> str:
    if maker not in MAKERS:
        raise ValueError(f"a page asks for {maker!r}; what can be made is {', '.join(MAKERS)}")
    return MAKERS[maker](*words)


def sources() -> list[Path]:
    """Every file of the site, relative to the repository."""
    found = [Path(name) for name in FILES]
    for folder in FOLDERS:
        inside = (path.relative_to(ROOT) for path in sorted((ROOT / folder).rglob("*")))
        found += [path for path in inside if not LEFT_OUT & set(path.parts)]
    return [path for path in found if (ROOT / path).is_file() and path.name != CONFIG]


def stage(folder: Path) -> list[Path]:
    """Write the configuration and the pages; give the pages."""
    pages = folder / "pages"
    shutil.rmtree(pages, ignore_errors=True)
    for path in sources():
        target = pages / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            target.write_text(filled((ROOT / path).read_text()))
        else:
            shutil.copyfile(ROOT / path, target)
    shutil.copyfile(ROOT / "docs" / CONFIG, folder / CONFIG)
    return sorted(pages.rglob("*.md"))
