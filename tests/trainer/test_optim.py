import re

import pytest
import torch

from rlcredit.trainer.optim import AdamW, Decay
from tests.e2e.running import composed


def test_the_rate_warms_up_and_then_decays_to_its_final_fraction():
    linear = AdamW(lr=1.0, warmup_steps=4, decay=Decay.linear, final_fraction=0.1)
    cosine = AdamW(lr=1.0, warmup_steps=4, decay=Decay.cosine, final_fraction=0.1)
    constant = AdamW(lr=1.0, warmup_steps=4)
    for settings in (linear, cosine, constant):
        assert [settings.rate(s, 24) for s in (1, 2, 4)] == [0.25, 0.5, 1.0]
    assert linear.rate(14, 24) == pytest.approx(0.55)
    assert cosine.rate(14, 24) == pytest.approx(0.55)
    assert linear.rate(24, 24) == pytest.approx(0.1)
    assert cosine.rate(24, 24) == pytest.approx(0.1)
    assert constant.rate(24, 24) == 1.0


def test_frozen_parameters_are_left_out():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[0].requires_grad_(False)
    (group,) = AdamW(lr=0.1).build(model).param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in model[1].parameters()}


def test_weights_too_coarse_for_a_step_are_refused_and_the_bound_is_where_they_stay():
    weights = torch.nn.Linear(64, 64).bfloat16()
    settings = AdamW(lr=5e-6, warmup_steps=0)
    with pytest.raises(ValueError, match=r"bfloat16: a step .*lr=5e-06 .* above 0\.0026 "):
        settings.refuse_coarse(weights)
    before = weights.weight.detach().clone()
    optimizer = settings.build(weights)
    weights(torch.randn(8, 64).bfloat16()).float().square().sum().backward()
    optimizer.step()
    moved = before[weights.weight != before].abs()
    assert 0 < len(moved) < 0.1 * before.numel()
    assert float(moved.max()) <= 0.0026
    settings.refuse_coarse(weights.requires_grad_(False))
    settings.refuse_coarse(torch.nn.Linear(2, 2))


def test_the_settings_that_the_refusal_names_can_be_given_and_the_weights_move():
    settings = AdamW(lr=5e-6, warmup_steps=0)
    with pytest.raises(ValueError, match="bfloat16") as refused:
        settings.refuse_coarse(torch.nn.Linear(2, 2).bfloat16())
    words = re.findall(
        r"(?:policy|trainer)\.[a-z.]+=[a-z0-9]*[a-z0-9](?=[ ,;)])", str(refused.value)
    )
    assert words == ["policy.dtype=float32", "trainer.autocast=true", "policy.lora.rank=32"]
    given = ("policy=hf", "policy.name=toy", "trainer.optimizer.lr=5e-6", *words)
    job = composed(*given, "rollout.max_new_tokens=64")
    assert (job.policy.dtype, job.trainer.autocast, job.policy.lora.rank) == ("float32", True, 32)
    weights = torch.nn.Linear(64, 64)
    before = weights.weight.detach().clone()
    optimizer = settings.build(weights)
    with torch.autocast("cpu", torch.bfloat16):
        weights(torch.randn(8, 64)).float().square().sum().backward()
    optimizer.step()
    assert (weights.weight != before).float().mean() > 0.99


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"max_grad_norm": 0.0}])
def test_settings_that_cannot_train_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AdamW(**wrong)
