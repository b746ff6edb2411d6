"""What stands behind a cell of a table: ``python scripts/explain.py table_search/esci/ospo``."""

import sys

from rlcredit.commands.explain import main

if __name__ == "__main__":
    sys.exit(main())
