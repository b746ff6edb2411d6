"""TRL's ``GRPOTrainer`` with an advantage per token (extra ``[trl]``).

TRL samples, and its own reward functions count as before. The reward of a :class:`Credit` is one
more of them: it scores whole completions and, in the same call, the parts that the estimator asks
for. The advantages that TRL makes, one number a completion, are then replaced by the estimator's,
one a token, which TRL's loss takes as they are. Nothing of TRL is copied.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import trl
from accelerate.utils import gather_object
from jaxtyping import Bool, Float
from torch import Tensor
from trl.trainer.grpo_trainer import GRPOTrainer

from rlcredit.credit.simplex import Divergence
from rlcredit.estimators.base import Grain
from rlcredit.integrations.contract import TRL
from rlcredit.losses.lpo import lpo_advantages
from rlcredit.scoring.credit import Credit, Credited, prompt_of
from rlcredit.scoring.responses import of_tokens, padded
from rlcredit.scoring.samples import Completion
from rlcredit.text.response import opened_thought
from rlcredit.types import Advantages, Prompt, Randomness, Responses, Signals

_log = logging.getLogger(__name__)

TRL.check(GRPOTrainer, trl.__version__)

NAME = "rlcredit"
"""The name of the reward of a :class:`Credit` among TRL's reward functions."""
_EVALUATION_STEP = -1
_NOT_COLUMNS = frozenset({"completions", "completion_ids", "prompts", "environments"})


