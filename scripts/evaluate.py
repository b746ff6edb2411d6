"""Score a finished run again: ``python scripts/evaluate.py run=<folder> retriever=lsa``.

The responses are those that the run stored before and after training; the policy does not write
again, and nothing is trained.
"""

import os
import sys

import hydra
from omegaconf import DictConfig

from rlcredit.commands.build import rescore_run
from rlcredit.commands.schema import register
from rlcredit.errors import explain

register()


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """One table."""
    rescore_run(cfg)


if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        main()
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        sys.exit(sentence)
