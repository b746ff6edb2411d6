"""One update's gradient from the shares of all processes."""

from dataclasses import replace

import torch
from torch import nn

from rlcredit.distributed.world import Parcel, World
from rlcredit.trainer.backward import Gradient


def add_up(world: World, gradient: Gradient, model: nn.Module) -> Gradient:
    """The figures of the whole update; every ``parameter.grad`` becomes the sum over processes.

    Figures come first: they wait for a process that is late, and name it, before the gradients
    move. Losses and metrics are added in the order of ranks, in float64.

    Args:
        world: Of this process.
        gradient: Of this process's share of the prompts.
        model: Whose gradients are added; all processes have the same parameters.

    Raises:
        RankError: If a process is dead, or does not come in time.
    """
    if world.size == 1:
        return gradient
    names = sorted(gradient.metrics)
    figures = [torch.tensor(gradient.loss, dtype=torch.float64)]
    figures += [gradient.metrics[name].double().cpu() for name in names]
    parcels = world.gather(
        Parcel(
            tensors={
                "figures": torch.stack(figures),
                "logprobs": gradient.logprobs,
                "entropy": gradient.entropy,
            }
        )
    )
    parameters = [p for p in model.parameters() if p.requires_grad]
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    world.sum([p.grad for p in parameters if p.grad is not None])
    device = gradient.logprobs.device
    loss, *metrics = torch.stack([parcel.tensors["figures"] for parcel in parcels]).sum(0)
    return replace(
        gradient,
        loss=float(loss),
        metrics=dict(zip(names, metrics, strict=True)),
        logprobs=torch.cat([parcel.tensors["logprobs"] for parcel in parcels]).to(device),
        entropy=torch.cat([parcel.tensors["entropy"] for parcel in parcels]).to(device),
    )
