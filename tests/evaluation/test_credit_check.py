"""The check of credit is Spearman's correlation over the segments that count."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlcredit.evaluation.credit_check import (
    CreditCheck,
    check_credit,
    merge,
    segment_credit,
    spearman,
)
from rlcredit.types import Advantages, Prompt, Rollouts, Segments

TRUTH = {"water proof": "feature 1", "camping": "use", "hiking": "use"}


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=9))
def test_the_correlation_is_scipy_s_where_it_is_defined(pairs):
    credit, true = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    value = spearman(credit, true)
    if len(set(credit)) == 1 or len(set(true)) == 1:
        assert value is None
    else:
        assert value == pytest.approx(stats.spearmanr(credit, true).statistic, abs=1e-12)


def test_rounding_keeps_ties_of_equal_credit_in_fp32():
    credit = np.array([0.1, 0.1 + 1e-8, 0.3])
    assert spearman(credit, np.array([0.0, 1.0, 1.0])) == pytest.approx(
        stats.spearmanr([0.1, 0.1, 0.3], [0, 1, 1]).statistic
    )


def test_credit_of_a_segment_is_the_mean_over_its_tokens():
    credit = torch.tensor([[[1.0, 3.0, 9.0, 5.0, 7.0]]])
    ids = torch.tensor([[[0, 0, -1, 2, -1]]])
    out = segment_credit(credit, ids, 4)
    assert out[0, 0, 0] == 2.0
    assert out[0, 0, 2] == 5.0
    assert out.isnan().tolist() == [[[False, True, False, True]]]


def batch(texts_by_prompt, credit_by_prompt, *, truth=TRUTH, invalid=(), repeated=()):
    """Phrases separated by ", ", one token each; the token after a phrase is the separator."""
    groups = [[text.split(", ") for text in texts] for texts in texts_by_prompt]
    num_prompts, group_size = len(groups), len(groups[0])
    width = max(len(phrases) for group in groups for phrases in group)
    spans = torch.zeros(num_prompts, group_size, width, 2, dtype=torch.long)
    mask = torch.zeros(num_prompts, group_size, width, dtype=torch.bool)
    ids = torch.full((num_prompts, group_size, 2 * width), -1)
    values = torch.full((num_prompts, group_size, 2 * width), 99.0)
    for p, group in enumerate(groups):
        for g, phrases in enumerate(group):
            start = 0
            for m, phrase in enumerate(phrases):
                spans[p, g, m] = torch.tensor([start, start + len(phrase)])
                start += len(phrase) + 2
                mask[p, g, m] = True
                ids[p, g, 2 * m] = m
                values[p, g, 2 * m] = credit_by_prompt[p][g][m]
    valid, first = mask.clone(), mask.clone()
    for where in invalid:
        valid[where] = False
    for where in repeated:
        first[where] = False
    shape = (num_prompts, group_size, 2 * width)
    rollouts = Rollouts(
        prompts=tuple(
            Prompt(prompt_id=f"q{p}", text="t", query="t", relevance={"d": 3}, truth=truth)
            for p in range(num_prompts)
        ),
        texts=tuple(tuple(texts) for texts in texts_by_prompt),
        prompt_ids=torch.zeros(num_prompts, 1, dtype=torch.long),
        prompt_mask=torch.ones(num_prompts, 1, dtype=torch.bool),
        response_ids=torch.zeros(shape, dtype=torch.long),
        response_mask=torch.ones(shape, dtype=torch.bool),
        char_spans=torch.zeros(*shape, 2, dtype=torch.long),
        rollout_logprobs=torch.zeros(shape),
        finished=torch.ones(shape[:2], dtype=torch.bool),
        temperature=1.0,
    )
    segments = Segments(spans=spans, mask=mask, valid=valid, first=first, ids=ids)
    return rollouts, segments, Advantages(values=torch.zeros(shape), credit=values)


def test_true_phrases_are_recognised_whatever_their_case_and_spacing():
    check = check_credit(*batch([["Water  PROOF, red, camping, mug"]], [[[0.4, 0.1, 0.3, 0.2]]]))
    expected = stats.spearmanr([4, 1, 3, 2], [1, 0, 1, 0]).statistic
    assert (check.rho, check.counted, check.skipped) == ({"q0": pytest.approx(expected)}, 1, 0)


def test_segments_that_do_not_count_or_repeat_are_left_out():
    texts, credit = [["camping, red, mug, camping"]], [[[0.3, 0.1, 9.0, -5.0]]]
    check = check_credit(*batch(texts, credit, invalid=[(0, 0, 2)], repeated=[(0, 0, 3)]))
    assert check.rho == {"q0": pytest.approx(1.0)}


def test_prompts_are_averaged_over_their_responses_and_those_without_contrast_are_counted():
    texts = [["camping, red", "camping, red"], ["camping, hiking", "red, mug"]]
    credit = [[[0.3, 0.1], [0.1, 0.3]], [[0.3, 0.1], [0.1, 0.3]]]
    check = check_credit(*batch(texts, credit))
    assert (check.rho, check.counted, check.skipped) == ({"q0": pytest.approx(0.0)}, 2, 2)
    flat = [[[0.2, 0.2], [0.3, 0.1]], [[0.3, 0.1], [0.1, 0.3]]]
    check = check_credit(*batch(texts, flat))
    assert (check.rho, check.counted, check.skipped) == ({"q0": pytest.approx(1.0)}, 1, 3)


def test_a_wrong_sign_of_credit_shows():
    check = check_credit(*batch([["camping, red"]], [[[-1.0, 1.0]]]))
    assert check.rho == {"q0": pytest.approx(-1.0)}


def test_random_credit_is_uncorrelated():
    generator = torch.Generator().manual_seed(0)
    texts = [["camping, red, hiking, mug, water proof, blue"] * 4] * 100
    credit = torch.rand(100, 4, 6, generator=generator).tolist()
    check = check_credit(*batch(texts, credit))
    assert abs(np.mean(list(check.rho.values()))) < 0.05


def test_without_credit_or_without_truth_nothing_is_checked():
    rollouts, segments, advantages = batch([["camping, red"]], [[[1.0, 0.0]]])
    assert check_credit(rollouts, segments, Advantages(values=advantages.values)) is None
    assert check_credit(*batch([["camping, red"]], [[[1.0, 0.0]]], truth={})) is None


def test_checks_of_parts_merge_to_the_check_of_the_whole():
    assert merge([]) is None
    parts = [
        CreditCheck(rho={"a": 0.5}, counted=2, skipped=1),
        CreditCheck(rho={"b": 0.25}, counted=3, skipped=0),
    ]
    assert merge(parts) == CreditCheck(rho={"a": 0.5, "b": 0.25}, counted=5, skipped=1)
