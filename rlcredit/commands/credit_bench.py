"""``rlcredit credit-bench``: every estimator with every loss where the truth is known.

A method enters by its YAML in conf/estimator or conf/loss, or in a folder of your own
(``--config-dir my_conf``). Nothing is trained but bandits.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import MISSING, DictConfig

from rlcredit.bench.figures import draw_figures
from rlcredit.bench.kept import BenchRecord
from rlcredit.bench.record import write
from rlcredit.bench.run import Methods, Settings, bench
from rlcredit.commands.build import allowed_by_command, estimator_config
from rlcredit.commands.components import build
from rlcredit.commands.run_main import run_main
from rlcredit.commands.schema import schema


@dataclass
class CreditBenchConfig:
    """The root of ``conf/credit_bench.yaml``."""

    out: str = "outputs/credit_bench"
    """Folder of the results."""
    worlds: list[str] = field(default_factory=list)
    """Names in rlcredit/bench/worlds.py; none: all of them, and the bandits."""
    render_only: bool = False
    """Draw the pictures again from the record that lies there, and measure nothing."""
    settings: Any = MISSING
    """Replicates, groups and steps; a dataclass of rlcredit/bench/run.py."""
    allow: list[str] = field(default_factory=list)
    """Packages from outside whose components are used; given on the command line alone."""


ConfigStore.instance().store(
    name="credit_bench_schema", node=CreditBenchConfig(settings=schema(Settings)())
)


def methods(allow: Sequence[str]) -> Methods:
    """What conf/ and the folders beside it hold, beside what train.py chooses by default."""
    loader = GlobalHydra.instance().config_loader()
    names = loader.get_group_options("loss")
    beside = ("+reward=ndcg", "+rollout=hf")
    mounted = compose("parts", [*beside, *(f"+loss@losses.{name}={name}" for name in names)])
    losses = {name: build(mounted.losses[name], allow=allow) for name in names}
    estimators, own = {}, {}
    for name in loader.get_group_options("estimator"):
        config, own[name] = estimator_config(name)
        estimators[name] = build(config, allow=allow)
    return Methods(estimators=estimators, losses=losses, own=own)


def measure(cfg: DictConfig) -> None:
    """Measure, write, and say where it is; or draw again what was measured."""
    if cfg.render_only:
        folder = Path(cfg.out)
        print(f"credit bench: {', '.join(draw_figures(BenchRecord.read(folder), folder))}")
        return
    torch.set_num_threads(1)  # one order of every sum
    start = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - start:6.1f} s  {text}", flush=True)

    known = methods(allowed_by_command(cfg))
    found = bench(known, build(cfg.settings), chosen=list(cfg.worlds), say=say)
    files = write(found, Path(cfg.out))
    say(
        f"{len(found.entries)} combinations of world, estimator and loss, {len(found.bandits)} "
        f"pairs on bandits, {len(found.refused)} refused"
    )
    print(f"credit bench: {files[0]}")


def main() -> None:
    """The command line."""
    run_main(measure, config_name="credit_bench")
