"""Comparisons are paired, and what is logged has its names."""

from dataclasses import replace

import numpy as np
import pytest

from rlcredit.evaluation.cells import Cell, Source
from rlcredit.evaluation.credit_check import CreditCheck
from rlcredit.evaluation.evaluate import families_of
from rlcredit.evaluation.figures import compare, evaluation_metrics, intervals, truth_rho
from rlcredit.evaluation.stats import family_interval, mean_interval
from rlcredit.types import Prompt


def test_a_comparison_holds_both_means_and_the_paired_difference(make_evaluation):
    before, after = make_evaluation("before"), make_evaluation("after")
    rows = {row.cell: row for row in compare(before, after)}
    assert len(rows) == 2 * 3 * len(Source)
    row = rows[Cell("bm25", "nDCG@10", Source.sampled)]
    assert row.before == mean_interval(before.values(row.cell))
    assert row.after.mean == pytest.approx(row.before.mean + 0.125)
    assert (row.difference.low, row.difference.high) == pytest.approx((0.125, 0.125), abs=1e-9)
    assert rows[Cell("bm25", "nDCG@10", Source.query)].difference.mean == 0.0


def test_evaluations_of_other_prompts_are_not_compared(make_evaluation):
    before, after = make_evaluation("before"), make_evaluation("after")
    other = replace(after, prompt_ids=(*after.prompt_ids[1:], "new"))
    with pytest.raises(ValueError, match="different prompts"):
        compare(before, other)


def test_logged_metrics_are_the_policy_s_means_and_the_check_of_credit(make_evaluation):
    evaluation = make_evaluation("after", split="validation")
    metrics = evaluation_metrics(evaluation)
    cell = Cell("tfidf", "R@10", Source.greedy)
    assert metrics["eval/validation/tfidf/r@10_greedy"] == np.mean(evaluation.scores[cell])
    assert not any(baseline in name for name in metrics for baseline in ("query", "rm3", "oracle"))
    assert metrics["eval/validation/credit/truth_rho"] == pytest.approx(0.195)
    assert 0.1 < metrics["eval/validation/credit/truth_rho_low"] < 0.195
    assert 0.195 < metrics["eval/validation/credit/truth_rho_high"] < 0.29
    assert metrics["eval/validation/credit/truth_rho_responses"] == 70.0
    assert metrics["eval/validation/credit/truth_rho_skipped"] == 10.0
    assert len(metrics) == 2 * 3 * 2 + 5


def test_without_credit_or_without_contrast_there_is_no_correlation(make_evaluation):
    evaluation = make_evaluation("after")
    assert not any("credit" in n for n in evaluation_metrics(replace(evaluation, credit=None)))
    empty = CreditCheck(rho={}, counted=0, skipped=9)
    metrics = evaluation_metrics(replace(evaluation, credit=empty))
    assert {n for n in metrics if "credit" in n} == {
        "eval/test/credit/truth_rho_responses",
        "eval/test/credit/truth_rho_skipped",
    }
    assert truth_rho(replace(evaluation, credit=empty)) is None
    assert truth_rho(replace(evaluation, credit=None)) is None


def test_intervals_are_keyed_by_the_names_that_metrics_have(make_evaluation):
    found = intervals(make_evaluation("before"))
    assert found["bm25/rr_oracle"].low < found["bm25/rr_oracle"].mean < 0.5
    assert len(found) == 2 * 3 * len(Source)


def test_prompts_that_reword_one_intent_are_one_piece_of_evidence(make_evaluation):
    before, after = make_evaluation("before"), make_evaluation("after")
    cell = Cell("bm25", "nDCG@10", Source.sampled)
    values = after.values(cell)
    alike = {cell: tuple(np.repeat(values[:8], 5).tolist())}
    families = tuple(np.repeat(np.arange(8), 5).tolist())
    told = replace(after, scores=alike, families=families)
    one = intervals(told)[cell.name]
    assert one == family_interval(np.repeat(values[:8], 5), np.repeat(np.arange(8), 5))
    alone = intervals(replace(told, families=()))[cell.name]
    assert one.high - one.low > 2 * (alone.high - alone.low)
    (row,) = (r for r in compare(replace(before, families=families), told) if r.cell == cell)
    assert row.difference.low < row.difference.mean < row.difference.high
    check = CreditCheck(rho={"q0": 0.9, "q1": 0.9, "q9": -0.5}, counted=3, skipped=0)
    few = replace(after, families=families, credit=check)
    assert (truth_rho(few).low, truth_rho(few).high) == (-1.0, 1.0)  # no correlation lies beyond
    rho = truth_rho(replace(after, families=families))
    assert rho.high - rho.low > truth_rho(after).high - truth_rho(after).low


def test_families_are_prompts_of_one_truth():
    def prompt(name, *phrases):
        truth = dict.fromkeys(phrases, "use")
        return Prompt(prompt_id=name, text=name, query=name, relevance={}, truth=truth)

    prompts = [
        prompt("a", "x", "y"),
        prompt("b"),
        prompt("c", "y", "x"),
        prompt("d"),
        prompt("e", "x"),
    ]
    assert families_of(prompts) == (0, 1, 0, 2, 3)
