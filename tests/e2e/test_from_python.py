"""A run from a program is the run of the command line, and its files are data frames."""

import pytest
from hydra.core.hydra_config import HydraConfig

import rlcredit
from tests.e2e.running import SMALL, metrics
from tests.e2e.running import run as by_command


def test_a_run_from_python_is_that_of_the_command_line(tmp_path, cache):
    words = [*SMALL, "estimator=loo", "dataset=esci", "trainer.steps=2", f"cache={cache}"]
    before = HydraConfig.instance().cfg
    found = rlcredit.train([*words, f"hydra.run.dir={tmp_path / 'python'}"])
    assert HydraConfig.instance().cfg is before
    by_command(tmp_path / "command", *words, small=())
    assert metrics(tmp_path / "python") == metrics(tmp_path / "command")
    assert found.summary["status"] == "finished"

    told = found.metrics_frame()
    assert told["step"].max() == 2
    assert told["reward/mean"].notna().any()
    responses = found.responses_frame()
    assert len(responses) == 2 * 3 * 4
    assert isinstance(responses["segments"][0], list)
    scores = found.scores_frame()
    assert set(scores.query("split == 'test'")["phase"]) == {"before", "after"}
    sampled = scores.query("measure == 'nDCG@10' and source == 'sampled' and phase == 'after'")
    name = "bm25/ndcg@10_sampled"
    assert sampled["score"].mean() == pytest.approx(
        found.summary["measures"][name]["after"]["mean"]
    )

    again = rlcredit.train([*words, f"hydra.run.dir={tmp_path / 'python'}"])  # is only read
    assert again.summary == found.summary


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("estimator=ospo", "is one text; give a list"),
        (["-m", "seed=0,1"], "-m is a flag"),
        (["estimator=osop"], "did you mean 'ospo'"),
        (["trainer.stpes=3"], "steps"),
        (["trainer.group_size=1"], "trainer.group_size=1"),
    ],
)
def test_words_that_are_none_are_refused_with_the_remedy(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=said):
        rlcredit.train(words)
    assert not any(tmp_path.iterdir())
