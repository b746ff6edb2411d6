"""SkyRL's training, with the credit of rlcredit by the name of an estimator."""

import re
import sys
from typing import Any

from rlcredit import Credit
from rlcredit.integrations.skyrl import credit_trainer, register
from rlcredit.text import Sentences

_ANSWER = re.compile(r"#### (-?[0-9.,]+)")


def score(texts: list[str], rows: list[dict[str, Any]]) -> list[float]:
    """1 where the first number behind #### is its row's answer: SkyRL's environment gsm8k."""
    found = [_ANSWER.search(text) for text in texts]
    given = [match.group(1).replace(",", "") if match else "" for match in found]
    return [float(text == row["answer"]) for text, row in zip(given, rows, strict=True)]


def row_of(messages: list[dict[str, str]], columns: dict[str, Any]) -> dict[str, Any]:
    """The last message of a row of the data set, and the answer that the reward reads."""
    answer = columns["reward_spec"]["ground_truth"]
    return {"prompt": messages[-1]["content"], "answer": str(answer)}


def credit_of(estimator: str) -> Credit:
    """The credit of an estimator's name: ``trainer.algorithm.advantage_estimator``."""
    return Credit(reward=score, estimator=estimator, segmenter=Sentences())


def main() -> None:
    """Start SkyRL as its own entry point does, with another trainer."""
    import ray
    from skyrl.backends.skyrl_train.utils.ppo_utils import AdvantageEstimatorRegistry
    from skyrl.train.config import SkyRLTrainConfig
    from skyrl.train.entrypoints.main_base import BasePPOExp, validate_cfg
    from skyrl.train.trainer import RayPPOTrainer
    from skyrl.train.utils import initialize_ray

    class Experiment(BasePPOExp):
        def get_trainer(self, *settings: Any, **named: Any) -> RayPPOTrainer:
            made = credit_trainer(RayPPOTrainer)
            return made(*settings, credit=credit_of, prompt=row_of, **named)

    @ray.remote(num_cpus=1)
    def entrypoint(cfg: SkyRLTrainConfig) -> None:
        Experiment(cfg).run()

    register(AdvantageEstimatorRegistry)
    cfg = SkyRLTrainConfig.from_cli_overrides(sys.argv[1:])
    validate_cfg(cfg)
    initialize_ray(cfg)
    ray.get(entrypoint.remote(cfg))


if __name__ == "__main__":
    main()
