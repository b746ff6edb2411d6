"""Sets of candidates: which tokens, which rewards, and what the set earns."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from rlcredit.credit.coalitions import Windows
from rlcredit.estimators.utilities import Coverage, Max, Sum, Top
from rlcredit.rollout.health import rollout_metrics
from rlcredit.scoring.candidates import SetScorer
from rlcredit.scoring.scorer import Scorer
from rlcredit.text.response import TextRules
from rlcredit.text.segmenters import Phrases
from rlcredit.types import Needs, Prompt, Randomness
from tests.rollout.toy import Letters, written

RULES = TextRules(max_words=2, unique=True, num_candidates=2)
WHOLE = "<c1>abc, d</c1><c2>a</c2>"
TEXTS = [WHOLE, "<c1>ab</c1>", "<c1>ab</c1><c2>too many words</c2>", "abc", WHOLE + "<c3>a</c3>"]


class LettersFound(Letters):
    """A text finds a document for each different letter of it."""

    def covered(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[frozenset[str]]:
        return [frozenset(text) & set("abcd") for text in texts]


def sets_of(texts, utility=None, rules=RULES, reward=None):
    rollouts = written(texts)
    scorer = SetScorer(reward=reward or Letters(), rules=rules, utility=utility or Max())
    return rollouts, *scorer(rollouts)


def test_masks_rewards_and_sets_by_hand():
    rollouts, candidates, rewards, asked = sets_of(TEXTS)
    assert candidates.num_asked == 2
    assert candidates.mask[0].tolist() == [
        [True, True, False],
        [True, False, False],
        [True, False, False],
        [False, False, False],
        [True, True, True],
    ]
    assert candidates.complete[0].tolist() == [True, False, False, False, False]
    reward = Letters()
    prompt = rollouts.prompts[0]
    alone = reward([prompt, prompt], ["abc, d", "a"])
    torch.testing.assert_close(candidates.rewards[0, 0, :2], alone)
    assert rewards[0].tolist() == pytest.approx([float(alone.max()), 0, 0, 0, 0])
    assert asked == 2 + 1 + 1 + 0 + 3


def test_tokens_belong_to_the_candidate_that_they_write():
    rollouts, candidates, _, _ = sets_of([WHOLE])
    text = rollouts.texts[0][0]
    for (start, end), number in zip(
        rollouts.char_spans[0, 0].tolist(), candidates.candidate_ids[0, 0].tolist(), strict=True
    ):
        inside = [(4, 10), (19, 20)]
        expected = next((i for i, (a, b) in enumerate(inside) if a <= start < end <= b), -1)
        assert number == expected, text[start:end]


def test_half_a_token_makes_it_no_candidate_s_and_more_than_half_does():
    rollouts = written(["<c1>ab</c1>"])
    char_spans = rollouts.char_spans.clone()
    char_spans[0, 0, :4] = torch.tensor([[3, 5], [5, 7], [3, 6], [4, 7]])  # >a  b<  >ab  ab<
    scorer = SetScorer(reward=Letters(), rules=RULES, utility=Max())
    candidates, _, _ = scorer(replace(rollouts, char_spans=char_spans))
    assert candidates.candidate_ids[0, 0, :4].tolist() == [-1, -1, 0, 0]


def test_a_copy_is_paid_once_where_rewards_are_added():
    copies = ["<c1>ab</c1><c2>AB </c2>", "<c1>ab</c1><c2>abc</c2>"]
    _, candidates, rewards, _ = sets_of(copies, Sum())
    assert candidates.first.tolist() == [[[True, False], [True, True]]]
    ab, abc = candidates.rewards[0, 1].tolist()
    assert rewards[0].tolist() == pytest.approx([ab, ab + abc])
    assert sets_of(copies, Top(m=2))[2][0].tolist() == pytest.approx([ab, ab + abc])
    assert sets_of(copies, Max())[2][0].tolist() == pytest.approx([ab, abc])


def test_coverage_is_of_the_union_of_what_the_candidates_find():
    texts = ["<c1>ab</c1><c2>bc</c2>", "<c1>a</c1><c2>a</c2>"]
    _, candidates, rewards, _ = sets_of(texts, Coverage(), reward=LettersFound())
    assert rewards.tolist() == [[3.0, 1.0]]
    assert candidates.covers.sum(-1).tolist() == [[[2, 2], [1, 1]]]
    with pytest.raises(ValueError, match="reward/utility=max"):
        sets_of(texts, Coverage())


def test_a_batch_without_any_candidate_is_worth_nothing_and_asks_for_nothing():
    _, candidates, rewards, asked = sets_of(["", "abc"])
    assert rewards.tolist() == [[0.0, 0.0]]
    assert not candidates.mask.any()
    assert asked == 0


def scored(texts, needs):
    scorer = Scorer(reward=Letters(), rules=RULES, segmenter=Phrases(), utility=Max())
    return scorer(written(texts), needs, randomness=Randomness(seed=0, step=0))


def test_the_scorer_cuts_segments_within_candidates_and_knows_the_set():
    signals = scored(["<c1>a, b</c1><c2>a</c2>", "<c1>c</c1>"], Needs(candidates=True))
    assert signals.rewards[0, 1] == 0
    assert signals.segments.mask.sum(-1).tolist() == [[3, 1]]
    # the same phrase in another candidate is no repetition
    assert signals.segments.first[0, 0].tolist() == [True, True, True]
    metrics = rollout_metrics(written(["<c1>a, b</c1><c2>a</c2>", "<c1>c</c1>"]), signals)
    assert float(metrics["candidates/complete_share"]) == 0.5
    assert float(metrics["candidates/per_response"]) == 1.5
    assert float(metrics["candidates/distinct_share"]) == 1.0


def test_coalitions_of_segments_are_refused_where_responses_are_sets():
    with pytest.raises(ValueError, match=r"dataset\.candidates=0"):
        scored(["<c1>a</c1><c2>b</c2>", "a"], Needs(coalitions=Windows()))
