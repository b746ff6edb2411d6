"""What the public names stand for."""

import pytest
from hydra import compose, initialize_config_dir

from rlcredit.commands.components import build
from rlcredit.credit.group import Scale
from rlcredit.credit.simplex import Divergence
from rlcredit.estimators import GRPO, OSPO, Additive, LeaveOneOut, Myerson, SetPO, ShapE, Weighted
from rlcredit.estimators.shap_e import Norm
from rlcredit.losses import LPO, ClippedSurrogate
from rlcredit.losses.surrogate import Aggregation, Objective, Ratio
from rlcredit.policy import HF, Dtype
from tests.composing import CONF, built


def pair(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("one_component", overrides=list(overrides))
    return tuple(build(cfg[g]) for g in ("estimator", "loss"))


def test_losses_are_what_their_papers_say():
    assert built("loss", "dapo") == ClippedSurrogate(clip_high=0.28)
    assert built("loss", "grpo") == ClippedSurrogate(aggregation=Aggregation.sequence_mean)
    assert built("loss", "dr_grpo") == ClippedSurrogate(
        aggregation=Aggregation.constant, max_tokens=32
    )
    assert built("loss", "gspo").ratio == Ratio.sequence
    assert built("loss", "cispo").objective == Objective.cispo
    assert built("loss", "lpo_reverse") == LPO(divergence=Divergence.reverse_kl)


def test_ospo_and_its_control_arms_are_a_value_and_a_construction_each():
    assert built("estimator", "ospo") == OSPO(value=Myerson(), construction=Weighted())
    assert built("estimator", "loo") == OSPO(value=LeaveOneOut(), construction=Additive())
    mixed = ("estimator/value=leave_one_out", "estimator/construction=additive")
    assert built("estimator", "ospo", mixed) == built("estimator", "loo")
    released = built("estimator", "ospo_released")
    assert (type(released.value).__name__, type(released.construction).__name__) == (
        "Released",
        "Proportional",
    )
    assert released.clip == 2.0


def test_methods_that_have_a_loss_of_their_own_choose_it_and_the_command_line_wins():
    assert pair("estimator=lpo") == (GRPO(), LPO())
    assert pair("estimator=lpo", "estimator.scale=none")[0] == GRPO(scale=Scale.none)
    assert pair("estimator=lpo_reverse")[1].divergence == Divergence.reverse_kl
    assert pair("estimator=dr_grpo") == (GRPO(scale=Scale.none), built("loss", "dr_grpo"))
    assert pair("estimator=grpo") == (GRPO(), built("loss", "dapo"))
    assert pair("estimator=lpo", "loss=grpo")[1] == built("loss", "grpo")


def test_setpo_wraps_any_estimator_and_its_parts_can_be_chosen():
    assert built("estimator", "setpo") == SetPO(base=GRPO())
    overrides = ("estimator@estimator.base=ospo", "estimator/value@estimator.base.value=owen")
    nested = built("estimator", "setpo", overrides)
    assert type(nested.base.value).__name__ == "Owen"


def test_shape_is_pooled_by_default_and_its_utility_can_be_chosen():
    shape = built("estimator", "shape")
    assert isinstance(shape, ShapE)
    assert shape.norm == Norm.pooled
    top = built("estimator", "shape", ("reward/utility=top_m", "reward.utility.m=3"))
    assert top.utility.m == 3


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("policy/qwen*.yaml")))
def test_a_pretrained_policy_trains_no_weights_in_half_precision(name):
    policy = built("policy", name)
    assert policy.lora.rank > 0 or policy.dtype is Dtype.float32


def test_a_pretrained_policy_s_date_ends_and_template_variables_can_be_set():
    words = (
        "policy.name=x",
        "policy.date=2024-07-26",
        "policy.stop_tokens=['<|im_end|>']",
        "+policy.chat_options.reasoning_effort=low",
        "+policy.chat_options.budget=3",
    )
    assert built("policy", "hf", words) == HF(
        name="x",
        date="2024-07-26",
        stop_tokens=["<|im_end|>"],
        chat_options={"reasoning_effort": "low", "budget": 3},
    )
