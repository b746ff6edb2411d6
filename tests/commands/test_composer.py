"""A choice of components is composed once; what is set in its copies is what Hydra sets."""

import pytest
from hydra import compose
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ValidationError

from rlcredit.commands.composer import Composer
from rlcredit.commands.conf import conf_folder
from rlcredit.commands.errors import explain
from rlcredit.commands.schema import register


@pytest.fixture(scope="module")
def composer():
    register()
    return Composer(folder=conf_folder())


OSPO = ("estimator=ospo", "dataset=esci")


@pytest.mark.parametrize(
    "words",
    [
        (*OSPO, "trainer.steps=9", "evaluation.retrievers=[tfidf,bm25]", "trainer.steps=8"),
        ("trainer.steps=9", *OSPO, "rollout.max_new_tokens=7"),
        (*OSPO, "trainer.optimizer.lr=1e-3", "trainer.max_advantage=null", "seed=3"),
        (*OSPO, "estimator/value=leave_one_out", "size=smoke", "policy.warm_start.steps=7"),
        ("estimator=setpo", "estimator@estimator.base=ospo", "estimator.base.clip=2"),
        ("policy=hf", "policy.name=x", "+policy.chat_options.budget=3", "loss=dr_grpo"),
        (*OSPO, "policy.name='a, b'", "policy=hf"),
        (*OSPO, "hydra.mode=MULTIRUN", "trainer.steps=3"),
    ],
)
def test_a_config_is_what_hydra_composes_from_the_same_words(composer, words):
    with composer.hydra():
        expected = compose("train", list(words), return_hydra_config=True)
    found = composer(words)
    for cfg in (found, expected):
        cfg.hydra.job.override_dirname = "of tasks that chdir"
    # an enum equals its name, and is not it
    assert repr(OmegaConf.to_container(found)) == repr(OmegaConf.to_container(expected))


def test_words_that_set_a_value_compose_nothing_and_change_one_config(monkeypatch):
    composer = Composer(folder=conf_folder())
    first = composer([*OSPO, "trainer.steps=9"])
    monkeypatch.setattr("rlcredit.commands.composer.compose", None)
    second = composer([*OSPO, "trainer.optimizer.lr=1e-3"])
    assert (first.trainer.steps, second.trainer.steps) == (9, 100)
    assert first.trainer.optimizer.lr != second.trainer.optimizer.lr == 1e-3
    second.trainer.steps = 1
    assert composer(OSPO).trainer.steps == 100


def test_what_is_no_setting_or_no_value_is_refused_with_the_nearest_name(composer):
    with pytest.raises(ConfigAttributeError) as caught:
        composer([*OSPO, "trainer.group_sise=4"])
    assert "did you mean 'group_size'?" in explain(caught.value)
    with pytest.raises(ValidationError) as caught:
        composer([*OSPO, "trainer.group_size=many"])
    assert "trainer.group_size" in explain(caught.value)
