"""Stages the site's sources: ``python -m scripts.docs <folder>``; Zensical builds it from there."""

import sys
from pathlib import Path

from scripts.docs.stage import stage

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print(f"{len(stage(folder))} pages staged in {folder}")
