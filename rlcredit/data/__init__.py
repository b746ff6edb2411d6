"""Data sets: a catalogue, prompts with judgements, and a teacher; generated or as published.

The public dataclasses of this package are its configs; what they load is ``base.SearchTask``.
"""

from rlcredit.data.base import Dataset, Teacher
from rlcredit.data.esci import ESCI
from rlcredit.data.hm import HM

__all__ = ["ESCI", "HM", "Dataset", "Teacher"]
