"""Credit per rollout, segment or candidate -> credit per token, and back."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def spread_rollout(
    credit: Float[Tensor, "*batch"], response_mask: Bool[Tensor, "*batch T"]
) -> Float[Tensor, "*batch T"]:
    """The rollout's credit on each of its tokens, 0 elsewhere (standard).

    Args:
        credit: One value per rollout.
        response_mask: True on response tokens.

    Returns:
        One value per token.
    """
    return torch.where(response_mask, credit.unsqueeze(-1), 0)


def spread_segment(
    credit: Float[Tensor, "*batch M"], ids: Int[Tensor, "*batch T"]
) -> Float[Tensor, "*batch T"]:
    """The part's credit on each of its tokens, 0 on tokens of no part (standard).

    Serves segments and candidates alike. Credit is copied to each token of a part, not divided
    among them.

    Args:
        credit: One value per part.
        ids: Part of each token; -1 outside every part.

    Returns:
        One value per token.

    Raises:
        ValueError: If an id names a part that has no credit.
    """
    num_parts = credit.shape[-1]
    if ids.numel() and int(ids.max()) >= num_parts:
        raise ValueError(
            f"a token belongs to part {int(ids.max())}, and credit is given for {num_parts} parts; "
            "ids must be below that, or -1"
        )
    if num_parts == 0:
        return credit.new_zeros(ids.shape)
    values = credit.gather(-1, ids.clamp(min=0).long())
    return torch.where(ids >= 0, values, 0)


def segment_credit(
    credit: Float[Tensor, "P G T"], ids: Int[Tensor, "P G T"], num_segments: int
) -> Float[Tensor, "P G M"]:
    """Mean credit over each segment's tokens; NaN for a segment without tokens (standard)."""
    bucket = torch.where(ids < 0, num_segments, ids)
    sums = credit.new_zeros(*ids.shape[:2], num_segments + 1).scatter_add(2, bucket, credit)
    counts = torch.zeros_like(sums).scatter_add(2, bucket, torch.ones_like(credit))
    return (sums / counts)[..., :num_segments]
