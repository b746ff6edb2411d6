"""One self-contained HTML page: ``python scripts/report.py run=<folder>``."""

from rlcredit.commands.report import main

if __name__ == "__main__":
    main()
