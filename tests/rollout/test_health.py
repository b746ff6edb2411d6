"""Health figures of batches written by hand."""

from dataclasses import replace

import pytest
import torch

from rlcredit.credit.coalitions import Windows
from rlcredit.rollout.health import perplexity, rollout_metrics
from rlcredit.scoring.scorer import Scorer
from rlcredit.text.copying import WordRuns
from rlcredit.text.response import TextRules
from rlcredit.text.segmenters import Phrases
from rlcredit.types import Metrics, Needs, Randomness, Rollouts, Signals
from tests.rollout.toy import Letters, written

RULES = TextRules(max_words=2, unique=True)


def signals_of(rollouts: Rollouts, needs: Needs | None = None) -> Signals:
    scorer = Scorer(reward=Letters(), rules=RULES, segmenter=Phrases())
    return scorer(rollouts, needs or Needs(), randomness=Randomness(seed=0, step=0), offset=0)


def metrics_of(rollouts: Rollouts, needs: Needs | None = None) -> Metrics:
    return rollout_metrics(rollouts, signals_of(rollouts, needs))


def close(metrics: Metrics, name: str, value: float) -> bool:
    return float(metrics[name]) == pytest.approx(value, abs=1e-6)


def test_lengths_ends_and_copies_by_hand():
    rollouts = written(["p0, red", "  "], ["Two big", "p0"])
    rollouts = replace(rollouts, finished=torch.tensor([[True, True], [False, True]]))
    metrics = metrics_of(rollouts)
    assert close(metrics, "response/length_tokens", (8 + 3 + 8 + 3) / 4)
    assert close(metrics, "response/truncated_share", 0.25)
    assert close(metrics, "response/empty_share", 0.25)
    assert close(metrics, "response/distinct_share", 1.0)
    assert close(metrics, "text/prompt_copied_share", 1 / 5)  # "two" is no word of a query


def test_runs_of_three_words_that_stand_in_a_document_are_copied():
    documents = WordRuns.of(["Red wool hat for kids", "blue hat"])
    rollouts = written(["a RED, wool hat; b", "wool hat kids"], ["hat for kids hat", "hat blue"])
    metrics = rollout_metrics(rollouts, signals_of(rollouts), documents=documents)
    assert close(metrics, "text/document_copied_share", (3 + 0 + 3 + 0) / (5 + 3 + 4 + 2))
    assert "text/document_copied_share" not in metrics_of(rollouts)


def test_words_said_before_and_words_of_no_document_by_hand():
    documents = WordRuns.of(["Red wool hat", "blue hat"])
    rollouts = written(["a red, RED hat; hat", "wool xyzzy"], ["red", ""])
    metrics = rollout_metrics(rollouts, signals_of(rollouts), documents=documents)
    assert close(metrics, "text/repeated_share", 2 / 8)
    assert close(metrics, "text/unknown_share", 2 / 8)
    assert "text/unknown_share" not in metrics_of(rollouts)


def test_perplexity_is_the_geometric_mean_of_one_over_the_probabilities():
    mask = torch.tensor([[[True, True, False], [True, False, False]]])
    logprobs = torch.tensor([[[0.5, 0.25, 0.9], [0.125, 0.9, 0.9]]]).log()
    assert float(perplexity(logprobs, mask)) == pytest.approx((2 * 4 * 8) ** (1 / 3))
    assert float(perplexity(logprobs, mask & False)) == 1


def test_segments_by_hand():
    metrics = metrics_of(written(["a, b c d, a, A", "e"]))
    assert close(metrics, "segments/per_response", 2.5)
    assert close(metrics, "segments/valid_share", 4 / 5)
    assert close(metrics, "segments/duplicate_share", 2 / 5)
    assert "segments/players_per_response" not in metrics


def test_rewards_by_hand():
    metrics = metrics_of(written(["ab", "abcd"], ["a", "b"], ["", ""]))
    assert close(metrics, "reward/mean", 8 / 600)
    assert close(metrics, "reward/equal_groups_share", 2 / 3)
    assert close(metrics, "reward/group_std", 0.01 / 3)
    assert close(metrics, "reward/zero_share", 1 / 3)
    assert close(metrics, "reward/evaluations", 6)
    values = torch.tensor([2.0, 4, 1, 1, 0, 0]) / 100
    assert close(metrics, "reward/std", float(values.std(correction=0)))


def test_games_by_hand():
    rollouts = written(["a, b, c", "a, a"])
    needs = Needs(coalitions=Windows(budget=4), first_copies=True)
    metrics = metrics_of(rollouts, needs)
    assert close(metrics, "segments/players_per_response", 2.0)
    assert close(metrics, "coalitions/sampled_share", 0.5)
    assert close(metrics, "reward/evaluations", 2 + 2 + 0)


def test_a_batch_without_words_or_segments_has_finite_figures():
    metrics = metrics_of(written(["", ""]), Needs(coalitions=Windows()))
    assert all(bool(torch.isfinite(value)) for value in metrics.values())
    assert close(metrics, "segments/valid_share", 0.0)
    assert close(metrics, "text/prompt_copied_share", 0.0)


def test_every_figure_is_a_scalar_named_by_stage_and_unit():
    metrics = metrics_of(written(["a, b", "c"]), Needs(coalitions=Windows()))
    for name, value in metrics.items():
        assert value.shape == ()
        assert value.is_floating_point()
        stage, figure = name.split("/")
        assert stage in {"response", "segments", "coalitions", "reward", "text"}
        assert figure.islower()


def test_signals_without_segments_have_no_segment_figures():
    rollouts = written(["a", "b"])
    signals = Signals(rewards=torch.tensor([[0.0, 1.0]]), response_mask=rollouts.response_mask)
    assert not any(name.startswith("segments/") for name in rollout_metrics(rollouts, signals))
