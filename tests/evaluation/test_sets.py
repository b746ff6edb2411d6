"""Sets of candidates are scored as their texts are, one by one."""

import pytest

from rlcredit.estimators.utilities import Max
from rlcredit.evaluation.candidates import offered_sets, score_sets, set_texts
from rlcredit.evaluation.cells import Cell, Source
from rlcredit.retrieval.base import Documents
from rlcredit.retrieval.bm25 import BM25
from rlcredit.retrieval.measures import NDCG
from rlcredit.rewards.ranking import Ranking
from rlcredit.run.watch import Watch
from rlcredit.text.response import TextRules
from rlcredit.types import Prompt

DOCUMENTS = Documents(ids=("a", "b", "c"), texts=("red tent", "green tent", "blue boat"))
RULES = TextRules(num_candidates=2)
PROMPTS = (
    Prompt(prompt_id="p", text="p", query="p", relevance={"a": 3}, pool=DOCUMENTS.ids),
    Prompt(prompt_id="q", text="q", query="q", relevance={"c": 3}, pool=DOCUMENTS.ids),
)
RESPONSES = {
    Source.sampled: [
        ["<c1>green tent</c1><c2>red tent</c2>", "<c1>red</c1>"],
        ["<c1>boat</c1><c2>Boat</c2>", "<c1>boat</c1><c2>boat</c2><c3>boat</c3>"],
    ]
}


@pytest.fixture
def reward(tmp_path):
    index = BM25().index(DOCUMENTS, cache=tmp_path)
    return Ranking(measure=NDCG(), utility=Max()).bind(index)


def test_best_mean_and_worst_are_of_the_candidates_own_scores(reward):
    offers = offered_sets(RULES, PROMPTS, RESPONSES)
    scores = score_sets({"bm25": reward}, PROMPTS, offers, num_candidates=2, prompts_per_batch=1)
    green, red = reward([PROMPTS[0]] * 2, ["green tent", "red tent"]).tolist()
    assert red == 1.0
    assert green < 1.0

    def of(measure):
        return scores[Cell("bm25", measure, Source.sampled)]

    # half of each prompt's responses have not exactly two candidates, and score 0
    assert of("nDCG@10") == pytest.approx((0.5, 0.5))
    assert of("nDCG@10-mean-of-k") == pytest.approx(((red + green) / 4, 0.5))
    assert of("nDCG@10-worst-of-k") == pytest.approx((green / 2, 0.5))
    assert of("complete") == (0.5, 0.5)
    assert of("distinct") == pytest.approx((1.0, 2 / 5))
    assert of("repeating") == (0.0, 1.0)
    again = score_sets({"bm25": reward}, PROMPTS, offers, num_candidates=2, prompts_per_batch=9)
    assert again == scores


def test_sets_are_ranked_as_deep_as_the_measures_look_and_not_as_the_reward_does(tmp_path):
    documents = Documents(ids=tuple(f"d{i:02}" for i in range(12)), texts=("tent",) * 12)
    reward = Ranking(measure=NDCG(), utility=Max()).bind(BM25().index(documents, cache=tmp_path))
    last = Prompt(prompt_id="p", text="", query="", relevance={"d00": 3})  # ties: the larger id
    offers = offered_sets(RULES, [last], {Source.greedy: [["<c1>tent</c1><c2>tent</c2>"]]})
    scores = score_sets({"bm25": reward}, [last], offers, num_candidates=2, prompts_per_batch=1)
    assert scores[Cell("bm25", "nDCG@10", Source.greedy)] == (0.0,)
    assert scores[Cell("bm25", "RR", Source.greedy)] == (1 / 12,)


def test_run_files_get_a_column_for_each_candidate_of_whole_sets():
    texts = set_texts(offered_sets(RULES, PROMPTS, RESPONSES), 2)
    assert texts == {
        "sampled.c1": [["green tent", ""], ["boat", ""]],
        "sampled.c2": [["red tent", ""], ["Boat", ""]],
    }


def test_the_watch_warns_when_candidates_halve():
    watch = Watch()
    counts = [4.0] * 9 + [1.5] * 9
    said = [
        watch(step, {"candidates/per_response": count, "segments/per_response": 9.0})
        for step, count in enumerate(counts)
    ]
    (warning,) = [each for step in said for each in step]
    assert "2.0 candidates, 4.0 at the start" in warning
