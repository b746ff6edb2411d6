"""The explorer's views of sets: candidates with what they are worth alone and to the set."""

import pytest

from rlcredit.estimators.utilities import Coverage, Max
from rlcredit.report.candidate_views import CandidateViews
from rlcredit.retrieval.base import Documents
from rlcredit.retrieval.bm25 import BM25
from rlcredit.retrieval.measures import NDCG
from rlcredit.rewards.ranking import Ranking
from rlcredit.text.response import TextRules
from rlcredit.types import Prompt

DOCUMENTS = Documents(ids=("a", "b", "c"), texts=("red tent", "green tent", "blue boat"))
PROMPT = Prompt(prompt_id="p", text="p", query="p", relevance={"a": 3, "c": 3}, pool=DOCUMENTS.ids)
SET = "<c1>red tent</c1><c2>blue boat</c2><c3>green</c3>"


def views(tmp_path, utility, asked=3):
    reward = Ranking(measure=NDCG(), utility=utility).bind(BM25().index(DOCUMENTS, cache=tmp_path))
    rules = TextRules(num_candidates=asked)
    return CandidateViews(rules=rules, reward=reward, utility=utility), reward


def test_a_candidates_values_are_the_sets_utilities(tmp_path):
    seen_by, reward = views(tmp_path, Max())
    seen = seen_by(PROMPT, SET)
    red, boat, green = reward([PROMPT] * 3, ["red tent", "blue boat", "green"]).tolist()
    assert [part.text for part in seen.segments] == ["red tent", "blue boat", "green"]
    assert [part.alone for part in seen.segments] == pytest.approx([red, boat, green])
    assert seen.reward == pytest.approx(max(red, boat, green))
    best_of_rest = [max(boat, green), max(red, green), max(red, boat)]
    assert [part.without for part in seen.segments] == pytest.approx(best_of_rest)
    assert [part.up_to for part in seen.segments] == pytest.approx(
        [red, max(red, boat), max(red, boat, green)]
    )
    assert seen.found[0].document_id == "a"
    assert seen.segments[0].found_without[0].document_id == "c"


def test_coverage_counts_what_only_the_candidate_finds(tmp_path):
    seen_by, _ = views(tmp_path, Coverage())
    seen = seen_by(PROMPT, SET)
    assert seen.reward == 2
    assert [seen.reward - part.without for part in seen.segments] == [1, 1, 0]


def test_a_set_that_is_not_whole_earns_nothing_and_its_parts_are_shown(tmp_path):
    seen_by, _ = views(tmp_path, Max(), asked=4)
    seen = seen_by(PROMPT, SET.replace("green", "red tent"))
    assert seen.reward == 0
    assert [part.counts for part in seen.segments] == [True, True, False]
    nothing = seen_by(PROMPT, "red tent")
    assert (nothing.reward, nothing.segments, nothing.found) == (0, (), ())
