"""A baseline for each place in a response, by the siblings that got so far."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlcredit.credit.group import checked_rewards, equal_rewards
from rlcredit.credit.masked import full_precision

RELEASED_EPS = 1e-8
"""What the released code adds to its denominators."""


def logit_gradients(
    logprobs: Float[Tensor, "*batch T"], sum_pi_squared: Float[Tensor, "*batch T"]
) -> Float[Tensor, "*batch T"]:
    """Squared length of the gradient of each token's log-probability in its logits.

    w_t = |onehot(y_t) - pi|^2 = 1 - 2 pi(y_t) + sum_v pi(v)^2      OTB, arXiv:2602.07078

    Args:
        logprobs: log pi(y_t), in nats.
        sum_pi_squared: The sum over the vocabulary of pi(v)^2.

    Returns:
        Numbers from 0 (a token that was certain) to 2, in at least float32.
    """
    chance = full_precision(logprobs).exp()
    return (1 - 2 * chance + full_precision(sum_pi_squared)).clamp(min=0)


def token_advantages(
    rewards: Float[Tensor, "P G"],
    weights: Float[Tensor, "P G T"],
    response_mask: Bool[Tensor, "P G T"],
) -> Float[Tensor, "P G T"]:
    """Rewards less the siblings' mean reward, weighted by the gradient that each has gathered.

    A_{i,t} = R_i - sum_{j != i} R_j W_{j,t} / sum_{j != i} W_{j,t},   W_t = sum_{s <= t} w_s

    over the siblings that reach place t; OTB's baseline (arXiv:2602.07078) with one's own rollout
    left out. Derived here: the siblings do not see rollout i, so the baseline is independent of all
    its tokens, and the policy gradient keeps its expectation. Where no sibling gets so far, each
    counts with the W of its last token, and where those have no gradient either, alike. A group of
    equal rewards gets exactly 0.

    Args:
        rewards: One reward per rollout, in reward units.
        weights: From :func:`logit_gradients`.
        response_mask: True on response tokens.

    Returns:
        Advantage of each token in reward units, in at least float32; 0 outside the response.

    Raises:
        ValueError: If G is 1, or a reward is not finite.
    """
    equal = equal_rewards(rewards)[:, None, None]
    rewards = checked_rewards(rewards, "a token's baseline")
    gathered = _gathered(weights, response_mask).to(rewards)
    last = gathered.amax(dim=-1, keepdim=True)  # W never falls
    others = 1 - torch.eye(rewards.shape[1], dtype=rewards.dtype, device=rewards.device)
    reached = torch.where(response_mask, gathered, 0)
    baseline = (others @ rewards.unsqueeze(-1)) / (rewards.shape[1] - 1)
    for counted in (last, reached):
        total = others @ counted
        mean = (others @ (rewards.unsqueeze(-1) * counted)) / torch.where(total > 0, total, 1)
        baseline = torch.where(total > 0, mean, baseline)
    return torch.where(response_mask & ~equal, rewards.unsqueeze(-1) - baseline, 0)


def released_token_advantages(
    rewards: Float[Tensor, "P G"],
    weights: Float[Tensor, "P G T"],
    response_mask: Bool[Tensor, "P G T"],
) -> Float[Tensor, "P G T"]:
    """OTB as its code was released: the baseline holds the rollout's own reward and token.

    A_t = R - B_t,   B_t = sum_g R_g W_{g,t} / (sum_g W_{g,t} + 1e-8)

    over the rollouts that reach place t (arXiv:2602.07078, in verl 0.9.1); B = 0 beyond the end of
    the second longest rollout. Biased, since B_t moves with the token that it judges.

    Args:
        rewards: One reward per rollout, in reward units.
        weights: From :func:`logit_gradients`.
        response_mask: True on response tokens.

    Returns:
        Advantage of each token in reward units, in at least float32; 0 outside the response.

    Raises:
        ValueError: If G is 1, or a reward is not finite.
    """
    rewards = checked_rewards(rewards, "a token's baseline").unsqueeze(-1)
    reached = torch.where(response_mask, _gathered(weights, response_mask), 0).to(rewards)
    total = reached.sum(dim=1, keepdim=True) + RELEASED_EPS
    baseline = (rewards * reached).sum(dim=1, keepdim=True) / total
    baseline = torch.where(response_mask.sum(dim=1, keepdim=True) > 1, baseline, 0)
    return torch.where(response_mask, rewards - baseline, 0)


def _gathered(
    weights: Float[Tensor, "P G T"], response_mask: Bool[Tensor, "P G T"]
) -> Float[Tensor, "P G T"]:
    """W: the sum of the weights of a response's tokens up to each place."""
    return torch.where(response_mask, full_precision(weights), 0).cumsum(dim=-1)
