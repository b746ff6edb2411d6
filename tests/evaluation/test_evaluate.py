"""Evaluations: the same draws each time, every retriever and measure, baselines, true files."""

import gzip
from collections import Counter
from dataclasses import replace

import ir_measures
import numpy as np
import pytest
import torch

from rlcredit.estimators.constructions import Additive
from rlcredit.estimators.grpo import GRPO
from rlcredit.estimators.ospo import OSPO
from rlcredit.estimators.utilities import Max
from rlcredit.estimators.values import LeaveOneOut
from rlcredit.evaluation.cells import MEASURES, TREC_MEASURES, Cell, Source
from rlcredit.evaluation.evaluate import Evaluator, first_prompts
from rlcredit.evaluation.expansion import Expansion
from rlcredit.evaluation.graders import SearchGrader
from rlcredit.evaluation.scores import score_responses, score_texts, scored_text, search_texts
from rlcredit.evaluation.trec import DEPTH, write_qrels, write_runs
from rlcredit.retrieval.base import Documents
from rlcredit.retrieval.bm25 import BM25
from rlcredit.retrieval.linear import LSA, TFIDF
from rlcredit.retrieval.measures import NDCG, Recall, ReciprocalRank
from rlcredit.rewards.ranking import Ranking, Scope
from rlcredit.rollout.hf import HFRollout
from rlcredit.scoring.scorer import Scorer
from rlcredit.tasks.settings import oracle_text
from rlcredit.text.response import TextRules
from rlcredit.text.segmenters import Phrases
from rlcredit.types import Prompt, Randomness
from tests.policy.toy import toy_policy

NOUNS = ("tent", "lamp", "boots", "kettle", "backpack", "chair")
KINDS = ("red", "waterproof", "steel", "soft")
DOCUMENTS = Documents(
    ids=tuple(f"p{n}{k}" for n in range(6) for k in range(4)),
    texts=tuple(f"{noun} {kind} quiet" for noun in NOUNS for kind in KINDS),
)
RULES = TextRules(max_phrases=8, max_words=3, unique=True)
ORACLES = {
    "nDCG@10": ir_measures.nDCG(gains={3: 100, 2: 10, 1: 1}) @ 10,
    "RR": ir_measures.RR(rel=3),
    "R@10": ir_measures.R(rel=3) @ 10,
}
FURTHER = {
    "nDCG@100": ir_measures.nDCG(gains={3: 100, 2: 10, 1: 1}) @ 100,
    "R@50": ir_measures.R(rel=3) @ 50,
    "R@100": ir_measures.R(rel=3) @ 100,
    "AP": ir_measures.AP(rel=3),
}


def prompts(count=5):
    """Prompt i wants noun i of kind i; other kinds of the noun are substitutes (grade 2)."""
    made = []
    for i in range(count):
        noun, kind = i % len(NOUNS), i % len(KINDS)
        grades = {f"p{noun}{k}": 3 if k == kind else 2 for k in range(4)}
        made.append(
            Prompt(
                prompt_id=f"q{i}",
                text=f"{NOUNS[noun]} for two",
                query=f"a {NOUNS[noun]}",
                relevance=grades,
                pool=DOCUMENTS.ids,
                truth={
                    NOUNS[noun]: "noun",
                    f"{NOUNS[noun]}s": "noun",
                    KINDS[kind]: "kind",
                    "very " + KINDS[kind]: "kind",
                },
            )
        )
    return tuple(made)


@pytest.fixture(scope="module")
def policy():
    return toy_policy(steps=60)


@pytest.fixture(scope="module")
def rewards(tmp_path_factory):
    cache = tmp_path_factory.mktemp("indexes")
    ranking = Ranking(measure=NDCG(), utility=Max())
    return {
        "bm25": ranking.bind(BM25().index(DOCUMENTS, cache=cache)),
        "tfidf": ranking.bind(TFIDF().index(DOCUMENTS, cache=cache)),
    }


