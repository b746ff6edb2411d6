"""All tables with their proof: ``make reproduce-tables``."""

import sys

from rlcredit.commands.tables import main

if __name__ == "__main__":
    sys.exit(main())
