"""Does the segmenter cut what the task's rules count? Looked at before a run starts."""

from rlcredit.tasks.base import Task
from rlcredit.text.base import Segmenter
from rlcredit.types import Randomness

FEWEST = 0.5
"""Smallest share of segments that must count. On the generated tasks it is 1 for phrases and for
windows of as many words as a phrase may have, 0 for sentences, and .3 for longer windows: the rest
at a response's end, one a response, among which there is no credit to share."""

_NUM_DEMONSTRATIONS = 64


def valid_share(segmenter: Segmenter, task: Task) -> float:
    """Share of the segments of the teacher's demonstrations that count; 0 without segments."""
    counted: list[bool] = []
    for index, prompt in enumerate(task.train[:_NUM_DEMONSTRATIONS]):
        generator = Randomness(seed=0, step=0).generator("players", index)
        response = task.teacher(prompt, generator)
        pieces = [piece.of(response) for piece in task.rules.pieces(response)]
        cut = (span.of(piece) for piece in pieces for span in segmenter(piece))
        counted += map(task.rules.is_valid, cut)
    return sum(counted) / max(1, len(counted))


def refuse_without_players(segmenter: Segmenter, task: Task) -> None:
    """Refuse a segmenter whose segments hardly ever count: credit would go to nobody.

    Raises:
        ValueError: If less than half of the segments of the teacher's demonstrations count.
    """
    share = valid_share(segmenter, task)
    if share < FEWEST:
        name = type(segmenter).__name__.lower()
        raise ValueError(
            f"segmenter={name}: {share:.0%} of the segments that it cuts from the teacher's own "
            f"demonstrations count under the rules of dataset={task.name} (dataset.max_words="
            f"{task.rules.max_words}), and at least {FEWEST:.0%} must: there would be hardly "
            "anybody to give credit to. Take segmenter=phrases, which cuts where these rules do"
        )
