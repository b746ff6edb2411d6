"""Credit of candidates could be won by listing one; the exact-K rule is the guard. Does it hold?

Without the rule a prototype listed one candidate within 40 steps; see test_no_gaming_segments.py.
"""

import pytest

from tests.e2e.running import metrics, run

LONG_ENOUGH = (
    "dataset.candidates=2",
    "rollout.max_new_tokens=40",
    "trainer.steps=40",
    "trainer.prompts_per_step=4",
    "trainer.group_size=6",
    "trainer.checkpoint_every=40",
    "evaluation.every=0",
    "evaluation.max_prompts=1",
    "evaluation.samples=1",
)


@pytest.mark.parametrize(
    "estimator",
    [
        "shape",
        *(pytest.param(e, marks=pytest.mark.slow) for e in ("shape_loo", "winner_takes_all")),
    ],
)
def test_forty_steps_leave_the_number_of_candidates_alone(tmp_path, cache, estimator):
    run(tmp_path, f"cache={cache}", f"estimator={estimator}", *LONG_ENOUGH)
    lines = metrics(tmp_path)[1:]
    assert len(lines) == 40
    first, last = lines[:10], lines[-10:]
    figures = ("candidates/per_response", "candidates/complete_share", "segments/valid_share")
    for figure in figures:
        before, after = (sum(line[figure] for line in part) / 10 for part in (first, last))
        assert after > 0.85 * before, figure