class CreditGRPOTrainer(GRPOTrainer):
    """``GRPOTrainer`` whose advantages are an estimator's.

    >>> import inspect
    >>> "credit" in inspect.signature(CreditGRPOTrainer).parameters
    True

    Ignored, since the estimator makes the advantages: ``scale_rewards`` and
    ``multi_objective_aggregation``. Where a group lies across processes, each of them scores it.
    """

    def __init__(
        self,
        *,
        credit: Credit,
        reward_funcs: Any = (),
        prompts: Sequence[Prompt] = (),
        lpo: Divergence | None = None,
        **settings: Any,
    ) -> None:
        """Put the credit in front of TRL's reward functions.

        Args:
            credit: Scores completions and their parts, and makes the advantages.
            reward_funcs: Further ones of TRL's, which whole completions get. With them
                ``reward_weights`` begins with the weight of the credit's own reward.
            prompts: Prompts of this package, with judgements. Rows of the data set name theirs in
                the column ``prompt_id``; without any, a prompt is its row
                (:func:`rlcredit.scoring.credit.prompt_of`).
            lpo: Project the policy as LPO does (arXiv:2605.06139), on the target of the estimator's
                advantages of whole responses.
            settings: All others of ``GRPOTrainer``.

        Raises:
            ValueError: If TRL's settings would make the credit mean something else.
        """
        others = list(reward_funcs) if isinstance(reward_funcs, list | tuple) else [reward_funcs]
        self.credit = credit
        self.lpo = lpo
        self._known = {prompt.prompt_id: prompt for prompt in prompts}
        self._others = bool(others)
        self._held: _Held | None = None

        def rlcredit(completion_ids: list[list[int]], **columns: Any) -> list[float]:
            return self._scored(completion_ids, columns)

        functions: Any = [rlcredit, *others]
        super().__init__(reward_funcs=functions, **settings)
        refuse(self)
        for name, usual in (
            ("scale_rewards", ("group", True)),
            ("multi_objective_aggregation", ("sum_then_normalize",)),
        ):
            if getattr(self.args, name, usual[0]) not in usual:
                _log.warning("%s is ignored: the estimator makes the advantages", name)

    @property
    def _trains(self) -> bool:
        model: Any = self.model
        return bool(model.training)

    @property
    def _reader(self) -> Any:
        """The tokenizer, which a processor of several kinds of input holds."""
        return getattr(self.processing_class, "tokenizer", self.processing_class)

    def _scored(self, completion_ids: Sequence[Sequence[int]], columns: Mapping[str, Any]) -> Any:
        """Score the groups that this process holds a part of; the rewards of its completions."""
        size: Any = self.num_generations if self._trains else self.num_generations_eval
        window = _Window.of(self.accelerator, len(completion_ids), size)
        rows = _rows(columns, len(completion_ids))
        every: list[Any] = list(zip(rows, completion_ids, strict=True))
        if window.is_split:
            every = gather_object(every)
        groups = every[window.groups]
        firsts = [row for row, _ in groups[::size]]
        for index, (row, _) in enumerate(groups):
            if row["prompts"] != firsts[index // size]["prompts"]:
                raise RuntimeError(
                    f"completion {index} of {len(groups)} has another prompt than its group of "
                    f"{size}: TRL's order of completions has changed; install another version"
                )
        ids, mask = padded([own for _, own in groups], size)
        read = of_tokens(
            [self._prompt(row) for row in firsts],
            ids,
            mask,
            self._reader,
            opened=[opened_thought(self._asked(row["prompts"])) for row in firsts],
        )
        signals = self._signals(read, offset=window.first)
        self._held = _Held(signals=signals, responses=read, window=window)
        return signals.rewards.flatten()[window.own].tolist()

    def _signals(self, read: Responses, *, offset: int) -> Signals:
        needs = self.credit.estimator.needs
        if self._others:  # they may tell apart a group that this reward does not
            needs = replace(needs, skips_equal_groups=False)
        step = self._step if self._trains else _EVALUATION_STEP
        randomness = Randomness(seed=self.credit.seed, step=step)
        return self.credit.scorer(read, needs, randomness=randomness, offset=offset)

    def _prompt(self, row: Mapping[str, Any]) -> Prompt:
        """The prompt that a row names, or is."""
        if self._known:
            name = str(row.get("prompt_id"))
            if name not in self._known:
                raise ValueError(
                    f"a row has prompt_id={name!r}, and the trainer knows no such prompt; give "
                    "CreditGRPOTrainer(prompts=...) those that the data set was made from"
                )
            return self._known[name]
        asked = row["prompts"]
        text = asked if isinstance(asked, str) else str(asked[-1]["content"])
        return prompt_of({key: row[key] for key in row if key != "prompts"} | {"prompt": text})

    def _asked(self, prompt: Any) -> str:
        """A prompt as the model reads it."""
        if isinstance(prompt, str):
            return prompt
        if prompt[-1]["role"] == "assistant":
            return ""
        settings: Any = self.chat_template_kwargs
        return self._reader.apply_chat_template(
            prompt, tokenize=False, add_generation_prompt=True, **settings
        )

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> Tensor:
        """TRL's rewards, of all processes; their weighted sums are kept."""
        found = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        weights = self.reward_weights.to(found.device)
        self._totals = (found * weights).nansum(dim=1).cpu()
        return found

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """TRL's batch, its advantages replaced."""
        output = super()._generate_and_score_completions(inputs)
        if "tool_mask" in output:
            raise ValueError(
                "tools or an environment wrote into the completions, and their text would be "
                "credited as the policy's; train without them"
            )
        held = self._held
        assert held is not None, "TRL calls every reward function"
        if held.signals.rewards.shape[1] < 2:  # an evaluation of one completion a prompt
            return output
        credited = self._credited(held)
        full = output["completion_mask"]
        own = credited.advantages.flatten(0, 1)[held.window.own]
        wide = own.new_zeros(full.shape, dtype=torch.float32)
        width = min(own.shape[1], full.shape[1])
        wide[:, :width] = own[:, :width]
        output["advantages"] = wide.to(full.device) * full
        self._report(credited, held)
        return output

    def _credited(self, held: "_Held") -> Credited:
        """The estimator's advantages, from the rewards of all functions together."""
        signals = held.signals
        begin = held.window.first * signals.rewards.shape[1]
        totals = self._totals[begin : begin + signals.rewards.numel()].view(signals.rewards.shape)
        signals = replace(
            signals,
            rewards=totals.to(signals.rewards),
            game=_weighted(signals.game, float(self.reward_weights[0])),
        )
        result = self.credit.estimator(signals)
        if self.lpo is not None:
            result = _projected(result, signals.response_mask, self.lpo)
        return Credited(responses=held.responses, signals=signals, result=result)

    def _report(self, credited: Credited, held: "_Held") -> None:
        """Figures of the credit, and a column of the completions' table."""
        figures = self._metrics["train" if self._trains else "eval"]
        for name, value in credited.result.metrics.items():
            figures[f"{NAME}/{name}"].append(float(value))
        figures[f"{NAME}/reward_evaluations"].append(float(held.signals.num_evaluations))
        shown = [_as_text(one) for one in credited.completions[held.window.own]]
        self._logs["extra"][f"{NAME}/segments"].extend(gather_object(shown))


@dataclass(frozen=True, kw_only=True)
class _Window:
    """Which of all processes' completions a process holds, and which groups these belong to."""

    first: int
    """Number of the first group, over all processes."""
    groups: slice
    """The completions of these groups, among those of all processes or of this one alone."""
    own: slice
    """This process's completions among them."""
    is_split: bool
    """Whether a group lies across processes."""

    @classmethod
    def of(cls, accelerator: Any, mine: int, size: int) -> "_Window":
        rank, total = accelerator.process_index, mine * accelerator.num_processes
        if total % size:
            raise ValueError(
                f"{total} completions are no whole groups of {size}; make the batch of all "
                "processes a multiple of num_generations"
            )
        begin, end = rank * mine, (rank + 1) * mine
        first, last = begin // size, -(-end // size)
        if mine % size == 0:
            everything = slice(0, mine)
            return cls(first=first, groups=everything, own=everything, is_split=False)
        return cls(
            first=first,
            groups=slice(first * size, last * size),
            own=slice(begin - first * size, end - first * size),
            is_split=True,
        )


@dataclass(frozen=True, kw_only=True)
class _Held:
    """What was scored and is not yet credited."""

    signals: Signals
    responses: Responses
    window: _Window


def refuse(trainer: CreditGRPOTrainer) -> None:
    """Refuse settings of TRL's under which the credit would mean something else.

    Raises:
        ValueError: With what it would mean, and the remedy.
    """
    args: Any = trainer.args
    estimator = trainer.credit.estimator
    name, whole = type(estimator).__name__, estimator.grain is Grain.rollout
    if trainer.tools or trainer.environment_factories or trainer.rollout_func is not None:
        raise ValueError(
            "tools, environments and rollout_func write into completions, and what they wrote "
            "would be credited as the policy's; train without them"
        )
    if estimator.needs.candidates and trainer._others:
        raise ValueError(
            f"{name} shares out what a set of candidates earns and reads no other reward; leave "
            "reward_funcs out"
        )
    of_whole = [
        f"loss_type={args.loss_type!r}" if args.loss_type in ("vespo", "luspo") else "",
        "importance_sampling_level='sequence'" * (args.importance_sampling_level == "sequence"),
        "off_policy_mask_threshold" * (args.off_policy_mask_threshold is not None),
    ]
    if not whole and any(of_whole):
        raise ValueError(
            f"{' and '.join(filter(None, of_whole))} reads one advantage of a whole response, and "
            f"{name} credits each {estimator.grain.value}; use loss_type='dapo' or 'grpo' at token "
            "level, or an estimator of whole responses"
        )
    if trainer.lpo is not None:
        _refuse_lpo(args, name, whole=whole)


def _refuse_lpo(args: Any, name: str, *, whole: bool) -> None:
    if not whole:
        raise ValueError(
            f"LPO's target has one weight per response, and {name} credits parts of it; use "
            "estimator='grpo', 'dr_grpo' or 'maxrl'"
        )
    if args.num_iterations != 1 or args.steps_per_generation > args.gradient_accumulation_steps:
        raise ValueError(
            f"num_iterations={args.num_iterations}, steps_per_generation="
            f"{args.steps_per_generation}, gradient_accumulation_steps="
            f"{args.gradient_accumulation_steps}: LPO's weights hold for the first update on a "
            "batch alone; set num_iterations=1 and steps_per_generation to at most "
            "gradient_accumulation_steps"
        )
    if args.loss_type != "grpo" or args.importance_sampling_level != "token":
        raise ValueError(
            f"loss_type={args.loss_type!r} at {args.importance_sampling_level} level: LPO's "
            "gradient is that of a mean over each response's tokens; set loss_type='grpo' and "
            "importance_sampling_level='token'"
        )


def _rows(columns: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """The row of each completion: its prompt as TRL has it (``prompts``), and its columns."""
    kept = {
        name: values
        for name, values in columns.items()
        if name not in _NOT_COLUMNS and isinstance(values, list) and len(values) == count
    } | {"prompts": columns["prompts"]}
    return [{name: values[index] for name, values in kept.items()} for index in range(count)]


def _weighted(game: Any, weight: float) -> Any:
    """A game in the units of the total reward."""
    return None if game is None else replace(game, rewards=game.rewards * weight)


def _projected(
    result: Advantages, mask: Bool[Tensor, "P G T"], divergence: Divergence
) -> Advantages:
    """LPO's advantages in the place of the group-relative ones."""
    there = mask.any(dim=-1)
    counts = mask.sum(dim=-1).clamp(min=1)
    whole: Float[Tensor, "P G"] = (result.values * mask).sum(dim=-1) / counts
    projected = lpo_advantages(whole, divergence=divergence, present=there)
    return replace(result, values=torch.where(mask, projected.unsqueeze(-1), 0))


def _as_text(completion: Completion) -> str:
    """A completion's segments with their credit, in one line."""
    return " | ".join(
        part.text if part.credit is None else f"{part.text} {part.credit:+.3f}"
        for part in completion.segments
    )
