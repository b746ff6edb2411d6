"""SkyRL with an advantage per token.

SkyRL gives an advantage estimator the rewards of tokens, a mask and the uids of prompts, and
neither texts nor tokens. The trainer has them: a uid is the number of a row of the training data,
and the batch holds the sequences. :func:`credit_trainer` makes a trainer that credits the batch and
hands the advantages to the estimator with the uids; :func:`register` makes the estimators' names
known to SkyRL.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.estimators.base import Grain
from rlcredit.integrations.contract import SKYRL
from rlcredit.integrations.groups import Written, credited
from rlcredit.scoring.credit import Credit, PromptLike
from rlcredit.scoring.named import ESTIMATORS

PREFIX = "rlcredit_"
"""``trainer.algorithm.advantage_estimator=rlcredit_ospo`` means ``ospo``."""


class CreditedUids(list[str]):
    """The uids of a batch, and the advantages of its tokens."""

    def __init__(self, uids: Sequence[str], advantages: Float[Tensor, "B T"]) -> None:
        super().__init__(uids)
        self.advantages = advantages


def register(registry: Any) -> None:
    """Make the names of all estimators known to SkyRL.

    Call it at the top of the program that starts training, so that SkyRL's check of its settings
    and its workers know the names.

    Args:
        registry: ``skyrl.backends.skyrl_train.utils.ppo_utils.AdvantageEstimatorRegistry``.

    Raises:
        ValueError: If SkyRL knows one of the names already.
    """
    for name in ESTIMATORS:
        registry.register(f"{PREFIX}{name}", handed_over)


def handed_over(
    token_level_rewards: Float[Tensor, "B T"], index: Any, **_: Any
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """The advantages that came with the uids, and the same as returns.

    Raises:
        ValueError: If none came, so that another trainer computed this batch.
    """
    if not isinstance(index, CreditedUids):
        raise ValueError(
            "SkyRL gives an advantage estimator no texts, and credit needs them; train with "
            "rlcredit.integrations.skyrl.credit_trainer(RayPPOTrainer), without "
            "generator.step_wise_trajectories"
        )
    found = index.advantages.to(token_level_rewards)
    return found, found.clone()


def credit_trainer(trainer: Any) -> Any:
    """The class of a trainer that credits tokens.

    Its objects take ``credit`` and ``prompt`` beside the settings of ``trainer``: the first makes a
    :class:`Credit` of an estimator's name, the second a prompt of a row's messages and its other
    columns.

    Args:
        trainer: ``skyrl.train.trainer.RayPPOTrainer``.

    Raises:
        ImportError: If SkyRL has changed where this integration relies on it.
    """
    SKYRL.check(trainer, "as it is installed")

    class CreditTrainer(trainer):
        """SkyRL's trainer, whose estimator is given the advantages of a credit."""

        def __init__(
            self,
            *settings: Any,
            credit: Callable[[str], Credit],
            prompt: Callable[[Any, dict[str, Any]], PromptLike],
            **named: Any,
        ) -> None:
            super().__init__(*settings, **named)
            name = self.cfg.trainer.algorithm.advantage_estimator
            if name.removeprefix(PREFIX) not in ESTIMATORS or not name.startswith(PREFIX):
                raise ValueError(
                    f"trainer.algorithm.advantage_estimator={name} is none of this trainer's; set "
                    f"it to one of {', '.join(PREFIX + each for each in ESTIMATORS)}"
                )
            self.credit = credit(name.removeprefix(PREFIX))
            self.prompt = prompt
            refuse(self.cfg, self.credit)

        def compute_advantages_and_returns(self, data: Any) -> Any:
            data.metadata["uids"] = self._credited(data)
            return super().compute_advantages_and_returns(data)

        def _credited(self, data: Any) -> CreditedUids:
            uids = data.metadata["uids"]
            kept = data["response_mask"].bool()
            count = len(uids) - data.metadata.get("pad_size", 0)  # copies of the first at the end
            written = written_of(data, uids[:count], self.tokenizer.eos_token_id, self._asked)
            found = credited(self.credit, written, self.tokenizer, step=self.global_step)
            wide = torch.zeros(kept.shape)
            for index, earned in enumerate(found):
                wide[index, kept[index].cpu()] = earned.advantages.float()
            return CreditedUids(uids, wide)

        def _asked(self, uid: str) -> PromptLike:
            messages, _, columns, _ = self.train_dataset[int(uid)]
            return self.prompt(messages, columns)

    return CreditTrainer


def written_of(
    data: Any, uids: Sequence[str], eos: int | None, asked: Callable[[str], PromptLike]
) -> list[Written]:
    """The first responses of a batch.

    Args:
        data: SkyRL's ``TrainingInputBatch``: responses at the end of the sequences.
        uids: Of the responses that are read.
        eos: The end token, which SkyRL may add to a response without training on it.
        asked: Makes the prompt of a uid.

    Raises:
        ValueError: If the policy wrote a part of a response alone.
    """
    kept = data["response_mask"].bool()
    trained = data["loss_mask"].bool() & kept
    prompts = {uid: asked(uid) for uid in dict.fromkeys(uids)}
    found: list[Written] = []
    for index, uid in enumerate(uids):
        row = data["sequences"][index][data["attention_mask"][index].bool()].tolist()
        begin = len(row) - int(kept[index].sum())
        own = trained[index][kept[index]].tolist()
        added = any(own) and not own[-1] and row[-1] == eos
        if any(own) and not all(own[: len(own) - added]):
            raise ValueError(
                f"response {index} to prompt {uid} trains on {sum(own)} of {len(own)} tokens: what "
                "the environment wrote would be credited as the policy's; take an environment of "
                "one turn"
            )
        found.append(
            Written(
                group=uid,
                prompt=prompts[uid],
                prompt_ids=row[:begin],
                ids=row[begin:],
                reward=float(data["rewards"][index].sum()),
            )
        )
    return found


def refuse(cfg: Any, credit: Credit) -> None:
    """Refuse settings of SkyRL's under which the credit would mean something else.

    Raises:
        ValueError: With what it would mean, and the remedy.
    """
    algorithm, name = cfg.trainer.algorithm, type(credit.estimator).__name__
    if cfg.generator.step_wise_trajectories:
        raise ValueError(
            "generator.step_wise_trajectories gives all steps one number of the last; credit "
            "needs responses of one turn, so set it to false"
        )
    if algorithm.use_kl_in_reward:
        raise ValueError(
            "trainer.algorithm.use_kl_in_reward changes the rewards of tokens, which are not those "
            "that are credited; set use_kl_loss=true in its place"
        )
    if algorithm.advantage_batch_normalize:
        raise ValueError(
            "trainer.algorithm.advantage_batch_normalize moves the advantages of all tokens to "
            "mean 0, so that tokens without credit would get some; set it to false"
        )
    if algorithm.policy_loss_type == "gspo" and credit.estimator.grain is not Grain.rollout:
        raise ValueError(
            f"trainer.algorithm.policy_loss_type=gspo has one ratio a response, and {name} credits "
            f"each {credit.estimator.grain.value}; set it to regular, or take an estimator of "
            "whole responses"
        )
