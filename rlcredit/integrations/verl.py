"""verl 0.9 with an advantage per token (extra ``[verl]``).

verl scores a response in a worker of its reward loop as soon as it is finished, while others are
being written. There :func:`credit_manager`'s class scores the response and, since its siblings are
not known, all parts that any estimate could need; what each text earned travels with the response
(:mod:`rlcredit.integrations.told`). When the group is complete, :func:`credit_trainer`'s class
credits it on these rewards, without asking for one, and hands the advantages to the estimator that
verl calls. :mod:`rlcredit.integrations.verl_plugin` makes the three known in each of verl's
processes; this module is given verl's classes and imports nothing of verl.
"""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.code import Code
from rlcredit.estimators.base import Grain
from rlcredit.integrations.groups import Written, credited
from rlcredit.integrations.told import Record, recalling, scored_alone
from rlcredit.scoring.credit import Credit, PromptLike, prompt_of
from rlcredit.scoring.named import CANDIDATES, ESTIMATORS
from rlcredit.scoring.responses import of_tokens, padded
from rlcredit.text.response import opened_thought
from rlcredit.text.tokens import Tokenizer, decoded

_log = logging.getLogger(__name__)

NAME = "rlcredit"
"""``reward.reward_manager.name``, and the key of a record in verl's ``reward_extra_info``."""
PREFIX = "rlcredit_"
"""``algorithm.adv_estimator=rlcredit_ospo`` means ``ospo``, and
``trainer.v1.trainer_mode=rlcredit_sync`` means ``sync``."""
NAMES = tuple(f"{PREFIX}{name}" for name in (*ESTIMATORS, *CANDIDATES))
_OF_WHOLE = ("gspo", "geo_mean")
"""Values of ``policy_loss.loss_mode`` that read one advantage of a whole response."""
_COLUMNS = ("data_source", "reward_model", "extra_info")
_FIELDS = ("uid", "session_id", "index", "raw_prompt", *_COLUMNS, "extra_fields")
_TENSORS = ("prompts", "responses", "response_mask", "rm_scores")

_HANDED: ContextVar["Sequence[Float[Tensor, ' T']] | None"] = ContextVar(NAME, default=None)
"""The advantages of the batch that verl calls an estimator for."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a run's config says about its credit."""

    credit: Credit
    prompt: Callable[[list[dict[str, Any]], dict[str, Any]], PromptLike]
    """Makes the prompt of a row's messages and its columns ``data_source``, ``reward_model`` and
    ``extra_info``."""
    group_size: int

    @classmethod
    def of(cls, config: Any) -> "Setup":
        """Call the functions that ``reward.reward_kwargs`` names.

        Args:
            config: verl's, whole.

        Raises:
            ValueError: If there are none, or the estimator is none of :data:`NAMES`.
        """
        name = config.algorithm.adv_estimator
        if name not in NAMES:
            raise ValueError(
                f"algorithm.adv_estimator={name} is none of rlcredit's; set it to one of "
                f"{', '.join(NAMES)}"
            )
        given = config.reward.get("reward_kwargs") or {}
        missing = [key for key in ("credit", "prompt") if key not in given]
        if missing:
            raise ValueError(
                f"reward.reward_kwargs has no {' and no '.join(missing)}; name two functions, such "
                "as +reward.reward_kwargs.credit=own_credit:credit_of "
                "+reward.reward_kwargs.prompt=own_credit:row_of"
            )
        made, prompt = (
            Code.of(given[key], setting=f"reward.reward_kwargs.{key}").function
            for key in ("credit", "prompt")
        )
        return cls(
            credit=made(name.removeprefix(PREFIX)),
            prompt=prompt,
            group_size=int(config.actor_rollout_ref.rollout.n),
        )

    def asked(self, row: Mapping[str, Any]) -> PromptLike:
        """The prompt of a row of verl's data."""
        columns = {name: row[name] for name in _COLUMNS if name in row}
        return self.prompt([dict(message) for message in row["raw_prompt"]], columns)

    def number(self, row: Mapping[str, Any]) -> int:
        """Global index of a response: that of its row, and of its session among ``rollout.n``.

        Raises:
            ValueError: If the row's index is no whole number.
        """
        try:
            return int(row["index"]) * self.group_size + int(row["session_id"])
        except ValueError as error:
            raise ValueError(
                f"a row has extra_info.index={row['index']}, and random draws follow a whole "
                "number; number the rows of the data"
            ) from error

    def scored(
        self,
        row: Mapping[str, Any],
        prompt_ids: Sequence[int],
        ids: Sequence[int],
        tokenizer: Tokenizer,
    ) -> tuple[float, Record]:
        """What one response earns, and what it and its parts do.

        Args:
            row: Of verl's data, with ``uid``, ``session_id`` and ``global_steps``.
            prompt_ids: Tokens that the policy read.
            ids: Tokens that it wrote.
            tokenizer: The policy's.

        Raises:
            RuntimeError: If the reward cannot be had.
        """
        responses, mask = padded([ids], 1)
        opened = [opened_thought(text) for text in decoded(tokenizer, [prompt_ids])]
        given = prompt_of(self.asked(row))
        read = of_tokens([given], responses, mask, tokenizer, opened=opened)
        step, number = int(row["global_steps"]), self.number(row)
        return scored_alone(self.credit, read, step=step, number=number)


