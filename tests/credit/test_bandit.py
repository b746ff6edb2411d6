"""What diversity credit does to a policy that could be right in several ways."""

import torch

from rlcredit.credit.diversity import cosine_kernel, marginal_diversity
from rlcredit.credit.group import group_relative

ARMS, RIGHT, GROUP = 12, 4, 6


def trained(coefs, *, seeds=8, steps=1500, rate=0.12):
    """Effective number of right arms, and the chance to be right, for each weight of the bonus."""
    generator = torch.Generator().manual_seed(0)
    kernel = cosine_kernel(torch.randn(seeds, ARMS, 50, generator=generator)).repeat(
        len(coefs), 1, 1
    )
    weight = torch.tensor(coefs).repeat_interleave(seeds).unsqueeze(-1)
    logits = torch.zeros(len(kernel), ARMS)
    rows = torch.arange(len(kernel))[:, None, None]
    for _ in range(steps):
        p = logits.softmax(-1)
        picks = torch.multinomial(p, GROUP, replacement=True, generator=generator)
        alike = kernel[rows, picks.unsqueeze(-1), picks.unsqueeze(-2)]
        advantages = group_relative((picks < RIGHT).float()) + weight * marginal_diversity(alike)
        pushed = torch.zeros_like(logits).scatter_add(-1, picks, advantages)
        logits = logits + rate * (pushed - advantages.sum(-1, keepdim=True) * p) / GROUP
    right = logits.softmax(-1)[:, :RIGHT]
    share = right / right.sum(-1, keepdim=True)
    modes = (-(share * share.clamp(min=1e-12).log()).sum(-1)).exp()
    return modes.reshape(-1, seeds).mean(-1), right.sum(-1).reshape(-1, seeds).mean(-1)


def test_diversity_credit_keeps_several_right_answers_at_no_cost_in_being_right():
    modes, right = trained([0.0, 0.5, 2.0])
    assert modes[0] < modes[1] - 0.3
    assert modes[1] < modes[2] - 0.8
    assert modes[2] > 3.2
    assert right.min() > 0.97
