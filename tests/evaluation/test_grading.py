"""Each reward is graded by what fits it, with the task's own documents, rules and problems."""

from dataclasses import replace

import pytest

from rlcredit.estimators.utilities import Max
from rlcredit.evaluation.cells import MEASURES, Cell, Source
from rlcredit.evaluation.graders import SearchGrader, Surroundings, VerifiedGrader, grader_of
from rlcredit.retrieval.base import Documents
from rlcredit.retrieval.bm25 import BM25
from rlcredit.retrieval.linear import TFIDF
from rlcredit.retrieval.measures import NDCG
from rlcredit.rewards.ranking import Ranking
from rlcredit.rewards.verifier import CountdownProblem, Verifier
from rlcredit.tasks.base import SearchTask, Task
from rlcredit.text.response import TextRules
from rlcredit.types import Prompt

LONG = "boat " * 30
DOCUMENTS = Documents(
    ids=("a", "b", "c", "d"),
    texts=("tent tent " + LONG, "tent lamp lamp kettle", "red tent", "lamp chair"),
)
RETRIEVERS = {"bm25": BM25(), "tfidf": TFIDF()}
RANKING = Ranking(measure=NDCG(), utility=Max())
FIRST_PHRASE = TextRules(max_phrases=1)
SEARCHED = tuple(
    Prompt(prompt_id=f"p{d}", text="", query="lamp", relevance={d: 3}, pool=tuple({d, *"bcd"}))
    for d in DOCUMENTS.ids
)
PROBLEM = CountdownProblem(numbers=(2, 3), target=5)
SOLVED = (Prompt(prompt_id="s", text="", query="", relevance={}, problem=PROBLEM),)
SHARED = {"source": "generated", "rules": FIRST_PHRASE, "digest": "", "teacher": lambda *_: ""}
SPLITS = ("train", "validation", "test")
SEARCH = SearchTask(name="shop", documents=DOCUMENTS, **SHARED, **dict.fromkeys(SPLITS, SEARCHED))
COUNTDOWN = Task(name="countdown", **SHARED, **dict.fromkeys(SPLITS, SOLVED))


@pytest.fixture
def graded(tmp_path):
    def by(reward, task):
        around = Surroundings(retrievers=RETRIEVERS, cache=tmp_path, failures=tmp_path / "failed")
        return grader_of(reward, task, around)

    return by


def test_each_retriever_ranks_the_scored_texts_by_an_index_of_its_own(graded, tmp_path):
    grader = graded(RANKING, SEARCH)
    assert isinstance(grader, SearchGrader)
    written = [["lamp lamp boat, red"], ["lamp lamp boat"], ["red chair, d"], ["red chair, red"]]
    scores = grader.scores(SEARCHED, {Source.greedy: written}, prompts_per_batch=9)
    scored = ["lamp lamp boat", "lamp lamp boat", "red chair", "red chair"]
    for name, retriever in RETRIEVERS.items():
        ranked = RANKING.bind(retriever.index(DOCUMENTS, cache=tmp_path)).ranked(SEARCHED, scored)
        for measure in MEASURES:
            found = scores[Cell(name, measure.name, Source.greedy)]
            assert found == pytest.approx(measure(*ranked).tolist())
    by_name = [scores[Cell(name, "nDCG@10", Source.greedy)] for name in RETRIEVERS]
    assert by_name[0] != pytest.approx(by_name[1]), "the retrievers agree, so this shows nothing"
    assert grader.reward(SEARCHED, scored).tolist() == pytest.approx(by_name[0])
    assert grader.headline == "bm25/ndcg@10_sampled"


def test_curves_are_scored_by_the_training_retriever_alone(graded):
    grader = graded(RANKING, SEARCH)
    scores = {
        each: each.scores(SEARCHED, {Source.greedy: [["tent"]] * 4}, prompts_per_batch=9)
        for each in (grader, grader.for_curves())
    }
    whole, curves = scores.values()
    assert {cell.retriever for cell in whole} == {"bm25", "tfidf", ""}  # "": words
    assert curves == {cell: each for cell, each in whole.items() if cell.retriever != "tfidf"}


def test_answers_to_problems_are_judged_by_rule(graded):
    grader = graded(Verifier(well_formed=0.25), COUNTDOWN)
    assert isinstance(grader, VerifiedGrader)
    assert grader.reward(SOLVED * 3, ["2 + 3", "2 * 3", "tent"]).tolist() == [1.0, 0.25, 0.0]
    written = {Source.sampled: [["2 + 3, tent", "2 * 3", "tent", "2 + 2"]]}
    scores = grader.scores(SOLVED, written, prompts_per_batch=1)
    assert scores[Cell("", "pass@1", Source.sampled)] == (0.25,)
    assert scores[Cell("", "well-formed", Source.sampled)] == (0.75,)
    assert grader.headline == "pass@1"


def test_a_ranking_is_refused_where_there_is_nothing_to_search(graded):
    with pytest.raises(ValueError, match="dataset=countdown has no documents"):
        graded(RANKING, COUNTDOWN)


@pytest.mark.parametrize("split", SPLITS)
def test_a_rule_is_refused_where_a_prompt_of_any_split_is_no_problem(graded, split):
    with pytest.raises(ValueError, match=r"prompt 'pa' has no problem.*reward=ndcg"):
        graded(Verifier(), replace(COUNTDOWN, **{split: SEARCHED}))
