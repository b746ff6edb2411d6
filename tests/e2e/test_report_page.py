"""A finished run read back: scored by another retriever, and shown in the report's explorer."""

import json
import re

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from rlcredit.commands.evaluate import rescore_run
from rlcredit.commands.report import report_runs
from rlcredit.evaluation.on_disk import load_evaluation
from rlcredit.run.folder import count_touches
from tests.e2e.running import ROOT, run

OVERRIDES = (
    "estimator=ospo",
    "evaluation.every=0",
    "evaluation.retrievers=[tfidf]",
    "trainer.steps=2",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, cache):
    """A run, with the settings that Hydra would have left beside it."""
    folder = tmp_path_factory.mktemp("finished")
    run(folder, f"cache={cache}", *OVERRIDES)
    return folder


def composed(root, *overrides):
    """A config of another root than training's, as its script composes it."""
    cfg = compose(root, overrides=list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def test_stored_responses_get_the_scores_that_the_run_gave_them(folder, cache, capsys):
    before = count_touches(folder)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        rescore_run(composed("evaluate", f"run={folder}", "retriever=tfidf", f"cache={cache}"))
    assert "TF-IDF" in capsys.readouterr().out
    assert count_touches(folder) == before + 1

    def scores(retriever, phase):
        found = load_evaluation(folder, "test", phase).scores
        return {cell[1:]: each for cell, each in found.items() if cell.retriever == retriever}

    for phase in ("before", "after"):
        assert scores("tfidf", f"{phase}-tfidf") == scores("tfidf", phase) != scores("bm25", phase)


def test_the_explorer_shows_what_reward_and_estimators_say(folder, cache):
    names = ["grpo", "loo", "random_credit"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        path = report_runs(
            composed(
                "report",
                f"run={folder}",
                "prompts=3",
                f"estimators=[{','.join(names)}]",
                f"cache={cache}",
            )
        )
    assert path == folder / "report.html"
    html = path.read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL).group(1))
    assert [each["name"] for each in data["methods"]] == names
    stored = json.loads((folder / "evaluations" / "test-after.json").read_text())
    after, before = data["runs"]
    assert [run["label"] for run in (after, before)] == [
        "OSPO, seed 0, after training",
        "OSPO, seed 0, before training",
    ]
    assert len(after["prompts"]) == len(before["prompts"]) == 3
    for prompt, texts in zip(after["prompts"], stored["responses"]["sampled"], strict=False):
        assert [each["text"] for each in prompt["responses"]] == texts
        rewards = [each["reward"] for each in prompt["responses"]]
        for response in prompt["responses"]:
            assert "".join(response["tokens"]) == response["text"]
            advantage = response["methods"]["grpo"]["advantages"]
            centred = response["reward"] - sum(rewards) / len(rewards)
            assert all(value * centred > 0 or abs(centred) < 1e-6 for value in advantage)
            check_segments(response, equal=len(set(rewards)) == 1)
            assert all(data["documents"][number] for number, _ in response["found"])


def check_segments(response, *, equal):
    counting = [segment for segment in response["segments"] if segment["counts"]]
    if not counting:
        return
    assert counting[-1]["up_to"] == pytest.approx(response["reward"], abs=1e-6)
    if len(counting) == 1:
        assert counting[0]["alone"] == pytest.approx(response["reward"], abs=1e-6)
    credit = dict(zip(response["segment_of"], response["methods"]["loo"]["credit"], strict=True))
    for index, segment in enumerate(response["segments"]):
        if index in credit and segment["counts"] and not equal:
            marginal = response["reward"] - segment["without"]
            assert credit[index] == pytest.approx(marginal, abs=1e-5)
