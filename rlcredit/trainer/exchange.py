"""One update's gradient from the shares of all processes."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from rlcredit.distributed.world import Payload, World
from rlcredit.policy.base import Policy
from rlcredit.trainer.backward import Gradient


def add_up(world: World, gradient: Gradient, policy: Policy) -> Gradient:
    """The figures of the whole update; every ``parameter.grad`` becomes the sum over processes.

    The gradients of a sharded policy are added up by its backward pass.

    Figures come first: they wait for a process that is late, and name it, before the gradients
    move. Losses and metrics are added in the order of ranks, in float64.

    Args:
        world: Of this process.
        gradient: Of this process's share of the prompts.
        policy: Whose gradients are added; all processes have the same parameters.

    Raises:
        RankError: If a process is dead, or does not come in time.
    """
    if world.size == 1:
        return gradient
    names = sorted(gradient.metrics)
    figures = [torch.tensor(gradient.loss, dtype=torch.float64)]
    figures += [gradient.metrics[name].double().cpu() for name in names]
    payloads = world.gather(
        Payload(
            tensors={
                "figures": torch.stack(figures),
                "logprobs": gradient.logprobs,
                "entropy": gradient.entropy,
            }
        )
    )
    if not policy.is_sharded:
        world.sum(_gradients(policy.model))
    device = gradient.logprobs.device
    loss, *metrics = torch.stack([payload.tensors["figures"] for payload in payloads]).sum(0)
    return replace(
        gradient,
        loss=float(loss),
        metrics=dict(zip(names, metrics, strict=True)),
        logprobs=torch.cat([payload.tensors["logprobs"] for payload in payloads]).to(device),
        entropy=torch.cat([payload.tensors["entropy"] for payload in payloads]).to(device),
    )


def clip(model: nn.Module, largest: float) -> Tensor:
    """Scale the gradients down to a norm, where theirs is larger; their norm before.

    Sharded ones by the norm of the whole.
    """
    norm = get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
    clip_grads_with_norm_([p for p in model.parameters() if p.grad is not None], largest, norm)
    return norm


def _gradients(model: nn.Module) -> list[Tensor]:
    """Gradients of all trained parameters, in order; zeros where this process's share has none."""
    found = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            found.append(parameter.grad)
    return found
