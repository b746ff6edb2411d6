"""Freezes a data set: ``python scripts/prepare_data.py dataset=esci dataset.source=path ...``."""

from rlcredit.commands.prepare import main

if __name__ == "__main__":
    main()
