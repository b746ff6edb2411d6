"""What a rollout engine is."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from rlcredit.policy.base import Policy
from rlcredit.policy.footprint import Footprint, MemoryLine
from rlcredit.policy.hf import Dtype
from rlcredit.types import Prompt, Randomness, Rollouts


@runtime_checkable
class Rollout(Protocol):
    """Samples responses from a policy."""

    @property
    def max_new_tokens(self) -> int:
        """Length cap of a response, in tokens."""
        ...

    @property
    def context(self) -> int | None:
        """Tokens of prompt and response together that it takes; None: what the policy reads."""
        ...

    @property
    def temperature(self) -> float:
        """Temperature of the sampling distribution."""
        ...

    @property
    def dtype(self) -> Dtype | None:
        """Number format of the weights that it samples with; None: the policy's own."""
        ...

    def memory(
        self, model: Footprint, *, prompt_tokens: int, shares_prompts: bool
    ) -> Sequence[MemoryLine]:
        """What sampling needs at most, beside the policy's own weights.

        Args:
            model: Sizes of the policy's model.
            prompt_tokens: Of the longest prompt.
            shares_prompts: A prompt is computed once for all its responses.
        """
        ...

    def start(self, policy: Policy) -> None:
        """Make ready what sampling needs; all processes of a run do it at the same time, once.

        Args:
            policy: In whole weights.

        Raises:
            ValueError: If the policy is one that it cannot sample from.
        """
        ...

    def __call__(
        self,
        policy: Policy,
        prompts: Sequence[Prompt],
        *,
        group_size: int,
        randomness: Randomness,
        offset: int = 0,
        greedy: bool = False,
        spans: bool = True,
    ) -> Rollouts:
        """G responses to each prompt.

        Rollout g of prompt p draws from ``randomness.generator("rollout", (offset + p) * G + g)``
        alone, so the same samples come out of every split of the batch.

        Args:
            policy: Left in the mode (train or eval) in which it was found.
            prompts: P of them.
            group_size: G; greedy decoding needs 1.
            randomness: Source of every draw.
            offset: Global index of the first prompt.
            greedy: Take the most probable token instead of drawing one.
            spans: Find the characters of each token; False where the texts alone are read.
        """
        ...

    def resume(
        self,
        policy: Policy,
        prompts: Sequence[Prompt],
        prefixes: Sequence[Sequence[int]],
        *,
        count: int,
        randomness: Randomness,
        indices: Sequence[int],
    ) -> Rollouts:
        """Responses that begin with given tokens, ``count`` of them to each prompt.

        Response n to prompt i draws from ``randomness.generator("continuation", indices[i] * count
        + n)`` alone. The record holds whole responses, the given tokens first (with log-probs of 0)
        and within the length cap; nobody looked for the characters of tokens.

        Args:
            policy: Left in the mode (train or eval) in which it was found.
            prompts: One or more.
            prefixes: Tokens of each response that are given; at least one less than the cap.
            count: Responses to each prompt.
            randomness: Source of every draw.
            indices: A global number for each prompt with its prefix.
        """
        ...
