"""What is asked of the policy itself about a batch that it wrote, while its weights are at hand."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.credit.prefix import judged_segment
from rlcredit.credit.state_values import judged_starts
from rlcredit.policy.base import Policy
from rlcredit.rollout.base import Rollout
from rlcredit.rollout.hf import evaluating
from rlcredit.scoring.scorer import Scorer
from rlcredit.types import (
    Continuations,
    Needs,
    PolicySignals,
    Randomness,
    Rollouts,
    Segments,
)


def observe(
    policy: Policy,
    rollouts: Rollouts,
    needs: Needs,
    *,
    rollout: Rollout,
    scorer: Scorer,
    randomness: Randomness,
    offset: int,
    chunks: Sequence[slice],
) -> PolicySignals:
    """All that an estimator needs of the policy besides its responses.

    Args:
        policy: All of its weights are in this process, and have not moved since it sampled.
        rollouts: P x G responses.
        needs: Of the estimator.
        rollout: Samples continuations.
        scorer: Knows the segments that continuations go on from.
        randomness: Source of what is drawn.
        offset: Global index of the first prompt.
        chunks: Rows of the flattened [P * G] batch that go through the policy together.
    """
    logprobs = squares = continued = None
    if needs.sum_pi_squared:
        logprobs, squares = _distributions(policy, rollouts, chunks)
    if needs.continuations:
        continued = continuations(
            policy,
            rollouts,
            scorer.segments(rollouts),
            rollout=rollout,
            count=needs.continuations,
            randomness=randomness,
            offset=offset,
        )
    return PolicySignals(logprobs=logprobs, sum_pi_squared=squares, continuations=continued)


def continuations(
    policy: Policy,
    rollouts: Rollouts,
    segments: Segments,
    *,
    rollout: Rollout,
    count: int,
    randomness: Randomness,
    offset: int,
) -> Continuations:
    """Fresh responses that go on from the text before each segment of each response but the first.

    The text is cut between tokens: before the first one that is judged as part of the segment. What
    is drawn follows from the response's global index and the place of the cut alone.

    Args:
        policy: Samples.
        rollouts: P x G responses.
        segments: Of the responses.
        rollout: How it samples.
        count: Responses to each text.
        randomness: Source of every draw.
        offset: Global index of the first prompt.
    """
    mask = rollouts.response_mask
    group_size, num_tokens = mask.shape[1:]
    place = judged_segment(segments.ids, mask)
    starts = judged_starts(place, mask, segments.mask.shape[-1] + 1)
    states = [(p, g, k) for p, g, k in (starts < num_tokens).nonzero().tolist() if k]
    if not states:
        return Continuations(states=(), texts=(), num_tokens=0)
    cuts = [int(starts[state]) for state in states]
    # a response never has two cuts at one token, nor more tokens than the cap
    numbers = [
        ((offset + p) * group_size + g) * rollout.max_new_tokens + cut
        for (p, g, _), cut in zip(states, cuts, strict=True)
    ]
    found = rollout.resume(
        policy,
        [rollouts.prompts[p] for p, _, _ in states],
        [
            rollouts.response_ids[p, g, :cut].tolist()
            for (p, g, _), cut in zip(states, cuts, strict=True)
        ],
        count=count,
        randomness=randomness,
        indices=numbers,
    )
    return Continuations(
        states=tuple(states),
        texts=found.texts,
        num_tokens=int(found.response_mask.sum()) - count * sum(cuts),
    )


def _distributions(
    policy: Policy, rollouts: Rollouts, chunks: Sequence[slice]
) -> tuple[Float[Tensor, "P G T"], Float[Tensor, "P G T"]]:
    """Each token's log-prob, and the sum of squares of the distribution that it was drawn from.

    Costs a forward pass over the responses.
    """
    with torch.no_grad(), evaluating(policy.model):
        parts = [policy.logprobs(rollouts, rows, squares=True) for rows in chunks]
    squares = [part.sum_pi_squared for part in parts if part.sum_pi_squared is not None]
    shape = rollouts.response_mask.shape
    return (
        torch.cat([part.logprobs for part in parts]).view(shape),
        torch.cat(squares).view(shape),
    )
