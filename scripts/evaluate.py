"""Score a finished run again: ``python scripts/evaluate.py run=<folder> retriever=lsa``."""

from rlcredit.commands.evaluate import main

if __name__ == "__main__":
    main()
