"""Data sets: prompts with what is right for them, and a teacher; generated or as published.

The public dataclasses of this package are its configs; what they load is a ``base.Task``.
"""

from rlcredit.data.base import Dataset, Teacher
from rlcredit.data.countdown import Countdown
from rlcredit.data.esci import ESCI
from rlcredit.data.gsm8k import GSM8K
from rlcredit.data.hm import HM

__all__ = ["ESCI", "GSM8K", "HM", "Countdown", "Dataset", "Teacher"]
