"""Weighted sums of rewards: from the command line to the scores of an evaluation."""

import math
import re
import shlex
from dataclasses import dataclass

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rlcredit.commands.build import saved_part
from rlcredit.commands.components import build
from rlcredit.commands.digests import run_identity
from rlcredit.estimators import Max, Sum
from rlcredit.evaluation.cells import Cell, Source
from rlcredit.evaluation.graders import SearchGrader, Surroundings, grader_of
from rlcredit.retrieval import TFIDF
from rlcredit.rewards import NDCG, Ranking, Verifier, WeightedSum
from rlcredit.rewards.base import scores_parts
from rlcredit.rewards.ranking import Scope
from rlcredit.tasks import ESCI
from rlcredit.types import Prompt
from tests.composing import CONF

RANKING = Ranking(measure=NDCG(), utility=Max())


@dataclass(frozen=True)
class Letters:
    """How long a text is."""

    def __call__(self, prompts, texts):
        return torch.tensor([float(len(text)) for text in texts])


@dataclass(frozen=True)
class Whole(Letters):
    """Scores no parts."""


scores_parts.register(Whole, lambda reward: False)


def total(weights=None, utility=None, **terms):
    return WeightedSum(utility=utility or Max(), terms=terms, weights=weights or {})


def answer(text):
    return f"<answer>{text}</answer>"


@pytest.fixture(scope="module")
def esci():
    return ESCI(max_train=4, max_validation=4, max_test=4).load()


@pytest.fixture
def surroundings(tmp_path):
    return Surroundings(
        retrievers={"tfidf": TFIDF()}, cache=tmp_path / "cache", failures=tmp_path / "failures"
    )


