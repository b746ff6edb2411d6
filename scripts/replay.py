"""Compute the batch again that a run stopped on: ``python scripts/replay.py batch=<folder>``."""

from rlcredit.commands.replay import main

if __name__ == "__main__":
    main()
