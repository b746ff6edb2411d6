"""One self-contained HTML page: ``python scripts/report.py run=<folder>``.

The folder is a run's, or one that holds some. Nothing is trained and no policy writes anything.
"""

import os
import sys

import hydra
from omegaconf import DictConfig

from rlcredit.commands.build import report_runs
from rlcredit.commands.schema import register
from rlcredit.errors import explain

register()


@hydra.main(version_base="1.3", config_path="../conf", config_name="report")
def main(cfg: DictConfig) -> None:
    """Write the page and say where it is."""
    print(f"report: {report_runs(cfg)}")


if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        main()
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        sys.exit(sentence)