@pytest.fixture
def documented(tmp_path, monkeypatch):
    """The words of the command in conf/reward/sum.yaml, with the package that it names."""
    (tmp_path / "my_pkg").mkdir()
    (tmp_path / "my_pkg" / "rewards.py").write_text(
        "def score(texts, rows):\n    return [len(text) / 10 for text in texts]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    page = (CONF / "reward" / "sum.yaml").read_text()
    (command,) = re.findall(r"rlcredit train (.*?\\\n#.*)\n", page)
    words = shlex.split(command.replace("\\\n#", " "))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield words, compose("train", overrides=words)


def test_the_documented_command_makes_the_sum_it_says(documented, esci, surroundings):
    words, cfg = documented
    assert words[0] == "reward=sum"
    reward = build(cfg.reward, allow=cfg.allow)
    assert [*reward.terms] == ["found", "own"]
    graded = grader_of(reward, esci, surroundings)
    search = grader_of(RANKING, esci, surroundings).reward
    prompts, texts = esci.test[:3], ["tent", "red boat", ""]
    expected = search(prompts, texts) + 0.3 * torch.tensor([0.4, 0.8, 0.0])
    assert torch.allclose(graded.reward(prompts, texts), expected)
    assert ("reward", "1 found + 0.3 own; measured as found is") in graded.rows


def test_the_code_of_a_term_is_named_in_the_run_and_must_be_allowed(documented):
    _, cfg = documented
    identity = run_identity(cfg, allow=["my_pkg"])["reward"]
    name, version = identity["content"]
    assert (name, len(version)) == ("own", 64)
    assert identity["terms"]["own"]["path"] == "my_pkg.rewards:score"
    with pytest.raises(ValueError, match=r"my_pkg\.rewards:score lies outside.*allow=\[my_pkg\]"):
        run_identity(cfg)


def test_a_saved_sum_is_read_with_the_types_of_its_terms(documented):
    _, cfg = documented
    cfg.reward.terms.found.scope = Scope.catalogue
    saved = OmegaConf.create(OmegaConf.to_yaml(cfg.reward))
    with pytest.raises(ValueError, match=r"allow=\[my_pkg\]"):
        saved_part(saved)
    again = saved_part(saved, allow=["my_pkg"])
    assert again == build(cfg.reward, allow=["my_pkg"])
    assert again.terms["found"].scope is Scope.catalogue


def test_an_evaluation_has_the_first_measures_the_sum_and_every_term(esci, surroundings):
    reward = total(letters=Letters(), found=RANKING, weights={"letters": 0.5, "found": -2.0})
    graded = grader_of(reward, esci, surroundings)
    search = grader_of(RANKING, esci, surroundings)
    assert type(search) is SearchGrader
    assert graded.headline == search.headline == "tfidf/ndcg@10_sampled"
    assert (graded.trained_on, graded.utility) == ("tfidf", None)
    responses = {Source.sampled: [[answer("suitcase, black"), answer("cap")] for _ in esci.test]}
    found = graded.scores(esci.test, responses, prompts_per_batch=3)
    own = search.scores(esci.test, responses, prompts_per_batch=3)
    assert {cell: found[cell] for cell in own} == own
    terms = {name: found[Cell("", f"reward/term/{name}", Source.sampled)] for name in reward.terms}
    assert terms["letters"] == (pytest.approx((15 + 3) / 2),) * 4
    ndcg = own[Cell("tfidf", "nDCG@10", Source.sampled)]
    assert terms["found"] == pytest.approx(ndcg)
    expected = [0.5 * a - 2 * b for a, b in zip(terms["letters"], terms["found"], strict=True)]
    assert found[Cell("", "reward", Source.sampled)] == pytest.approx(expected)
    assert graded.counts().asked == 2 * 2 * len(esci.test)  # by the sum, and by the term


def test_without_measures_the_mean_of_the_sum_is_the_headline(esci, surroundings):
    graded = grader_of(total(a=Letters(), b=Letters()), esci, surroundings)
    assert graded.headline == "reward"
    found = graded.scores(
        esci.test, {Source.greedy: [[answer("cap")]] * len(esci.test)}, prompts_per_batch=9
    )
    assert {cell.name: scores for cell, scores in found.items()} == {
        "reward_greedy": (6.0,) * 4,
        "reward/term/a_greedy": (3.0,) * 4,
        "reward/term/b_greedy": (3.0,) * 4,
    }


def test_a_set_earns_the_utility_of_its_candidates_sums(surroundings):
    task = ESCI(max_train=4, max_validation=4, max_test=4, candidates=2).load()
    reward = total(found=RANKING, again=RANKING, utility=Sum())
    graded = grader_of(reward, task, surroundings)
    search = grader_of(RANKING, task, surroundings).reward
    prompt, texts = task.test[0], ["suitcase", "black"]
    responses = ["<c1>suitcase</c1><c2>black</c2>", "<c1>suitcase</c1>"]
    whole = 2 * float(search([prompt] * 2, texts).sum())
    assert whole > 0
    assert graded.earned([prompt], [responses]).tolist() == [[pytest.approx(whole), 0]]


def test_parts_are_scored_where_every_term_scores_them(esci, surroundings):
    both = total(a=Letters(), b=RANKING)
    assert scores_parts(both)
    assert scores_parts(grader_of(both, esci, surroundings).reward)
    assert not scores_parts(total(a=Letters(), b=Whole()))
    assert not scores_parts(total(a=Verifier()))
    assert not scores_parts(total(a=total(b=Whole())).bind({"a": Whole()}))


def test_a_term_that_cannot_grade_the_task_says_so(esci, surroundings):
    with pytest.raises(ValueError, match="no problem whose answers could be verified"):
        grader_of(total(a=Verifier()), esci, surroundings)


@pytest.mark.parametrize(
    ("terms", "weights", "said"),
    [
        ({}, {}, r"has no terms.*\+reward@reward\.terms\.found=ndcg"),
        ({"a": {"path": "x"}}, {}, r"reward\.terms\.a=\{'path': 'x'\} is no reward"),
        (
            {"found": Letters()},
            {"fuond": 2.0},
            "(?s)weighs no term; the terms are found.*mean 'found'",
        ),
        ({"a": Letters()}, {"a": math.nan}, r"reward\.weights\.a=nan, but a weight is a finite"),
        ({"a": Letters()}, {"a": -math.inf}, r"reward\.weights\.a=-inf"),
    ],
)
def test_sums_that_are_none(terms, weights, said):
    with pytest.raises(ValueError, match=said):
        total(weights=weights, **terms)


def test_one_text_is_worth_the_same_alone_and_among_others():
    reward = total(a=Letters(), weights={"a": 0.1}).bind({"a": Letters()})
    asked = Prompt(prompt_id="q", text="", query="", relevance={})
    together = reward([asked] * 3, ["a", "bcd", "ef"])
    assert together.dtype == torch.float32
    assert torch.equal(together[1:2], reward([asked], ["bcd"]))
