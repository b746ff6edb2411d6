"""Evaluations and a task made by hand, for the tests of this folder."""

from tests.evaluations import make_evaluation, task

__all__ = ["make_evaluation", "task"]