@pytest.fixture(scope="module")
def evaluator(rewards, tmp_path_factory):
    return Evaluator(
        grader=SearchGrader(
            rules=RULES,
            reward=rewards["bm25"],
            rewards=rewards,
            catalogue=DOCUMENTS,
            set_utility=Max(),
            expansion=Expansion.of(
                DOCUMENTS,
                Ranking(measure=NDCG(), utility=Max()),
                cache=tmp_path_factory.mktemp("expansion"),
            ),
        ),
        rollout=HFRollout(max_new_tokens=16),
        scorer=Scorer(reward=rewards["bm25"], rules=RULES, segmenter=Phrases()),
        estimator=OSPO(value=LeaveOneOut(), construction=Additive()),
        samples=3,
        seed=0,
    )


@pytest.fixture(scope="module")
def evaluation(evaluator, policy):
    return evaluator(policy, prompts(), split="test", phase="before")


def test_the_length_of_a_query_is_a_measure_of_its_own(evaluation):
    """As many words as were searched: the mean over a prompt's samples."""
    values = evaluation.scores[Cell("", "words", Source.query)]
    assert values == tuple(float(len(prompt.query.split())) for prompt in prompts())
    scored = [
        [len(scored_text(RULES, prompt, text).split()) for text in own]
        for prompt, own in zip(prompts(), evaluation.responses[Source.sampled], strict=True)
    ]
    found = evaluation.scores[Cell("", "words", Source.sampled)]
    assert found == pytest.approx([sum(own) / len(own) for own in scored])


def test_every_retriever_measure_and_writer_has_a_score_of_every_prompt(evaluation):
    ranked = {
        Cell(retriever, measure, source)
        for retriever in ("bm25", "tfidf")
        for measure in ORACLES
        for source in Source
    }
    writers = set(Source) - {Source.rm3}  # which repeats a term for its weight
    assert set(evaluation.scores) == ranked | {Cell("", "words", source) for source in writers}
    assert evaluation.prompt_ids == ("q0", "q1", "q2", "q3", "q4")
    for cell, values in evaluation.scores.items():
        assert len(values) == 5
        assert all(0 <= value <= 1 + 1e-12 for value in values) or cell not in ranked
    assert (evaluation.split, evaluation.phase) == ("test", "before")


def test_scores_are_the_measures_of_the_scored_texts(evaluation, rewards):
    wanted = prompts()
    texts = [
        [RULES.search_text(RULES.scored_span(text).of(text), query="") for text in own]
        for own in evaluation.responses[Source.sampled]
    ]
    for name, reward in rewards.items():
        for measure in (NDCG(), ReciprocalRank(), Recall()):
            expected = [
                np.mean([float(measure(*reward.ranked([prompt], [text]))) for text in own])
                for prompt, own in zip(wanted, texts, strict=True)
            ]
            found = evaluation.scores[Cell(name, measure.name, Source.sampled)]
            assert found == pytest.approx(expected, abs=1e-12)


def test_the_training_reward_is_the_ndcg_of_its_retriever(evaluation, rewards):
    wanted = prompts()
    texts = [
        RULES.search_text(RULES.scored_span(text).of(text), query="")
        for (text,) in evaluation.responses[Source.greedy]
    ]
    rewarded = rewards["bm25"](wanted, texts).tolist()
    found = evaluation.scores[Cell("bm25", "nDCG@10", Source.greedy)]
    assert found == pytest.approx(rewarded, abs=1e-6)


def test_two_evaluations_of_one_policy_are_equal_and_another_seed_is_not(
    evaluator, policy, evaluation
):
    again = evaluator(policy, prompts(), split="test", phase="before")
    assert again == evaluation
    other = replace(evaluator, seed=1)(policy, prompts(), split="test", phase="before")
    assert other.responses[Source.sampled] != evaluation.responses[Source.sampled]
    assert other.responses[Source.greedy] == evaluation.responses[Source.greedy]


def test_samples_of_a_prompt_differ_and_are_none_of_training_s(evaluator, policy, evaluation):
    sampled = evaluation.responses[Source.sampled]
    assert any(len(set(own)) > 1 for own in sampled)
    rolled = evaluator.rollout(
        policy, prompts(), group_size=3, randomness=Randomness(seed=0, step=1)
    )
    assert rolled.texts != sampled


