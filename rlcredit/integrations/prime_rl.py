"""prime-rl's algorithm ``grpo`` with an advantage per token.

prime-rl chooses an algorithm by a name of a closed list and has no setting that names a class of
one's own. So the class behind the name ``grpo`` is replaced in the process of the orchestrator,
which hands whole groups to it. Everything else (sampling, staleness, curricula, the loss) stays.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from rlcredit.integrations.contract import PRIME_RL
from rlcredit.integrations.groups import Written, credited
from rlcredit.scoring.credit import Credit, PromptLike
from rlcredit.text.tokens import Tokenizer

_log = logging.getLogger(__name__)

NAME = "grpo"
"""The algorithm whose class is replaced: ``[orchestrator.algo] type = "grpo"``."""


def install(
    algo: Any, *, credit: Credit, tokenizer: Tokenizer, prompt: Callable[[Any], PromptLike]
) -> None:
    """Let every environment whose algorithm is ``grpo`` train on the advantages of a credit.

    Call it before prime-rl builds its environments. Random numbers are those of the number of a
    group in the order of arrival, from 0 at each start of the orchestrator.

    Args:
        algo: The module ``prime_rl.orchestrator.algo``.
        credit: Makes the advantages. Its reward must be the environment's, of the text alone.
        tokenizer: The policy's.
        prompt: Makes the prompt of a ``verifiers`` trace, such as its ``task.data`` as a row.

    Raises:
        ValueError: If the class of the name was replaced before.
        ImportError: If prime-rl has changed where this integration relies on it.
    """
    PRIME_RL.check(algo.Algorithm, "as it is installed")
    if algo.ALGORITHM_CLASSES[NAME] is not algo.GRPOAlgorithm:
        raise ValueError(
            f"the algorithm {NAME!r} is {algo.ALGORITHM_CLASSES[NAME].__name__} already; install "
            "one credit a process"
        )
    numbers = count()

    class CreditAlgorithm(algo.Algorithm):
        """Advantages of a credit for a group of traces."""

        def __init__(self, config: Any, policy_pool: Any) -> None:
            super().__init__(config, policy_pool)
            if config.length_penalty is not None:
                raise ValueError(
                    "length_penalty changes the reward of whole responses alone, and parts would "
                    "be credited for another reward; leave it out, or let the reward of the "
                    "credit and of the environment count the length"
                )

        async def score_group(self, episodes: Sequence[Any]) -> None:
            traces = [trace for _, trace in algo.base.iter_trainable_traces(episodes)]
            if len(traces) == 1:
                _log.warning("1 of %d rollouts of a group is left: advantage 0", len(episodes))
                algo.assign_advantages(traces[0], 0.0)
                return
            written = [written_of(trace, prompt(trace)) for trace in traces]
            found = await asyncio.to_thread(
                credited, credit, written, tokenizer, step=0, offset=next(numbers)
            )
            for trace, earned in zip(traces, found, strict=True):
                algo.assign_advantages(trace, earned.advantages.tolist())

    algo.ALGORITHM_CLASSES[NAME] = CreditAlgorithm


def written_of(trace: Any, prompt: PromptLike) -> Written:
    """The response of a trace of one turn.

    Args:
        trace: A ``verifiers.v1.Trace`` of the group that is credited.
        prompt: What it answers.

    Raises:
        ValueError: If the policy wrote more than one message, so that tools or users wrote between.
    """
    turns = [node for node in trace.nodes if any(node.mask)]
    if len(turns) != 1:
        raise ValueError(
            f"trace {trace.id} has {len(turns)} turns of the policy, and what tools and users "
            "wrote between them would be credited as the policy's; take an environment of one turn"
        )
    (own,) = turns
    path = [own]
    while path[0].parent is not None:
        path.insert(0, trace.nodes[path[0].parent])
    begin = own.mask.index(True)
    read = [token for node in path[:-1] for token in node.token_ids] + own.token_ids[:begin]
    return Written(
        group=trace.agent.name,
        prompt=prompt,
        prompt_ids=read,
        ids=[token for token, sampled in zip(own.token_ids, own.mask, strict=True) if sampled],
        reward=trace.reward if trace.rewards else None,
    )
