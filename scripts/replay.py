"""Compute the batch again that a run stopped on: ``python scripts/replay.py batch=<folder>``.

The folder is ``failed_batch`` of the run. Prints where the first value that is not finite arises,
in which tensor and for which responses, and how far sampler and trainer are apart.
"""

import os
import sys

import hydra
from omegaconf import DictConfig

from rlcredit.commands.build import replay_refused
from rlcredit.commands.schema import register
from rlcredit.errors import explain

register()


@hydra.main(version_base="1.3", config_path="../conf", config_name="replay")
def main(cfg: DictConfig) -> None:
    """One report."""
    replay_refused(cfg)


if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        main()
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        sys.exit(sentence)