@pytest.mark.parametrize("batch", [1, 2])
def test_batches_change_no_score_and_no_response(evaluator, policy, evaluation, batch):
    other = replace(evaluator, prompts_per_batch=batch)(
        policy, prompts(), split="test", phase="before"
    )
    assert other.responses == evaluation.responses
    for cell, values in evaluation.scores.items():
        assert other.scores[cell] == pytest.approx(values, abs=1e-6)
    assert other.credit.rho == pytest.approx(evaluation.credit.rho, abs=1e-9)


def test_the_raw_query_is_not_cut_by_the_rules_of_the_task(evaluator):
    (long,) = (replace(prompts(1)[0], query="a tent for two old friends"),)
    texts = search_texts(evaluator.scorer.rules, [long], {}, expansion=evaluator.grader.expansion)
    assert texts[Source.query] == [["a tent for two old friends"]]


def test_rm3_expands_the_raw_query_with_words_of_what_it_finds(evaluator, evaluation):
    (text,) = evaluator.grader.expansion([prompts()[1]])
    counts = Counter(text.split())
    # the four lamps are found, "lamp <kind> quiet": half of the weight is the query's one word, and
    # of the other half a third each goes to "lamp", to "quiet", and to the four kinds together
    assert counts == {"lamp": 67, "quiet": 17, **dict.fromkeys(KINDS, 4)}
    assert len(evaluation.scores[Cell("tfidf", "nDCG@10", Source.rm3)]) == 5


def test_rm3s_repetitions_are_weights_for_every_retriever_whatever_a_repeated_word_counts(tmp_path):
    def scored(k3):
        rewards = {
            name: Ranking(measure=NDCG(), utility=Max()).bind(made.index(DOCUMENTS, cache=tmp_path))
            for name, made in {
                "bm25": BM25(k3=k3),
                "tfidf": TFIDF(k3=k3),
                "lsa": LSA(dimensions=4, k3=k3),
            }.items()
        }
        texts = {Source.rm3: [["lamp lamp lamp quiet"]], Source.greedy: [["lamp lamp lamp quiet"]]}
        wanted = prompts()[1:2]
        write_runs(tmp_path / str(k3), wanted, {str(k): v for k, v in texts.items()}, rewards)
        return score_texts(rewards, wanted, texts)

    once, linear = scored(0.0), scored(None)
    assert once.keys() == linear.keys()
    rm3 = {cell: values for cell, values in once.items() if cell.source is Source.rm3}
    assert rm3 == {cell: linear[cell] for cell in rm3}

    def run(k3, name):
        return gzip.decompress((tmp_path / k3 / f"{name}.run.gz").read_bytes())

    for name in ("bm25", "tfidf", "lsa"):
        assert run("0.0", f"{name}.rm3") == run("None", f"{name}.rm3")
        assert run("0.0", f"{name}.greedy") != run("None", f"{name}.greedy")


def test_the_oracle_writes_the_first_wording_of_every_true_attribute(evaluator, evaluation):
    assert oracle_text(prompts()[1]) == "lamp, waterproof"
    texts = search_texts(
        evaluator.scorer.rules, prompts(), {}, expansion=evaluator.grader.expansion
    )
    assert texts[Source.oracle][1] == ["lamp, waterproof"]
    assert evaluation.scores[Cell("bm25", "RR", Source.oracle)] == (1.0,) * 5
    query = np.mean(evaluation.scores[Cell("bm25", "nDCG@10", Source.query)])
    assert query < np.mean(evaluation.scores[Cell("bm25", "nDCG@10", Source.oracle)])


def test_data_without_truth_have_no_oracle_and_no_check_of_credit(evaluator, policy):
    blind = tuple(replace(prompt, truth={}) for prompt in prompts(2))
    evaluation = evaluator(policy, blind, split="test", phase="after")
    assert Source.oracle not in {cell.source for cell in evaluation.scores}
    assert evaluation.credit is None


