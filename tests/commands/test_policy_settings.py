"""A pretrained policy comes with the settings that belong to it; the command line wins."""

from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from rlcredit.commands.build import config_text, job
from rlcredit.run.job import assemble
from tests.composing import RUNS

ROOT = Path(__file__).parents[2]


def composed(*words: str):
    return RUNS([*words, "tracker=jsonl"])


def built(*words: str, said: tuple[str, ...] | None = None):
    """The job of some words, as if the command had only said others."""
    cfg = composed(*words)
    HydraConfig.instance().set_config(cfg)
    with RUNS.hydra():
        own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
        return job(own, said)


@pytest.mark.parametrize(
    ("policy", "lr", "length"),
    [
        ("tiny", 6e-4, 32),
        ("hf", 1e-6, 356),
        ("smollm2", 1e-5, 32),
        ("qwen2_5_0_5b", 1e-6, 356),
        ("qwen2_5_7b_lora", 5e-6, 356),
        ("qwen3_8b_lora", 5e-6, 356),
    ],
)
@pytest.mark.parametrize("dataset", ["esci", "countdown"])
def test_rate_length_and_divergence_are_the_policys(policy, lr, length, dataset):
    cfg = composed(
        f"policy={policy}", f"dataset={dataset}", "policy.name=x" if policy == "hf" else "seed=0"
    )
    if policy == "tiny" and dataset == "countdown":
        lr, length = 2e-4, 24
    assert (cfg.trainer.optimizer.lr, cfg.rollout.max_new_tokens) == (lr, length)
    assert cfg.loss.kl_coef == (0.0 if policy == "tiny" else 0.01)


@pytest.mark.parametrize("loss", ["grpo", "gspo", "cispo", "lpo", "lpo_reverse"])
def test_every_loss_holds_a_pretrained_policy_to_its_start(loss):
    cfg = composed("policy=smollm2", f"loss={loss}")
    assert (cfg.loss.kl_coef, str(cfg.loss.kl)) == (0.01, "k3_plus")


def test_what_comes_later_wins():
    cfg = composed("policy=smollm2", "experiment=smollm2_sets", "rollout.max_new_tokens=7")
    assert cfg.rollout.max_new_tokens == 7
    assert composed("experiment=smollm2_sets").rollout.max_new_tokens == 80
    assert composed("policy=smollm2", "size=cpu").trainer.steps == 60


def test_real_text_brings_its_settings_and_a_policy_its_own():
    words = ("dataset.source=path", "dataset.path=somewhere")
    made, real = composed(), composed(*words)
    assert (made.trainer.steps, real.trainer.steps) == (100, 150)
    assert (made.trainer.optimizer.lr, real.trainer.optimizer.lr) == (6e-4, 2e-4)
    assert composed(*words, "policy=smollm2").trainer.optimizer.lr == 1e-5
    assert composed(*words, "trainer.steps=3").trainer.steps == 3


def test_a_saved_config_has_the_value_of_a_resolver_and_the_name_of_a_reference():
    text = config_text(composed("loss=dr_grpo"))
    assert "by_source" not in text
    saved = OmegaConf.create(text)
    assert saved.trainer.steps == 100
    assert "max_tokens: ${rollout.max_new_tokens}" in text


def test_an_inherited_rate_of_a_policy_from_scratch_is_refused_and_a_typed_one_warned_of(tmp_path):
    words = (
        "policy=hf",
        f"policy.name={tmp_path}",
        "trainer.optimizer.lr=6e-4",
        "evaluation.retrievers=[]",
    )
    with pytest.raises(
        ValueError, match=r"lr=0\.0006 is a rate for a policy made from scratch"
    ) as why:
        built(*words, said=("policy=hf", "experiment=of_somebody"))
    assert "give trainer.optimizer.lr=1e-05 on the command line" in str(why.value)
    lines: list[str] = []
    with pytest.raises(ValueError, match="cannot be loaded"):
        assemble(built(*words), failures=tmp_path, say=lines.append)
    assert lines[0].startswith("warning: trainer.optimizer.lr=0.0006")
    built("trainer.optimizer.lr=6e-4", said=())
    built("policy=qwen2_5_7b_lora", "trainer.optimizer.lr=2e-4", said=())
