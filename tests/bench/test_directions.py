"""Random directions keep the inner products of gradients, and leave the model as it is."""

import pytest
import torch
from torch import nn

from rlcredit.bench.directions import Directions


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()


@pytest.fixture
def batches():
    torch.manual_seed(1)
    return torch.randn(2, 4, 6, dtype=torch.float64)


def read(model, batch, seed, *, rank=2, size=64):
    directions = Directions.of(model, rank=rank, size=size, seed=seed)
    with directions.attached(model):
        return directions.gradient(model(batch).square().sum())


def whole(model, batch):
    weights = [layer.weight for layer in model if isinstance(layer, nn.Linear)]
    grads = torch.autograd.grad(model(batch).square().sum(), weights)
    return torch.cat([grad.flatten() for grad in grads])


def test_inner_products_are_kept_on_average(model, batches):
    one, two = batches
    exact = float(whole(model, one) @ whole(model, two))
    found = torch.stack([read(model, one, s) @ read(model, two, s) for s in range(300)])
    error = float(found.std() / len(found) ** 0.5)
    assert abs(float(found.mean()) - exact) < 4 * error
    assert error < 0.15 * abs(exact), "the mean is too noisy to show anything"


def test_more_directions_and_buckets_miss_less(model, batches):
    length = float(whole(model, batches[0]).square().sum())

    def spread(rank, size):
        lengths = [
            read(model, batches[0], s, rank=rank, size=size).square().sum() for s in range(99)
        ]
        return float((torch.stack(lengths) / length - 1).square().mean())

    assert spread(16, 4096) < 0.5 * spread(2, 16)


def test_a_layer_s_gradient_is_seen_through_its_directions(model, batches):
    """With a bucket for each entry nothing is added up: d loss / d b = (d loss / d W) A^T."""
    directions = Directions.of(model, rank=3, size=10**6, seed=0)
    with directions.attached(model):
        found = directions.gradient(model(batches[0]).square().sum())
    weights = [layer.weight for layer in directions.offsets]
    grads = torch.autograd.grad(model(batches[0]).square().sum(), weights)
    seen = torch.cat(
        [(grad @ a.T).flatten() for grad, a in zip(grads, directions.inputs.values(), strict=True)]
    )
    assert len(directions.buckets.unique()) == len(seen), "two entries share a bucket"
    assert torch.allclose(found[directions.buckets] * directions.signs, seen)


def test_the_model_computes_the_same_and_trains_again_afterwards(model, batches):
    before = model(batches[0])
    directions = Directions.of(model)
    with directions.attached(model):
        assert torch.equal(model(batches[0]), before)
        assert not any(p.requires_grad for p in model.parameters())
    assert all(p.requires_grad for p in model.parameters())
    assert not any(layer._forward_hooks for layer in model)


def test_several_values_of_one_graph(model, batches):
    directions = Directions.of(model, seed=3)
    with directions.attached(model):
        out = model(batches[0])
        first = directions.gradient(out.square().sum(), more=True)
        second = directions.gradient(3 * out.square().sum())
    assert torch.allclose(second, 3 * first)


def test_a_model_without_linear_layers_is_refused():
    with pytest.raises(ValueError, match="no linear layer"):
        Directions.of(nn.Sequential(nn.Tanh()))
