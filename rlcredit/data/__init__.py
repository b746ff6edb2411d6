"""Data sets: a catalogue, prompts with judgements, and a teacher; generated or as published."""

from rlcredit.data.base import Dataset, SearchTask, Teacher
from rlcredit.data.esci import ESCI
from rlcredit.data.hm import HM

__all__ = ["ESCI", "HM", "Dataset", "SearchTask", "Teacher"]
