import pytest
import torch

from rlcredit.trainer.optim import AdamW, Decay


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


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"max_grad_norm": 0.0}])
def test_settings_that_cannot_train_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AdamW(**wrong)