def test_logged_names_are_split_retriever_measure_and_writer(evaluation):
    metrics = evaluation.metrics()
    assert set(metrics) == {
        f"eval/test/{retriever}/{measure}_{source}"
        for retriever in ("bm25", "tfidf")
        for measure in ("ndcg@10", "rr", "r@10")
        for source in ("sampled", "greedy")
    } | {"eval/test/words", "eval/test/words_greedy"}
    values = evaluation.scores[Cell("bm25", "RR", Source.sampled)]
    assert metrics["eval/test/bm25/rr_sampled"] == pytest.approx(sum(values) / 5)


def test_examples_carry_the_credit_that_the_estimator_gives(evaluator, policy, evaluation):
    written = dict(zip(evaluation.prompt_ids, evaluation.responses[Source.sampled], strict=True))
    assert all(each.response in written[each.prompt_id] for each in evaluation.examples)
    for example in evaluation.examples:
        phrases = [part.strip() for part in example.response.split(",")[:8]]
        assert [s.text for s in example.segments] == [phrase for phrase in phrases if phrase]
        assert all(segment.credit is not None for segment in example.segments)
    assert evaluation.credit is not None
    assert evaluation.credit.counted + evaluation.credit.skipped == 5 * 3


def test_examples_are_drawn_by_the_seed_and_are_of_the_same_prompts_before_and_after(
    evaluator, policy, evaluation
):
    ids = [example.prompt_id for example in evaluation.examples]
    assert ids == sorted(set(ids))
    assert len(ids) == 3
    again = evaluator(policy, prompts(), split="test", phase="after")
    assert [example.prompt_id for example in again.examples] == ids
    batches = replace(evaluator, prompts_per_batch=1)(policy, prompts(), split="test", phase="1")
    assert [example.response for example in batches.examples] == [
        example.response for example in evaluation.examples
    ]
    drawn = {
        tuple(
            example.prompt_id
            for example in replace(evaluator, seed=seed)(
                policy, prompts(), split="test", phase="before"
            ).examples
        )
        for seed in range(6)
    }
    assert len(drawn) > 2


def test_credit_of_leave_one_out_follows_the_truth_here(evaluator, policy):
    wanted = prompts(24)
    evaluation = evaluator(policy, wanted, split="validation", phase="0")
    rho = list(evaluation.credit.rho.values())
    assert len(rho) > 5
    assert np.mean(rho) > 0.2


def test_credit_is_checked_on_the_first_prompts_alone(evaluator, policy):
    few = replace(evaluator, max_credit_prompts=2, prompts_per_batch=1)
    evaluation = few(policy, prompts(), split="test", phase="before")
    assert evaluation.credit.counted + evaluation.credit.skipped == 2 * 3
    assert set(evaluation.credit.rho) <= {"q0", "q1"}


def test_characters_of_tokens_are_found_where_credit_is_checked_alone(evaluator, policy):
    found = []

    class Watched(HFRollout):
        def __call__(self, *arguments, **settings):
            rollouts = super().__call__(*arguments, **settings)
            found.append((settings["greedy"], rollouts.char_spans is not None))
            return rollouts

    few = replace(evaluator, max_credit_prompts=1, prompts_per_batch=1)
    few = replace(few, rollout=Watched(max_new_tokens=4))
    few(policy, prompts(2), split="test", phase="before")
    assert found == [(True, False), (False, True), (True, False), (False, False)]


def test_methods_without_segment_credit_have_no_check_but_examples(evaluator, policy):
    evaluation = replace(evaluator, estimator=GRPO())(
        policy, prompts(2), split="test", phase="before"
    )
    assert evaluation.credit is None
    assert all(s.credit is None for e in evaluation.examples for s in e.segments)


def test_one_sample_a_prompt_is_scored_without_a_check_of_credit(evaluator, policy):
    evaluation = replace(evaluator, samples=1)(policy, prompts(2), split="test", phase="before")
    assert evaluation.credit is None
    assert len(evaluation.responses[Source.sampled][0]) == 1


def test_an_evaluation_of_nothing_is_refused(evaluator, policy):
    with pytest.raises(ValueError, match=r"the test split holds no prompt.*max_prompts"):
        evaluator(policy, (), split="test", phase="before")
    with pytest.raises(ValueError, match=r"evaluation.samples=0"):
        replace(evaluator, samples=0)


