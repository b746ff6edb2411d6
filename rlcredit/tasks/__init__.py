"""Data sets: prompts with what is right for them, and a teacher; generated or as published.

The public dataclasses of this package are its configs; what they load is a ``base.Task``.
"""

from rlcredit.tasks.base import Dataset, Teacher
from rlcredit.tasks.beir import BEIR
from rlcredit.tasks.countdown import Countdown
from rlcredit.tasks.esci import ESCI
from rlcredit.tasks.gsm8k import GSM8K
from rlcredit.tasks.hm import HM
from rlcredit.tasks.hub_rows import HubRows
from rlcredit.tasks.jsonl import JSONLines

__all__ = ["BEIR", "ESCI", "GSM8K", "HM", "Countdown", "Dataset", "HubRows", "JSONLines", "Teacher"]
