"""Train one policy, or a sweep of them: ``python train.py estimator=ospo dataset=esci``."""

from rlcredit.commands.train import main

if __name__ == "__main__":
    main()
