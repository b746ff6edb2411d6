import pytest
import torch

from rlcredit.credit.masked import full_precision, masked_mean, masked_std, masked_sum

VALUES = torch.tensor([[1.0, 2.0, torch.nan], [4.0, torch.inf, -torch.inf]])
MASK = torch.tensor([[True, True, False], [True, False, False]])


def test_sums_means_and_deviations_by_hand():
    assert masked_sum(VALUES, MASK).tolist() == [3.0, 4.0]
    assert masked_mean(VALUES, MASK).tolist() == [1.5, 4.0]
    assert masked_std(VALUES, MASK).tolist() == [0.5, 0.0]
    assert masked_std(VALUES, MASK, correction=1).tolist() == [pytest.approx(0.5**0.5), 0.0]
    assert masked_sum(VALUES, MASK, dim=0, keepdim=True).tolist() == [[5.0, 2.0, 0.0]]


def test_nothing_counted_gives_zero():
    nothing = torch.zeros_like(MASK)
    for reduce in (masked_sum, masked_mean, masked_std):
        assert reduce(VALUES, nothing).tolist() == [0.0, 0.0]


def test_no_gradient_leaks_from_masked_cells():
    values = VALUES.clone().requires_grad_()
    (masked_mean(values, MASK).sum() + masked_std(values, MASK).sum()).backward()
    assert values.grad is not None
    assert torch.isfinite(values.grad[0]).all()
    assert values.grad[~MASK].tolist() == [0.0, 0.0, 0.0]


def test_half_precision_and_integers_are_widened_and_doubles_stay():
    assert full_precision(torch.ones(1).bfloat16()).dtype == torch.float32
    assert full_precision(torch.ones(1).long()).dtype == torch.float32
    assert masked_mean(torch.ones(1, 2).double(), MASK[:1, :2]).dtype == torch.float64
    # 4097 is no bfloat16: the sum of 4097 ones must not be taken in that precision.
    ones = torch.ones(4097).bfloat16()
    assert masked_sum(ones, ones > 0).item() == 4097
