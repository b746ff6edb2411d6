import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlcredit.credit.diversity import cosine_kernel, marginal_diversity
from tests.strategies import DOUBLE


@st.composite
def kernels(draw, smallest=3, largest=7):
    n = draw(st.integers(smallest, largest))
    cells = draw(st.lists(st.floats(0, 1), min_size=n * n, max_size=n * n))
    upper = torch.tensor(cells, dtype=DOUBLE).reshape(n, n).triu(1)
    return upper + upper.T + torch.eye(n, dtype=DOUBLE)


def diversity(kernel):
    """D(S) by the definition."""
    n = len(kernel)
    total = 0.0
    for y in range(n):
        mass = sum(kernel[y, z].item() for z in range(n) if z != y) / (n - 1)
        total -= math.log1p(mass)
    return total / n


def without(kernel, i):
    rest = [j for j in range(len(kernel)) if j != i]
    return kernel[rest][:, rest]


@given(kernels())
def test_the_marginal_is_what_the_groups_diversity_loses(kernel):
    expected = [diversity(kernel) - diversity(without(kernel, i)) for i in range(len(kernel))]
    found = marginal_diversity(kernel)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=DOUBLE), rtol=0, atol=1e-12)


@given(kernels())
def test_the_sum_is_never_positive_and_the_diagonal_is_not_read(kernel):
    found = marginal_diversity(kernel)
    assert found.sum().item() <= 1e-12
    other = kernel.clone().fill_diagonal_(0.3)
    assert torch.equal(marginal_diversity(other), found)


@given(kernels(), st.randoms())
def test_permuting_the_group_permutes_the_marginals(kernel, random):
    order = list(range(len(kernel)))
    random.shuffle(order)
    found = marginal_diversity(kernel[order][:, order])
    torch.testing.assert_close(found, marginal_diversity(kernel)[order], rtol=0, atol=1e-12)


@given(kernels())
def test_the_derivative_is_the_theorems(kernel):
    n = len(kernel)
    leaf = kernel.clone().requires_grad_()
    (row,) = torch.autograd.grad(marginal_diversity(leaf)[0], leaf)
    mass = (kernel.sum(-1) - 1) / (n - 1)
    slope = -1 / (1 + mass)
    for t in range(1, n):
        # k(0, t) stands in two cells.
        found = (row[0, t] + row[t, 0]).item()
        expected = (slope[0] + slope[t]).item() / (n * (n - 1))
        assert found == pytest.approx(expected, abs=1e-12)
        assert found < 0


@given(kernels(smallest=4), st.floats(0.05, 1))
def test_who_is_less_like_the_others_adds_more(kernel, less):
    kernel = kernel.clone()
    kernel[0, 2:] = kernel[1, 2:] * (1 - less)
    kernel[2:, 0] = kernel[0, 2:]
    found = marginal_diversity(kernel)
    if kernel[1, 2:].max() > 1e-6:
        assert found[0] > found[1]


@pytest.mark.parametrize("constant", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("size", [3, 6])
def test_a_constant_kernel_adds_nothing(constant, size):
    kernel = torch.full((size, size), constant, dtype=DOUBLE)
    assert marginal_diversity(kernel).abs().max() < 1e-15


def clusters(sizes, within, across):
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    return torch.where(same, within, across).double()


@pytest.mark.parametrize(
    ("sizes", "within", "across", "expected"),
    [
        ([1, 2], 1.0, 0.0, [0.42284, -0.27031]),
        ([1, 5], 1.0, 0.0, [0.20332, -0.04213]),
        ([1, 6], 1.0, 0.0, [0.17360, -0.02972]),
        ([1, 7], 1.0, 0.0, [0.15149, -0.02211]),
        ([1, 5], 0.95, 0.6, [0.06344, -0.01286]),
        ([2, 4], 0.95, 0.6, [0.02504, -0.01291]),
        ([3, 3], 0.95, 0.6, [-0.00031, -0.00031]),
    ],
)
def test_golden_marginals_of_clusters(sizes, within, across, expected):
    found = marginal_diversity(clusters(sizes, within, across))
    assert found[0].item() == pytest.approx(expected[0], abs=6e-6)
    assert found[-1].item() == pytest.approx(expected[1], abs=6e-6)


def test_an_outlier_earns_its_closed_form():
    for size in (3, 6, 16):
        found = marginal_diversity(clusters([1, size - 1], 1.0, 0.0))[0].item()
        expected = math.log(2) - (size - 1) / size * math.log((2 * size - 3) / (size - 1))
        assert found == pytest.approx(expected, abs=1e-12)


def test_the_kernel_is_a_clamped_cosine_whatever_the_lengths():
    rows = torch.tensor([[2.0, 0], [0, 3], [-1, 0], [1, 1]])
    half = 0.5**0.5
    expected = [[1, 0, 0, half], [0, 1, 0, half], [0, 0, 1, 0], [half, half, 0, 1]]
    torch.testing.assert_close(cosine_kernel(rows), torch.tensor(expected))


def test_texts_without_content_are_alike_and_unlike_all_else():
    rows = torch.tensor([[0.0, 0], [0, 0], [1, 0]])
    expected = [[1.0, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert cosine_kernel(rows).tolist() == expected


def test_a_group_of_two_is_refused():
    with pytest.raises(ValueError, match="not 2; set"):
        marginal_diversity(torch.eye(2))
