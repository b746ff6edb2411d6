"""Runs on verified answers: what they measure, leave behind, and refuse."""

import json
from pathlib import Path

import pytest
from omegaconf.errors import InterpolationKeyError

from rlcredit.commands.errors import explain
from rlcredit.evaluation.cells import Cell, Source
from rlcredit.evaluation.on_disk import load_evaluation
from tests.e2e.running import SMALL, composed, metrics, run

SHARED = Path(__file__).parents[3] / "shared" / "data"
COUNTDOWN = (
    "dataset=countdown",
    "dataset.max_train=60",
    "dataset.max_validation=10",
    "dataset.max_test=10",
    "policy.warm_start.steps=60",
)


@pytest.fixture(scope="module")
def verified(tmp_path_factory, cache):
    """A run of GRPO on Countdown, and what it printed."""
    folder = tmp_path_factory.mktemp("verified")
    return folder, run(folder, f"cache={cache}", *COUNTDOWN)


def assert_trained(folder, *, steps):
    lines = metrics(folder)
    assert [line["step"] for line in lines] == list(range(steps + 1))
    assert all(0 <= line["reward/mean"] <= 1 for line in lines[1:])
    assert "text/document_copied_share" not in lines[1]
    for line in (lines[0], lines[-1]):
        assert line["eval/validation/pass@1"] <= line["eval/validation/pass@3"]
        assert {"eval/validation/width", "eval/validation/mode"} <= line.keys()


def test_a_verified_run_reports_pass_at_k_width_and_mode(verified):
    folder, printed = verified
    assert_trained(folder, steps=4)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["headline"] == "pass@1"
    assert summary["measures"].keys() == {
        "pass@1",
        "pass@2",
        "pass@3",
        "pass@1_greedy",
        "well-formed",
        "well-formed_greedy",
        "solutions",
    }
    assert summary["figures"].keys() == {"before", "after"}
    assert summary["figures"]["after"].keys() == {"width", "mode"}
    text = " ".join(printed.split())
    assert "verified by rule: 1 correct, 0.1 well-formed, 0 else" in text
    assert "Pass@2" in printed
    assert "Pass@3" not in printed  # on disk, not in the table
    assert "trained on" not in printed
    assert "width: " in printed
    assert not (folder / "trec").exists()


@pytest.mark.parametrize("estimator", ["setpo", "lpo", "maxrl"])
def test_methods_of_whole_responses_train_on_countdown(tmp_path, cache, estimator):
    """One has embeddings, one a loss of groups, one divides by a mean that may be 0."""
    run(tmp_path, f"cache={cache}", f"estimator={estimator}", *COUNTDOWN, "trainer.steps=2")
    assert_trained(tmp_path, steps=2)


def test_the_files_of_an_evaluation_say_how_pass_at_k_came_about(verified):
    folder, _ = verified
    evaluation = load_evaluation(folder, "test", "after")
    lines = (folder / "solutions" / "test-after.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["prompt_id"] for record in records] == list(evaluation.prompt_ids)
    shares = [record["correct"] / record["samples"] for record in records]
    assert evaluation.values(Cell("", "pass@1", Source.sampled)) == pytest.approx(shares)
    distinct = [len(record["solutions"]) for record in records]
    assert evaluation.values(Cell("", "solutions", Source.sampled)).tolist() == distinct
    assert evaluation.figures["width"] == sum(count >= 2 for count in distinct)


@pytest.mark.parametrize("estimator", ["ospo", "prefix", "loo", "random_credit"])
def test_credit_of_parts_is_refused_where_whole_answers_are_verified(estimator):
    with pytest.raises(ValueError, match="asks for the reward of parts of a response"):
        composed(*COUNTDOWN, f"estimator={estimator}")


def test_credit_of_candidates_is_refused_without_the_advice_to_ask_for_them():
    with pytest.raises(InterpolationKeyError) as caught:
        composed(*COUNTDOWN, "estimator=shape")
    said = explain(caught.value)
    assert "reward.utility" in said
    assert "choose components that go together" in said
    assert "dataset.candidates" not in said


def test_a_reward_of_another_kind_of_task_is_refused(tmp_path, cache):
    with pytest.raises(ValueError, match="dataset=countdown has no documents"):
        run(tmp_path / "a", f"cache={cache}", *COUNTDOWN, "reward=ndcg")
    with pytest.raises(ValueError, match="has no problem whose answers could be verified"):
        run(tmp_path / "b", f"cache={cache}", "reward=verifier", "dataset.max_train=4")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no GSM8K files and no language model in {SHARED}")
def test_a_pretrained_model_trains_on_published_word_problems(tmp_path):
    run(
        tmp_path,
        "dataset=gsm8k",
        "dataset.source=path",
        f"dataset.path={SHARED / 'gsm8k'}",
        "dataset.max_train=40",
        "policy=hf",
        f"policy.name={SHARED / 'stories260k'}",
        "trainer.steps=2",
        "trainer.optimizer.lr=1e-4",
        "rollout.max_new_tokens=24",
        "evaluation.max_prompts=4",
        small=[word for word in SMALL if not word.startswith("policy.")],
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["headline"] == "pass@1"
    assert summary["data"] == "path"
    rows = [json.loads(x) for x in (tmp_path / "completions.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 3 * 4
    assert all(row["prompt"].endswith(r"\boxed{}.") for row in rows)
    assert {round(row["reward"], 6) for row in rows} <= {0.0, 0.1, 1.0}


def test_no_segment_is_looked_for_where_answers_are_verified_as_a_whole(verified):
    folder, printed = verified
    assert not {name for name in metrics(folder)[1] if name.startswith("segments/")}
    rows = [json.loads(x) for x in (folder / "completions.jsonl").read_text().splitlines()]
    assert {len(row["segments"]) for row in rows} == {0}
    table = [json.loads(x) for x in (folder / "responses.jsonl").read_text().splitlines()]
    assert {len(row["response"]) for row in table} == {1}
    assert "gaming the segmentation" not in printed
