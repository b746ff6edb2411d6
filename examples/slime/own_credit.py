"""What slime's command names: a reward, the credit of a rollout, and its place in training."""

from functools import cache
from typing import Any

from rlcredit import Credit, score
from rlcredit.integrations import slime
from rlcredit.text import Sentences


def contains(texts: list[str], rows: list[dict[str, Any]]) -> list[float]:
    """1 where a text holds its row's answer."""
    return [float(row["answer"] in text) for text, row in zip(texts, rows, strict=True)]


def row_of(sample: Any) -> dict[str, Any]:
    """The prompt of a sample as the policy read it, and its label."""
    return {"prompt": str(sample.prompt), "answer": str(sample.label)}


@cache
def _rewards(model: str) -> slime.Rewards:
    from transformers import AutoTokenizer

    credit = Credit(reward=contains, estimator="ospo", segmenter=Sentences())
    return slime.Rewards(
        credit=credit, tokenizer=AutoTokenizer.from_pretrained(model), prompt=row_of
    )


async def reward(args: Any, sample: Any) -> float:
    """What a response earns: ``--custom-rm-path``."""
    return float(score([sample.response], [row_of(sample)], reward=contains))


def rewards(args: Any, samples: list[Any]) -> tuple[list[float], list[list[float]]]:
    """The credit of a rollout: ``--custom-reward-post-process-path``."""
    return _rewards(args.hf_checkpoint)(args, samples)


def advantages(args: Any, rollout_data: dict[str, Any]) -> None:
    """Its place in training, sequences cut or not: ``--custom-advantage-function-path``."""
    from slime.backends.megatron_utils.cp_utils import slice_log_prob_with_cp

    slime.advantages(args, rollout_data, sliced=slice_log_prob_with_cp)
