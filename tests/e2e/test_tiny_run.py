import json

import pytest
from transformers import AutoModelForCausalLM

from rlcredit.checkpoint.state import full_weights
from tests.e2e.running import composed, metrics, run

BARELY_EVALUATED = (
    "evaluation.every=0",
    "evaluation.max_prompts=1",
    "evaluation.samples=1",
)
EVERYTHING = ("estimator=ospo", "evaluation.retrievers=[tfidf]")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache):
    """A run of OSPO in which everything happens, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, run(folder, f"cache={cache}", *EVERYTHING)


def assert_trained(folder, *, steps):
    lines = metrics(folder, timed=True)
    assert [line["step"] for line in lines] == list(range(steps + 1))
    for line in lines[1:]:
        assert line["train/grad_norm"] > 0
        assert line["segments/per_response"] > 2
        assert line["mismatch/max_abs_logprob"] < 1e-4
        assert line["reward/evaluations"] >= 12
        assert line["time/rollout_s"] > 0
        assert line["time/step_cpu_s"] > 0


@pytest.mark.parametrize(
    "estimator", ["grpo", "random_credit", "prefix", "setpo", "lpo", "otb", "vine"]
)
def test_every_kind_of_estimator_trains(tmp_path, cache, estimator):
    """A name trains for each: rewards alone, segments, prefixes, embeddings, a loss of groups, the
    policy's distributions, and continuations.

    The run above trains with coalitions; the contract holds what every single name promises.
    """
    words = (f"estimator={estimator}", "trainer.steps=2", *BARELY_EVALUATED)
    run(tmp_path, f"cache={cache}", *words)
    assert_trained(tmp_path, steps=2)


def test_a_run_leaves_what_it_promises(finished):
    folder, printed = finished
    assert_trained(folder, steps=4)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["data"] == "generated"
    assert summary["test_touches"] == 2
    assert set(summary["measures"]) >= {
        "bm25/ndcg@10_sampled",
        "tfidf/r@10_greedy",
        "bm25/rr_greedy",
    }
    assert set(summary["credit"]) == {"before", "after"}
    assert [p.name for p in sorted((folder / "checkpoints").iterdir())] == [
        "step-000002",
        "step-000004",
    ]
    weights = full_weights(folder / "checkpoints" / "step-000004")
    model = AutoModelForCausalLM.from_pretrained(folder / "policy")
    exported = dict(model.named_parameters())
    assert len(weights) > 10
    assert all((exported[name] == value).all() for name, value in weights.items())
    responses = [json.loads(x) for x in (folder / "completions.jsonl").read_text().splitlines()]
    assert len(responses) == 4 * 3 * 4
    assert any(s["credit"] for row in responses for s in row["segments"])
    assert (folder / "trec" / "test.qrels").exists()
    assert len(list((folder / "trec" / "test-after").glob("*.run.gz"))) >= 6
    assert "data: generated" in printed
    assert "BM25" in printed
    lines = metrics(folder)
    assert [line["step"] for line in lines if _validated(line)] == [0, 2, 4]
    assert not any("tfidf" in name for line in lines for name in line), "no retriever for curves"


def test_without_steps_the_policy_is_scored_as_it_is(tmp_path, cache):
    run(tmp_path, f"cache={cache}", *BARELY_EVALUATED, "evaluation.every=2", "trainer.steps=0")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["status"] == "finished"
    for change in summary["measures"].values():
        assert change["before"] == change["after"]
        assert change["difference"]["mean"] == 0
    assert [line["step"] for line in metrics(tmp_path) if _validated(line)] == [0]


SETS = ("dataset.candidates=2", "rollout.max_new_tokens=48", "evaluation.every=0")


def test_credit_of_candidates_trains_on_a_task_of_sets(tmp_path, cache):
    printed = run(tmp_path, f"cache={cache}", "estimator=shape", "trainer.steps=2", *SETS)
    for line in metrics(tmp_path)[1:]:
        assert line["train/grad_norm"] > 0
        assert line["candidates/per_response"] > 1
        assert line["reward/evaluations"] >= 12
    measures = json.loads((tmp_path / "summary.json").read_text())["measures"]
    for source in ("sampled", "greedy"):
        best, mean, worst = (
            measures[f"bm25/ndcg@10{kind}_{source}"]["after"]["mean"]
            for kind in ("", "-mean-of-k", "-worst-of-k")
        )
        assert best >= mean >= worst
        assert 0 <= measures[f"bm25/complete_{source}"]["after"]["mean"] <= 1
    assert "mean of k" in printed
    runs = {path.name for path in (tmp_path / "trec" / "test-after").iterdir()}
    assert {"bm25.greedy.c2.run.gz", "bm25.sampled.c1-0.run.gz", "bm25.rm3.run.gz"} <= runs


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("estimator=shape",), r"set dataset\.candidates=4"),
        (("estimator=loo", "dataset.candidates=3"), r"or dataset\.candidates=0"),
    ],
)
def test_candidates_that_nobody_writes_or_reads_are_refused_before_loading(overrides, said):
    with pytest.raises(ValueError, match=said):
        composed(*overrides)


def test_a_length_cap_without_room_for_the_set_is_refused_with_the_number(tmp_path, cache):
    with pytest.raises(ValueError, match=r"set rollout\.max_new_tokens=\d+ or more"):
        run(tmp_path, f"cache={cache}", *SETS, "rollout.max_new_tokens=8")


def _validated(line):
    return "eval/validation/bm25/ndcg@10_sampled" in line


def test_a_finished_run_is_reported_and_not_run_again(finished, cache):
    folder, _ = finished
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    printed = run(folder, f"cache={cache}", *EVERYTHING)
    assert "finished" in printed
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()} == before


def test_grpo_learns_to_search(tmp_path, cache):
    settings = ("trainer.steps=20", "trainer.prompts_per_step=10", "trainer.group_size=8")
    run(tmp_path, f"cache={cache}", *settings, *BARELY_EVALUATED)
    rewards = [line["reward/mean"] for line in metrics(tmp_path)[1:]]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.05
