"""Is there room: of a response's length cap for a set, of the policy's context for a prompt?"""

from dataclasses import replace

from rlcredit.policy.base import Policy
from rlcredit.rollout.base import Rollout
from rlcredit.tasks.base import Task
from rlcredit.types import Prompt, Randomness

_ROOM_SAMPLE = 64
"""Training prompts whose demonstrations are measured."""


def check_room(task: Task, policy: Policy, rollout: Rollout) -> None:
    """Refuse a length cap that cuts sets of candidates: without the last one, none is rewarded.

    Raises:
        ValueError: If half of the teacher's sets are longer than the cap.
    """
    if not task.rules.num_candidates:
        return
    generator = Randomness(seed=0, step=0).generator("room")
    written = [task.teacher(prompt, generator) for prompt in task.train[:_ROOM_SAMPLE]]
    rows = policy.tokenizer(written, add_special_tokens=False)["input_ids"]
    lengths = sorted(len(row) + 1 for row in rows)
    if lengths[len(lengths) // 2] > rollout.max_new_tokens:
        raise ValueError(
            f"rollout.max_new_tokens={rollout.max_new_tokens} cuts sets of "
            f"{task.rules.num_candidates} candidates short: demonstrations of this task have "
            f"{lengths[0]} to {lengths[-1]} tokens with their end, and a set without its last "
            f"candidate earns nothing; set rollout.max_new_tokens={lengths[-1]} or more"
        )


def with_room(task: Task, policy: Policy, rollout: Rollout, *, num_held_out: int | None) -> Task:
    """The task without the training prompts that leave a response too little of the context.

    Held-out prompts are not dropped: the scores would be of other prompts than those of the runs
    that they are compared with.

    Args:
        task: As it was loaded. What is dropped of it is added to its counts.
        policy: Says how long prompts are.
        rollout: Says how many tokens a response may need.
        num_held_out: How many prompts of a held-out split are scored; None: all.

    Raises:
        ValueError: If a held-out prompt is too long, or every training prompt is.
    """
    limits = [limit for limit in (policy.context, rollout.context) if limit is not None]
    if not limits:
        return task
    room = min(limits) - rollout.max_new_tokens
    lengths = policy.lengths(task.train)
    kept = tuple(p for p, length in zip(task.train, lengths, strict=True) if length <= room)
    held_out = (*task.validation[:num_held_out], *task.test[:num_held_out])
    must_fit = held_out if kept else task.train
    _refuse_long(must_fit, policy.lengths(must_fit), room, rollout)
    dropped = len(task.train) - len(kept)
    if not dropped:
        return task
    what = f"training prompts dropped: longer than {room} tokens"
    return replace(task, train=kept, counts={**task.counts, what: dropped})


def _refuse_long(
    prompts: tuple[Prompt, ...], lengths: list[int], room: int, rollout: Rollout
) -> None:
    long = [prompt for prompt, length in zip(prompts, lengths, strict=True) if length > room]
    if long:
        raise ValueError(
            f"{len(long)} of {len(prompts)} prompts that must be read have more than {room} tokens "
            f"(the longest has {max(lengths)}; one is {long[0].prompt_id!r}): beside rollout."
            f"max_new_tokens={rollout.max_new_tokens} the context has no more room. Lower that, "
            "shorten the prompts (dataset), or choose a policy with a longer context"
        )
