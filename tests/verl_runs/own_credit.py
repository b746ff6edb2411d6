"""What the runs of the tests name in reward.reward_kwargs."""

import os
import signal

from rlcredit import Credit
from tests.integrations.world import wanted


def scored(texts, rows):
    """As the other integrations' tests score; or what RLCREDIT_TEST_REWARD says."""
    match os.environ.get("RLCREDIT_TEST_REWARD", ""):
        case "raises":
            raise OSError("the judge is away")
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
    return wanted(texts, rows)


def credit_of(estimator):
    return Credit(reward=scored, estimator=estimator, seed=3)


def row_of(messages, columns):
    wanted_words = columns["extra_info"]["wanted"]
    return {"prompt": messages[-1]["content"], "wanted": [str(word) for word in wanted_words]}
