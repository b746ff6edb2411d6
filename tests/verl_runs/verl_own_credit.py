"""What the runs of the tests name in reward.reward_kwargs.

Not in a package: verl installs one that is called tests.
"""

import os
import signal
from pathlib import Path

from rlcredit import Credit

ROWS = [
    {"prompt": "a tent for two", "wanted": ["red", "steel"]},
    {"prompt": "a lamp for the office", "wanted": ["quiet", "light"]},
    {"prompt": "a chair", "wanted": ["soft"]},
]


def wanted(texts, rows):
    """How many of a row's words a text has, and a little for each of its letters."""
    return [
        sum(word in text for word in row["wanted"]) + len(set(text)) / 100
        for text, row in zip(texts, rows, strict=True)
    ]


def _first():
    """Whether no process of the run was here before."""
    try:
        (Path(os.environ["RLCREDIT_TEST_KEPT"]) / "died").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def scored(texts, rows):
    """What is wanted; or what RLCREDIT_TEST_REWARD says happens."""
    match os.environ.get("RLCREDIT_TEST_REWARD", ""):
        case "raises":
            raise OSError("the judge is away")
        case "dies" if _first():
            os.kill(os.getpid(), signal.SIGKILL)
    return wanted(texts, rows)


def credit_of(estimator):
    return Credit(reward=scored, estimator=estimator, seed=3)


def row_of(messages, columns):
    wanted_words = columns["extra_info"]["wanted"]
    return {"prompt": messages[-1]["content"], "wanted": [str(word) for word in wanted_words]}
