"""``rlcredit prepare``: freeze a data set.

Takes the words of ``rlcredit train`` that concern the data set. Writes its documents and prompts as
parquet, and a card with filters, counts and hash, to outputs/data/<name>-<source>-<digest>/.
"""

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import DictConfig

from rlcredit.commands.build import allowed_by_command
from rlcredit.commands.components import build
from rlcredit.commands.run_main import run_main
from rlcredit.identity import digest
from rlcredit.tasks import Dataset
from rlcredit.tasks.base import SearchTask, Task, data_identity
from rlcredit.types import Prompt

ROOT = Path("outputs/data")
SPLITS = ("train", "validation", "test")


def prepare(cfg: DictConfig) -> Path:
    """Load and freeze the data set of a config; print what came of it, and return its folder."""
    dataset: Dataset[Task] = build(cfg.dataset, allow=allowed_by_command(cfg))
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
        "fingerprint": digest(data_identity(dataset)),
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


def main() -> None:
    """The command line."""
    run_main(prepare, config_name="prepare")