def refuse(config: Any, credit: Credit) -> None:
    """Refuse settings of verl's under which the credit would mean something else.

    Raises:
        ValueError: With what it would mean, and the remedy.
    """
    name, whole = type(credit.estimator).__name__, credit.estimator.grain is Grain.rollout
    reward, loss = config.reward, config.actor_rollout_ref.actor.policy_loss.loss_mode
    size, smallest = config.actor_rollout_ref.rollout.n, credit.estimator.smallest_group
    if size < smallest:
        raise ValueError(
            f"actor_rollout_ref.rollout.n={size}, and {name} compares {smallest} responses to a "
            f"prompt or more; set it to {smallest} at least"
        )
    if (reward.reward_manager.source, reward.reward_manager.name) != ("register", NAME):
        raise ValueError(
            f"reward.reward_manager.name={reward.reward_manager.name} of source="
            f"{reward.reward_manager.source} scores no parts of responses; set name={NAME} and "
            "source=register"
        )
    if reward.reward_model.enable or reward.custom_reward_function.path is not None:
        raise ValueError(
            "reward.reward_model and reward.custom_reward_function are not what is credited, and "
            "would be left out or scored in its place; leave both out, and call them in the "
            "reward of the credit"
        )
    if config.algorithm.use_kl_in_reward:
        raise ValueError(
            "algorithm.use_kl_in_reward changes the rewards of tokens, which are not those that "
            "are credited; set actor_rollout_ref.actor.use_kl_loss=true in its place"
        )
    if loss in _OF_WHOLE and not whole:
        raise ValueError(
            f"actor_rollout_ref.actor.policy_loss.loss_mode={loss} reads one advantage of a whole "
            f"response, and {name} credits each {credit.estimator.grain.value}; set it to vanilla, "
            "or take an estimator of whole responses"
        )


