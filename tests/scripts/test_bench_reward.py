import pytest

from rlcredit.types import Counts
from scripts.bench_reward import Stages, rows_of


def stages(reward_s, **counts):
    return Stages(reward_s=reward_s, credit_s=0.1, update_s=0.4, counts=Counts(**counts))


def test_a_method_is_held_against_the_bar_by_its_whole_step(capsys):
    measured = {
        "grpo": [stages(0.0, asked=80, distinct=79)] * 3,
        "loo": [stages(s, asked=554, distinct=500) for s in (0.1, 0.05, 9.0)],
        "ospo": [stages(0.2, asked=1700, distinct=1500)] * 3,
    }
    rows = rows_of("bm25", measured, rollout_s=0.5)
    assert [row["ratio"] for row in rows] == pytest.approx([1.0, 1.1, 1.2])
    printed = capsys.readouterr().out
    assert "| bm25 | loo | 554 | 500 | 0.100 | 1.100 | 1.100 | held |" in printed
    assert "| bm25 | ospo | 1700 | 1500 | 0.200 | 1.200 | 1.200 | over 1.15 |" in printed
    rows_of("minilm", measured, rollout_s=0.5)
    assert "| 1.200 | - |" in capsys.readouterr().out
