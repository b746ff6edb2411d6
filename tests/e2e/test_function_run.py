"""A run on a reward of one's own: trained, resumed, and read back where its code is allowed."""

import json
import sys

import pytest
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from rlcredit.commands.evaluate import rescore_run
from rlcredit.commands.replay import replay_refused
from rlcredit.commands.report import report_runs
from rlcredit.commands.transfer import transfer_runs
from rlcredit.evaluation.on_disk import load_evaluation
from tests.composing import RUNS
from tests.e2e.running import composed, metrics, run

REWARD = """
calls = []

async def score(texts, rows):
    calls.append(len(texts))
    new = [set(text.split()) - set(row["query"].split()) for text, row in zip(texts, rows)]
    return [len(words) / 8 for words in new]
"""
OWN = ("reward=function", "reward.path=own_lab.rewards:score")
GRPO = "estimators=[grpo]"
WORDS = (*OWN, "estimator=ospo", "trainer.steps=2", "trainer.checkpoint_every=1")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A package of one's own, importable within these tests."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "own_lab").mkdir()
    (folder / "own_lab" / "rewards.py").write_text(REWARD)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in ("own_lab", "own_lab.rewards"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, lab, cache):
    folder = tmp_path_factory.mktemp("own")
    printed = run(folder, f"cache={cache}", *WORDS, "allow=[own_lab]")
    return folder, printed


def read(command, name, *words):
    """What a command makes of these words."""
    with RUNS.hydra():
        cfg = compose(name, overrides=list(words), return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        return command(cfg)


def test_a_run_learns_from_parts_and_reports_its_mean(trained):
    folder, printed = trained
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["headline"] == "reward"
    assert set(summary["measures"]) == {"reward", "reward_greedy"}
    assert len(summary["identity"]["reward"]["content"][0]) == 64
    lines = metrics(folder)
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert all(line["reward/evaluations"] > 12 for line in lines[1:])  # responses, and coalitions
    assert "own_lab.rewards:score, version" in printed


def test_a_stopped_run_goes_on_with_the_same_numbers(trained, tmp_path, cache, monkeypatch):
    whole, _ = trained

    words = (f"cache={cache}", *WORDS)
    module = sys.modules["own_lab.rewards"]
    asked = module.score

    async def fails_later(texts, rows):
        if (tmp_path / "metrics.jsonl").exists() and len(metrics(tmp_path)) > 1:
            raise ConnectionError("no route to the judge")
        return await asked(texts, rows)

    fails_later.__module__ = "own_lab.rewards"
    monkeypatch.setattr(module, "score", fails_later)
    with pytest.raises(RuntimeError, match="raised ConnectionError: no route to the judge"):
        run(tmp_path, *words, "allow=[own_lab]")
    assert [line["step"] for line in metrics(tmp_path)] == [0, 1]
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"allow=\[own_lab\]"):
        run(tmp_path, *words)
    assert "going on after step 1" in run(tmp_path, *words, "allow=[own_lab]")
    assert metrics(tmp_path) == metrics(whole)
    one, other = (load_evaluation(folder, "test", "after") for folder in (whole, tmp_path))
    assert one.responses == other.responses
    assert one.scores == other.scores


def test_a_stored_run_is_evaluated_where_its_code_is_allowed(trained, cache):
    folder, _ = trained
    words = (f"run={folder}", "retriever=tfidf", f"cache={cache}")
    with pytest.raises(ValueError, match=r"config\.yaml: reward.*own_lab.*allow=\[own_lab\]"):
        read(rescore_run, "evaluate", *words)
    read(rescore_run, "evaluate", *words, "allow=[own_lab]")
    again = load_evaluation(folder, "test", "after-tfidf")
    assert again.scores == load_evaluation(folder, "test", "after").scores


def test_reports_matrices_and_replays_ask_for_the_word_too(trained, tmp_path, cache):
    folder, _ = trained
    allow, kept = "allow=[own_lab]", f"cache={cache}"
    asked = (
        (report_runs, "report", f"run={folder}", f"out={tmp_path / 'page.html'}", kept, GRPO),
        (transfer_runs, "transfer", f"runs={folder}", f"out={tmp_path / 'matrix'}", kept),
        (replay_refused, "replay", f"batch={folder / 'failed_batch'}", kept),
    )
    for each in asked:
        with pytest.raises(ValueError, match=r"allow=\[own_lab\]"):
            read(*each)
    page, matrix, replayed = asked
    assert "reward" in read(*page, allow).read_text()
    with pytest.raises(ValueError, match="trained on Function, which is no retriever"):
        read(*matrix, allow)
    with pytest.raises((ValueError, OSError), match="failed_batch"):
        read(*replayed, allow)


def test_a_file_that_names_the_code_does_not_allow_it(trained, cache):
    folder, _ = trained
    saved = OmegaConf.load(folder / ".hydra" / "config.yaml")
    assert saved.allow == ["own_lab"]  # what the command said then; it allows nothing now
    with pytest.raises(ValueError, match=r"allow=\[own_lab\]"):
        read(rescore_run, "evaluate", f"run={folder}", "retriever=tfidf", f"cache={cache}")


def test_parts_without_meaning_are_not_credited(lab):
    words = (*OWN, "allow=[own_lab]", "reward.parts=false")
    with pytest.raises(ValueError, match="asks for the reward of parts of a response"):
        composed(*words, "estimator=ospo")
    assert not composed(*words, "estimator=grpo").reward.parts


def test_sets_of_candidates_are_trained_and_graded(lab, tmp_path, cache):
    few = ("trainer.steps=1", "evaluation.every=0", "evaluation.max_prompts=2")
    words = (*OWN, "allow=[own_lab]", "estimator=shape", "dataset.candidates=2", *few)
    run(tmp_path, f"cache={cache}", *words)
    after = load_evaluation(tmp_path, "test", "after")
    assert {cell.name for cell in after.scores} == {"reward", "reward_greedy"}
