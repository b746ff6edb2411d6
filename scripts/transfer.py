"""What finished runs wrote, by every retriever: ``python scripts/transfer.py runs=<folder>``."""

from rlcredit.commands.transfer import main

if __name__ == "__main__":
    main()
