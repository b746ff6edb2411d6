"""Traces: by their definition, their ends (a token, a prefix), and the weights they amount to."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from rlcredit.credit.trace import over_mean, trace_weights, traced_log_ratio
from tests.strategies import DOUBLE

rows = st.lists(
    st.tuples(st.floats(-2, 2, allow_nan=False, width=32), st.booleans()), min_size=1, max_size=17
)


@given(rows, st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_it_is_the_decayed_sum_of_the_tokens_so_far_and_holes_do_not_decay(row, decay):
    log_ratio = torch.tensor([x for x, _ in row], dtype=DOUBLE)
    mask = torch.tensor([there for _, there in row])
    found = traced_log_ratio(torch.where(mask, log_ratio, torch.nan), mask, decay=decay)
    carried = 0.0
    for t, (x, there) in enumerate(row):
        if there:
            carried = x + decay * carried
        assert found[t].item() == pytest.approx(carried if there else 0.0, abs=1e-9)


def test_without_decay_it_is_the_token_and_with_all_of_it_the_prefix():
    x = torch.randn(3, 40, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    mask = torch.arange(40) < torch.tensor([[40], [17], [0]])
    kept = torch.where(mask, x, 0)
    assert torch.equal(traced_log_ratio(x, mask, decay=0.0), kept)
    prefix = torch.where(mask, kept.cumsum(-1), 0)
    torch.testing.assert_close(traced_log_ratio(x, mask, decay=1.0), prefix, rtol=0, atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.7, 0.99, 1.0])
def test_a_token_s_weight_is_how_often_it_enters(decay):
    mask = torch.tensor([[1, 1, 0, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()
    x = torch.zeros(mask.shape, dtype=DOUBLE, requires_grad=True)
    traced_log_ratio(x, mask, decay=decay).sum().backward()
    weights = trace_weights(mask, decay=decay)
    torch.testing.assert_close(x.grad, weights, rtol=0, atol=1e-12)
    mean = over_mean(weights, mask).sum(-1) / mask.sum(-1).clamp(min=1)
    assert mean.tolist() == pytest.approx([1.0, 1.0, 0.0])
