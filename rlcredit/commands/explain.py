"""``rlcredit explain``: what stands behind a cell of a table (``table_search/esci/ospo``).

Prints the runs, commands, configs, code revision, data hash, seeds and raw values of the row on
that data set, or of one column (``table_search/esci/ospo/ndcg``), in every rendered size.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from rlcredit.commands.errors import in_a_sentence
from rlcredit.distributed.environment import refuse_together
from rlcredit.tables.proof import explain_cell


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; always 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="table/data/row, or table/data/row/column")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    chosen = parser.parse_args(arguments)
    with in_a_sentence():
        refuse_together(os.environ, command="rlcredit explain")
        print("\n".join(explain_cell(chosen.outputs, chosen.address)))
    return 0
