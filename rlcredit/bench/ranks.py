"""Whether an estimator's advantages order words, and choices, as the truth does."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlcredit.bench.compare import Resampler, interval
from rlcredit.bench.exact import Truth
from rlcredit.bench.gradients import Stage
from rlcredit.evaluation.stats import Interval

SAME = 1e-9
"""Values closer than this are equal."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Spearman's rank correlations, means over replicates; None where nothing varies.

    The first four are within responses of distinct words, over their words: where the truth orders
    them and the advantages do not, the correlation is 0. The last is within groups, over tokens.
    """

    shapley: Interval | None
    owen: Interval | None
    myerson: Interval | None
    leave_one_out: Interval | None
    choices: Interval | None
    """Agreement with Q(state, token) - V(state), by which a policy gradient weighs tokens."""


def agreement(
    advantages: Float[Tensor, "P G T"], stage: Stage, truth: Truth, resampler: Resampler
) -> Agreement:
    """How the advantages of words and tokens are ordered, against what is true of them."""
    tree, draw = stage.world.tree, stage.draw
    rounded = (advantages.double() / SAME).round() * SAME
    counted = tree.present & (tree.first | ~tree.present).all(dim=-1, keepdim=True)
    counted = counted & stage.world.complete.unsqueeze(-1)
    words = counted[draw.picks]
    places = 2 * torch.arange(tree.longest)
    own = rounded[..., places]
    speaks = bool((_spread(own, words) > 0).any())
    found: dict[str, Interval | None] = {}
    for name, table in vars(truth).items():
        real = draw.of_responses((table / SAME).round() * SAME)
        matters = _spread(real, words) > 0
        rho = rank_correlation(own, real, words)
        found[name] = _mean(rho, matters, stage, resampler) if speaks else None
    real = (stage.action_advantages / SAME).round() * SAME
    flat = rounded.flatten(1), real.flatten(1), draw.response_mask.flatten(1)
    matters = (_spread(flat[0], flat[2]) > 0) & (_spread(flat[1], flat[2]) > 0)
    found["choices"] = _mean(rank_correlation(*flat), matters, stage, resampler)
    return Agreement(**found)


def rank_correlation(
    left: Float[Tensor, "*batch N"],
    right: Float[Tensor, "*batch N"],
    mask: Bool[Tensor, "*batch N"],
) -> Float[Tensor, "*batch"]:
    """Spearman's rho over the masked entries, ties at their mean rank; 0 where one is constant."""
    a, b = (_centred(_ranks(values, mask), mask) for values in (left, right))
    size = (a.square().sum(dim=-1) * b.square().sum(dim=-1)).sqrt()
    return torch.where(size > 0, (a * b).sum(dim=-1) / torch.where(size > 0, size, 1), 0)


def _ranks(values: Tensor, mask: Tensor) -> Tensor:
    others = mask.unsqueeze(-2)
    below = others & (values.unsqueeze(-2) < values.unsqueeze(-1))
    equal = others & (values.unsqueeze(-2) == values.unsqueeze(-1))
    return below.sum(dim=-1) + equal.sum(dim=-1) / 2.0


def _centred(ranks: Tensor, mask: Tensor) -> Tensor:
    count = mask.sum(dim=-1, keepdim=True).clamp(min=1)
    kept = torch.where(mask, ranks.double(), 0)
    return torch.where(mask, kept - kept.sum(dim=-1, keepdim=True) / count, 0)


def _spread(values: Tensor, mask: Tensor) -> Tensor:
    """Largest less smallest of the masked entries; below 0 where there are none."""
    highest = torch.where(mask, values, -torch.inf).amax(dim=-1)
    return highest - torch.where(mask, values, torch.inf).amin(dim=-1)


def _mean(rho: Tensor, matters: Tensor, stage: Stage, resampler: Resampler) -> Interval | None:
    """The mean over all that matters, with whole replicates drawn again."""
    if not bool(matters.any()):
        return None
    questions = stage.world.questions
    sums = torch.stack([(rho * matters), matters.double()], dim=-1).unflatten(0, (questions, -1))
    per_replicate = sums.transpose(0, 1).flatten(1, -2).sum(dim=1).numpy()
    totals = np.add(*resampler.means(per_replicate))
    drawn = totals[totals[:, 1] > 0]  # a resample of few replicates may hold nothing that matters
    return interval(drawn[:, 0] / drawn[:, 1])