def handed_over(
    token_level_rewards: Float[Tensor, "B T"], response_mask: Tensor, **_: Any
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """The advantages of the batch, and the same as returns: verl's estimator.

    Raises:
        ValueError: If another trainer computes this batch.
    """
    handed = _HANDED.get()
    if handed is None:
        raise ValueError(
            "verl gives an advantage estimator no texts, and credit needs them; set "
            f"trainer.v1.trainer_mode={PREFIX}sync (or another mode that begins so), with "
            "trainer.use_v1=true"
        )
    wide = torch.zeros(response_mask.shape, dtype=torch.float32)
    for index, own in enumerate(handed):
        wide[index, : len(own)] = own
    found = wide.to(token_level_rewards) * response_mask
    return found, found.clone()


def credit_manager(base: Any) -> Any:
    """The class of a reward manager that scores responses and their parts.

    Args:
        base: ``verl.experimental.reward_loop.reward_manager.base.RewardManagerBase``.
    """

    class CreditRewardManager(base):
        """Scores one response at a time, in a thread, so that verl's calls can queue up."""

        def __init__(self, config: Any, tokenizer: Any, compute_score: Any, **_: Any) -> None:
            super().__init__(config, tokenizer, compute_score)
            self.setup = Setup.of(config)
            self.thread = ThreadPoolExecutor(max_workers=1)

        async def run_single(self, data: Any) -> dict[str, Any]:
            try:
                loop = asyncio.get_running_loop()
                reward, record = await loop.run_in_executor(self.thread, self._scored, data)
            except Exception as error:  # verl would log it, and train on the siblings alone
                failure = f"{type(error).__name__}: {error}"
                reward, record = math.nan, Record(rewards={}, failure=failure)
            told = {"acc": reward, NAME: record.packed()}
            return {"reward_score": reward, "reward_extra_info": told}

        def _scored(self, data: Any) -> tuple[float, Record]:
            item = data[-1]
            responses, there = item.batch["responses"], item.batch["attention_mask"].bool()
            begin = len(there) - len(responses)
            return self.setup.scored(
                item.non_tensor_batch,
                item.batch["prompts"][there[:begin]].tolist(),
                responses[there[begin:]].tolist(),
                self.tokenizer,
            )

    return CreditRewardManager


def credit_trainer(base: Any, mode: str, *, queue: Any, ray: Any) -> Any:
    """The class of a trainer that credits the tokens of a batch.

    Args:
        base: One of verl's trainers.
        mode: Its name, which verl compares with "sync".
        queue: The module ``transfer_queue``.
        ray: The module of the name.
    """

    class CreditTrainer(base):
        """verl's trainer, whose estimator is given the advantages of a credit."""

        def __init__(self, config: Any) -> None:
            self.setup = Setup.of(config)
            refuse(config, self.setup.credit)
            config.trainer.v1.trainer_mode = mode
            super().__init__(config)

        def _add_prompts_to_generate(self, num_prompts: int) -> int:
            self._check_workers()  # in asynchronous modes lost groups are replaced without end
            return super()._add_prompts_to_generate(num_prompts)

        def _validate(self) -> dict[str, float]:
            found = super()._validate()
            self._check_workers()
            return found

        def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
            self._check_workers()
            data = queue.kv_batch_get(
                keys=batch.keys,
                partition_id=batch.partition_id,
                select_fields=[*_FIELDS, *_TENSORS],
            )
            rows = rows_of(data, batch.keys, batch.tags)
            token = _HANDED.set(advantages(self.setup, rows, self.tokenizer, metrics))
            try:
                return super()._compute_advantage(batch, metrics)
            finally:
                _HANDED.reset(token)

        def _check_workers(self) -> None:
            workers = self.reward_loop_manager.reward_loop_worker_handles
            try:
                ray.get([worker.__ray_ready__.remote() for worker in workers])
            except ray.exceptions.RayActorError as error:
                raise RuntimeError(
                    "a reward worker has died, and with it the rewards of the responses that it "
                    f"was scoring; no reward is made up for them, so the run stops ({error}). "
                    "Give the workers more memory or take fewer (reward.num_workers), and start "
                    "again from the last checkpoint"
                ) from error

    CreditTrainer.__name__ = f"Credit{base.__name__}"
    return CreditTrainer


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of verl's batch."""

    key: str
    """``<uid>_<session>_<output>``."""
    fields: Mapping[str, Any]
    step: int
    """Of the training, when the prompt was sent out."""
    is_padding: bool
    """Whether verl copied the row to make the batch divisible."""

    @property
    def record(self) -> Record:
        """What the reward worker told.

        Raises:
            RuntimeError: If it told nothing, or that the reward failed.
        """
        told = self.fields["extra_fields"].get("reward_extra_info", {}).get(NAME)
        if told is None:
            raise RuntimeError(
                f"response {self.key} came without rewards of its parts; set "
                f"reward.reward_manager.name={NAME}, and let no agent loop set reward_score"
            )
        record = Record.unpacked(told)
        if record.failure:
            raise RuntimeError(
                f"the reward of response {self.key} failed, so the step stops and no reward is "
                f"made up ({record.failure})"
            )
        return record

    def written(self, setup: Setup) -> Written:
        """The response.

        Raises:
            ValueError: If the policy wrote a part of it alone.
        """
        if not self.key.endswith("_0"):
            raise ValueError(
                f"{self.key} is a second output of one session, and credit needs responses of one "
                "turn; set rollout.agent.default_agent_loop=single_turn_agent"
            )
        own = self.fields["response_mask"].bool()
        if not own.all():
            raise ValueError(
                f"response {self.key} trains on {int(own.sum())} of {len(own)} tokens: what tools "
                "or an environment wrote would be credited as the policy's; set "
                "rollout.agent.default_agent_loop=single_turn_agent"
            )
        return Written(
            group=self.fields["uid"],
            prompt=prompt_of(setup.asked(self.fields)),
            prompt_ids=self.fields["prompts"].tolist(),
            ids=self.fields["responses"].tolist(),
            reward=float(self.fields["rm_scores"].sum()),
            number=setup.number(self.fields),
        )


def rows_of(data: Any, keys: Sequence[str], tags: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The rows of a batch, in its order.

    Args:
        data: What TransferQueue gave: a ``TensorDict`` of nested tensors and of lists.
        keys: Of the rows.
        tags: Of the rows.
    """
    there = set(data.keys())
    columns = {name: list(data[name]) for name in (*_FIELDS, *_TENSORS) if name in there}
    return [
        Row(
            key=key,
            fields={name: column[index] for name, column in columns.items()},
            step=int(tag["global_steps"]),
            is_padding=bool(tag.get("is_padding", False)),
        )
        for index, (key, tag) in enumerate(zip(keys, tags, strict=True))
    ]


def advantages(
    setup: Setup, rows: Sequence[Row], tokenizer: Tokenizer, metrics: dict[str, Any]
) -> list[Float[Tensor, " T"]]:
    """The advantages of each row's tokens; 0 for padding, and where too few siblings are left.

    Args:
        setup: Of the run.
        rows: Of a batch, whole groups.
        tokenizer: The policy's.
        metrics: Where the number of rewards that were asked for is put.

    Raises:
        ValueError: If a row is no response of the policy's alone.
        RuntimeError: If a reward failed or is missing.
    """
    found = [torch.zeros(len(row.fields["responses"])) for row in rows]
    own = [index for index, row in enumerate(rows) if not row.is_padding]
    records = {index: rows[index].record for index in own}
    written = {index: rows[index].written(setup) for index in own}
    metrics[f"{NAME}/reward_evaluations"] = sum(len(one.rewards) for one in records.values())
    sizes = Counter(one.group for one in written.values())
    steps: dict[int, list[int]] = {}
    for index in sorted(own, key=lambda index: written[index].number or 0):  # not in verl's order
        left = sizes[written[index].group]
        if left >= setup.credit.estimator.smallest_group:
            steps.setdefault(rows[index].step, []).append(index)
        else:
            _log.warning("%s: its group has %d left, too few: advantage 0", rows[index].key, left)
    credit = recalling(setup.credit, ((written[index].prompt, records[index]) for index in own))
    for step, chosen in steps.items():
        earned = credited(credit, [written[index] for index in chosen], tokenizer, step=step)
        for index, one in zip(chosen, earned, strict=True):
            found[index] = one.advantages.float()
    return found
