"""Train one policy, or a sweep of them: ``python train.py estimator=ospo dataset=esci``."""

import os
import sys

import hydra
from omegaconf import DictConfig

from rlcredit.commands.build import run
from rlcredit.commands.schema import register
from rlcredit.errors import explain

register()


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """One job: its final held-out measure, or None where it failed within a sweep."""
    return run(cfg)


if __name__ == "__main__":
    if os.environ.get("RANK", "0") != "0":  # torchrun's; the first process alone writes files
        sys.argv += [
            "hydra.output_subdir=null",
            "hydra/job_logging=none",
            "hydra/hydra_logging=none",
        ]
    # Hydra then hands errors on instead of printing them, and explain() says them in a sentence.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        main()
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        sys.exit(sentence)
