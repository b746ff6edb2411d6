"""slime with an advantage per token.

slime computes advantages in the training processes, each of which holds a slice of the batch, and
often a slice of every response. The credit of a group is therefore computed where all of them are,
in the rollout manager: :class:`Rewards` stands in the place of the normalisation of rewards and
gives, for each response, its advantages instead of one number. slime ships a reward to the process
that trains on the response without reading it, and :func:`advantages` puts it there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.estimators.base import Grain
from rlcredit.integrations.groups import Written, credited
from rlcredit.scoring.credit import Credit, PromptLike
from rlcredit.text.tokens import Tokenizer

_LOSSES = ("grpo", "cispo")
"""Values of ``--advantage-estimator``, which chooses the loss as well, with a ratio per token."""

Sliced = Callable[[Any, int, int], Any]
"""What a process holds of a response's values: of their list, the sequence's and its length."""


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """Credits the samples of a rollout: ``--custom-reward-post-process-path``.

    A sample's group is its ``group_index``, the smallest of which is the step of random draws.
    """

    credit: Credit
    """Makes the advantages; its reward must be that of ``--custom-rm-path``, of the text alone."""
    tokenizer: Tokenizer
    """The policy's."""
    prompt: Callable[[Any], PromptLike]
    """Makes the prompt of a ``slime.utils.types.Sample``, such as a row with its label."""

    def __call__(self, args: Any, samples: Sequence[Any]) -> tuple[list[float], list[list[float]]]:
        """Rewards for the logs, and the advantages of each sample's response tokens.

        Args:
            args: slime's arguments.
            samples: All that this rollout trains on, whole groups.

        Raises:
            ValueError: If the arguments or a sample would make the credit mean something else.
            RuntimeError: If the reward cannot be had.
        """
        refuse(args, self.credit)
        written = [_written(args, sample, self.prompt(sample)) for sample in samples]
        rollouts = [each.rollout_id for each in samples if each.rollout_id is not None]
        if len(set(rollouts)) < len(rollouts):
            raise ValueError(
                "several samples have one rollout_id, so a rollout was cut into parts, which are "
                "no responses to one prompt; train on rollouts of one sample each"
            )
        step = min(sample.group_index for sample in samples)
        found = credited(self.credit, written, self.tokenizer, step=step)
        return [each.reward for each in found], [each.advantages.tolist() for each in found]


def refuse(args: Any, credit: Credit) -> None:
    """Refuse arguments of slime's under which the credit would mean something else.

    Raises:
        ValueError: With what it would mean, and the remedy.
    """
    name, whole = type(credit.estimator).__name__, credit.estimator.grain is Grain.rollout
    if args.custom_advantage_function_path is None:
        raise ValueError(
            "--custom-advantage-function-path is not set, and slime would take the advantages of "
            "a response for its reward; let it name rlcredit.integrations.slime.advantages"
        )
    if args.advantage_estimator not in _LOSSES and not (
        whole and args.advantage_estimator == "gspo"
    ):
        raise ValueError(
            f"--advantage-estimator {args.advantage_estimator} has a critic, a baseline or a ratio "
            f"of its own, and {name} credits each {credit.estimator.grain.value}; take one of "
            f"{', '.join(_LOSSES)}, or gspo with an estimator of whole responses"
        )
    if args.normalize_advantages:
        raise ValueError(
            "--normalize-advantages moves the advantages of all tokens to mean 0, so that tokens "
            "without credit would get some; leave it out"
        )


def advantages(args: Any, rollout_data: dict[str, Any], *, sliced: Sliced | None = None) -> None:
    """Put the advantages in their place: ``--custom-advantage-function-path``.

    Afterwards a response's reward is the mean of its advantages, a number again for slime's logs.

    Args:
        args: slime's arguments.
        rollout_data: What a process trains on: ``rewards`` are the advantages that :class:`Rewards`
            gave, ``kl`` has the shape of what this process holds of each response.
        sliced: ``slime.backends.megatron_utils.cp_utils.slice_log_prob_with_cp``, where sequences
            are cut between processes (context parallelism).

    Raises:
        ValueError: If the rewards are none of :class:`Rewards`, or the sequences are cut and
            ``sliced`` is not given.
    """
    placed: list[Float[Tensor, " T"]] = []
    means: list[float] = []
    for values, total, length, held in zip(
        rollout_data["rewards"],
        rollout_data["total_lengths"],
        rollout_data["response_lengths"],
        rollout_data["kl"],
        strict=True,
    ):
        if not isinstance(values, list) or len(values) != length:
            raise ValueError(
                f"the reward of a response of {length} tokens is {str(values)[:60]}, and not its "
                "advantages; let --custom-reward-post-process-path name an object of "
                "rlcredit.integrations.slime.Rewards"
            )
        own = torch.tensor(
            values if sliced is None else sliced(values, total, length),
            dtype=torch.float32,
            device=held.device,
        )
        if own.shape != held.shape:
            raise ValueError(
                f"this process holds {held.numel()} of {length} tokens of a response "
                f"and got {own.numel()} advantages: sequences are cut between processes; call "
                "advantages with sliced=slice_log_prob_with_cp of slime's cp_utils"
            )
        placed.append(own)
        means.append(sum(values) / max(1, length))
    rollout_data |= {"advantages": placed, "returns": list(placed), "rewards": means}


def _written(args: Any, sample: Any, prompt: PromptLike) -> Written:
    if sample.group_index is None:
        raise ValueError(
            f"sample {sample.index} has no group_index, so its siblings are unknown; let the data "
            "source or the rollout function set it"
        )
    kept = sample.loss_mask or []
    if 0 < sum(kept) < len(kept):
        raise ValueError(
            f"sample {sample.index} trains on {sum(kept)} of {len(kept)} tokens of its response: "
            "what tools, users or an older policy wrote would be credited as the policy's; take a "
            "rollout function of one turn, without --partial-rollout"
        )
    begin = len(sample.tokens) - sample.response_length
    return Written(
        group=sample.group_index,
        prompt=prompt,
        prompt_ids=sample.tokens[:begin],
        ids=sample.tokens[begin:],
        reward=None if sample.reward is None else float(sample.get_reward_value(args)),
    )
