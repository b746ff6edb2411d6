"""Credit that is not centred within a response could be won by writing other segments.

One phrase instead of eight, no commas, or phrases too long to count: each showed within 40 steps of
training and in no check of a single step. So methods whose ``centring`` is not ``response`` are
trained for 40 steps, and it is looked at how what they write is cut.
"""

import pytest

from tests.e2e.running import metrics, run

LONG_ENOUGH = (
    "trainer.steps=40",
    "trainer.prompts_per_step=5",
    "trainer.group_size=6",
    "trainer.checkpoint_every=40",
    "evaluation.every=0",
    "evaluation.max_prompts=1",
    "evaluation.samples=1",
)
FIGURES = ("segments/per_response", "segments/valid_share")


def trained(folder, cache, *overrides):
    """How the figures of the last ten of 40 steps compare with the first ten's."""
    run(folder, f"cache={cache}", *LONG_ENOUGH, *overrides)
    lines = metrics(folder)[1:]
    assert len(lines) == 40
    means = [
        [sum(line[name] for line in part) for name in FIGURES] for part in (lines[:10], lines[-10:])
    ]
    return [after / before for before, after in zip(*means, strict=True)]


@pytest.mark.parametrize(
    "base", ["estimator=prefix", pytest.param("estimator=setpo", marks=pytest.mark.slow)]
)
def test_forty_steps_leave_the_segmentation_alone(tmp_path, cache, base):
    wrapped = ("estimator@estimator.base=prefix",) if base == "estimator=setpo" else ()
    assert min(trained(tmp_path, cache, base, *wrapped)) > 0.75


@pytest.mark.slow
def test_the_released_credit_is_won_by_writing_half_as_many_segments(tmp_path, cache):
    """A defect of the release, kept and seen on every seed tried (docs/results)."""
    segments, valid = trained(tmp_path, cache, "estimator=ospo_released")
    assert segments < 0.7
    assert valid > 0.9
