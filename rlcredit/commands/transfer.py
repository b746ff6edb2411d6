"""``rlcredit transfer``: what finished runs wrote, scored by every retriever.

The responses are those that the runs stored before and after training; nothing is trained and no
policy writes again. Makes a matrix trained-on x tested-on with intervals, and TREC files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from rlcredit.commands.build import allowed_by_command, retriever_configs, saved_part
from rlcredit.commands.components import build
from rlcredit.commands.digests import settings_digest
from rlcredit.commands.run_main import run_main
from rlcredit.commands.saved import saved_config
from rlcredit.report.runs import find_runs
from rlcredit.report.transfer_scores import FinishedRun, transfer


@dataclass
class TransferConfig:
    """The root of ``conf/transfer.yaml``."""

    runs: Any = MISSING
    """Folders of finished runs, or folders that hold some: one, or a list."""
    retrievers: list[str] = field(default_factory=lambda: ["bm25", "tfidf", "lsa", "minilm"])
    """Names in conf/retriever; those that the runs were trained on are always among the columns."""
    out: str = "outputs/transfer"
    """Folder of the table."""
    cache: str = "outputs/cache"
    """Folder for what can be made again."""
    allow: list[str] = field(default_factory=list)
    """Packages from outside whose components are used; given on the command line alone."""


ConfigStore.instance().store(name="transfer_schema", node=TransferConfig)


def transfer_runs(cfg: DictConfig) -> Path:
    """Write the matrix of ``conf/transfer.yaml``; print and return where it lies."""
    asked = [cfg.runs] if isinstance(cfg.runs, str) else list(cfg.runs)
    found, _ = find_runs([Path(folder) for folder in asked])
    allow = allowed_by_command(cfg)
    matrix = transfer(
        [_finished(run.folder, allow) for run in found],
        retrievers={
            name: build(node, allow=allow)
            for name, node in retriever_configs(cfg.retrievers).items()
        },
        out=Path(cfg.out),
        cache=Path(cfg.cache),
    )
    print(f"matrix: {matrix}")
    return matrix


def _finished(folder: Path, allow: Sequence[str]) -> FinishedRun:
    saved = saved_config(folder, allow=allow)
    names = ("retriever", "dataset", "reward")
    parts = {name: saved_part(saved[name], allow=allow) for name in names}
    settings = settings_digest(saved, allow=allow)
    return FinishedRun.read(folder, settings=settings, seed=saved.seed, **parts)


def main() -> None:
    """The command line."""
    run_main(transfer_runs, config_name="transfer")
