"""Every estimator with every loss in worlds where the truth is known: ``make credit-bench``.

A method enters by its YAML in conf/estimator or conf/loss, or in a folder of your own:
``python -m scripts.credit_bench --config-dir my_conf``. Nothing is trained but bandits.
"""

import os
import sys
import time
from pathlib import Path

import hydra
import torch
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from rlcredit.bench.record import write
from rlcredit.bench.run import Methods, bench
from rlcredit.commands.build import build
from rlcredit.commands.schema import register
from rlcredit.errors import explain

register()

CONF = Path(__file__).resolve().parents[1] / "conf"


def methods() -> Methods:
    """What conf/ and the folders beside it hold, composed as train.py composes it."""
    loader = GlobalHydra.instance().config_loader()
    estimators, losses, own = {}, {}, {}
    for name in loader.get_group_options("loss"):
        losses[name] = build(compose("train", overrides=[f"loss={name}"]).loss)
    for name in loader.get_group_options("estimator"):
        cfg = compose("train", overrides=[f"estimator={name}"], return_hydra_config=True)
        estimators[name] = build(cfg.estimator)
        own[name] = str(cfg.hydra.runtime.choices.loss)
    return Methods(estimators=estimators, losses=losses, own=own)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="credit_bench")
def main(cfg: DictConfig) -> None:
    """Measure, write, and say where it is."""
    torch.set_num_threads(1)  # one order of every sum
    start = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - start:6.1f} s  {text}", flush=True)

    found = bench(methods(), build(cfg.settings), chosen=list(cfg.worlds), say=say)
    files = write(found, Path(cfg.out))
    say(
        f"{len(found.entries)} combinations of world, estimator and loss, {len(found.ended)} pairs "
        f"on bandits, {len(found.refused)} refused"
    )
    print(f"credit bench: {files[0]}")


if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        main()
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        sys.exit(sentence)
