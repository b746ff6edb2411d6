"""What finished runs wrote, by every retriever: ``python scripts/transfer.py runs=<folder>``.

The responses are those that the runs stored before and after training; nothing is trained and no
policy writes again. Makes a matrix trained-on x tested-on with intervals, and TREC files.
"""

import os
import sys

import hydra
from omegaconf import DictConfig

from rlcredit.commands.build import transfer_runs
from rlcredit.commands.schema import register
from rlcredit.errors import explain

register()


@hydra.main(version_base="1.3", config_path="../conf", config_name="transfer")
def main(cfg: DictConfig) -> None:
    """Print the matrix and say where it lies."""
    print(f"matrix: {transfer_runs(cfg)}")


if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        main()
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        sys.exit(sentence)