def test_the_first_prompts_of_a_batch_are_its_first_rows(evaluator, policy):
    rolled = evaluator.rollout(
        policy, prompts(), group_size=2, randomness=Randomness(seed=0, step=3)
    )
    first = first_prompts(rolled, 2)
    assert first.texts == rolled.texts[:2]
    assert first.prompts == rolled.prompts[:2]
    assert torch.equal(first.response_ids, rolled.response_ids[:2])
    assert torch.equal(first.finished, rolled.finished[:2])
    assert first_prompts(rolled, 9).texts == rolled.texts


def test_measures_computed_from_the_files_are_ours(evaluator, evaluation, rewards, tmp_path):
    wanted = prompts()
    texts = search_texts(
        evaluator.scorer.rules, wanted, evaluation.responses, expansion=evaluator.grader.expansion
    )
    write_qrels(tmp_path / "test.qrels", wanted)
    named = {str(source): rows for source, rows in texts.items()}
    write_runs(tmp_path / "test-before", wanted, named, rewards)
    qrels = list(ir_measures.read_trec_qrels(str(tmp_path / "test.qrels")))
    files = {path.name.removesuffix(".run.gz") for path in (tmp_path / "test-before").iterdir()}
    sampled = [f"sampled-{k}" for k in range(3)]
    assert files == {
        f"{retriever}.{who}"
        for retriever in rewards
        for who in ("greedy", "query", "rm3", "oracle", *sampled)
    }
    scores = score_responses(
        rewards,
        evaluator.scorer.rules,
        wanted,
        evaluation.responses,
        expansion=evaluator.grader.expansion,
        measures=TREC_MEASURES,
    )
    assert {cell.measure for cell in scores} == {*ORACLES, *FURTHER}
    searched = {cell: own for cell, own in evaluation.scores.items() if cell.retriever}
    assert searched == {cell: scores[cell] for cell in searched}
    for (retriever, measure, source), ours in scores.items():
        names = sampled if source is Source.sampled else [str(source)]
        found = np.zeros(5)
        for name in names:
            path = tmp_path / "test-before" / f"{retriever}.{name}.run.gz"
            run = list(ir_measures.read_trec_run(str(path)))
            for value in ir_measures.iter_calc([(ORACLES | FURTHER)[measure]], qrels, run):
                found[int(value.query_id[1:])] += value.value / len(names)
        assert ours == pytest.approx(found.tolist(), abs=1e-6)


def test_what_run_files_do_not_say_is_not_scored(tmp_path):
    """A catalogue of more documents than a run file has ranks, the relevant one at the very end."""
    size = DEPTH + 5
    documents = Documents(ids=tuple(f"d{i:04}" for i in range(size)), texts=("tent",) * size)
    whole = Ranking(measure=NDCG(), utility=Max(), scope=Scope.catalogue)
    reward = whole.bind(BM25().index(documents, cache=tmp_path))
    wanted = [
        Prompt(prompt_id=f"q{at}", text="", query="", relevance={f"d{at:04}": 3}) for at in (4, 6)
    ]  # ties go to the larger id: ranks 1001 and 999
    texts = {Source.query: [["tent"]] * 2}
    scores = score_texts({"bm25": reward}, wanted, texts, measures=TREC_MEASURES)
    assert scores[Cell("bm25", "RR", Source.query)] == (0.0, 1 / 999)
    assert scores[Cell("bm25", "AP", Source.query)] == (0.0, 1 / 999)
    assert scores[Cell("bm25", "nDCG@10", Source.query)] == (0.0, 0.0)


def test_what_a_run_scores_is_a_part_of_what_papers_report():
    assert [measure.name for measure in MEASURES] == list(ORACLES)
    assert [measure.name for measure in TREC_MEASURES] == [*ORACLES, *FURTHER]


def test_ids_with_white_space_cannot_stand_in_a_file(tmp_path):
    with pytest.raises(ValueError, match="'q 0' holds white space"):
        write_qrels(tmp_path / "x.qrels", [replace(prompts(1)[0], prompt_id="q 0")])
