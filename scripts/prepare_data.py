"""Freezes a data set: its documents and prompts as parquet, and a card with filters, counts, hash.

    python scripts/prepare_data.py dataset=esci dataset.source=path dataset.path=<folder>

takes the words of train.py that concern the data set, and writes to
outputs/data/<name>-<source>-<digest>/.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from rlcredit.commands.schema import register
from rlcredit.data import Dataset
from rlcredit.data.base import SearchTask, Task
from rlcredit.types import Prompt

CONF = Path(__file__).resolve().parents[1] / "conf"
ROOT = Path("outputs/data")
SPLITS = ("train", "validation", "test")


def main(overrides: Sequence[str]) -> Path:
    """Load the data set that the overrides describe, freeze it, and say what came of it."""
    register()
    with initialize_config_dir(config_dir=str(CONF), version_base=None):
        config = compose("train", overrides=list(overrides))
    dataset: Dataset[Task] = instantiate(config.dataset, _convert_="all")
    task = dataset.load().searched()
    folder = freeze(task, dataset, ROOT)
    for what, count in task.counts.items():
        print(f"{count:>9,}  {what}")
    for split in SPLITS:
        print(f"{len(getattr(task, split)):>9,}  {split} prompts")
    print(f"data: {task.source}, {task.name}, content hash {task.digest}\n{folder}")
    return folder


def freeze(task: SearchTask, dataset: Dataset[Task], root: Path) -> Path:
    """Write documents.parquet, prompts.parquet and card.json to a folder named by the content."""
    folder = root / f"{task.name}-{task.source}-{task.digest[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    documents = {"document_id": task.documents.ids, "text": task.documents.texts}
    pq.write_table(pa.table(documents), folder / "documents.parquet")
    rows = [_row(split, prompt) for split in SPLITS for prompt in getattr(task, split)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "prompts.parquet")
    card = {
        "name": task.name,
        "source": task.source,
        "digest": task.digest,
        "settings": dataclasses.asdict(dataset),  # pyright: ignore[reportArgumentType]
        "fingerprint": dataset.fingerprint(),
        "rules": dataclasses.asdict(task.rules),
        "counts": dict(task.counts),
        "prompts": {split: len(getattr(task, split)) for split in SPLITS},
        "documents": len(task.documents.ids),
    }
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    return folder


def _row(split: str, prompt: Prompt) -> dict[str, object]:
    return {
        "split": split,
        "prompt_id": prompt.prompt_id,
        "text": prompt.text,
        "query": prompt.query,
        "instruction": prompt.instruction,
        "relevance": json.dumps(dict(prompt.relevance)),
        "pool": list(prompt.pool),
        "truth": json.dumps(dict(prompt.truth)),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
