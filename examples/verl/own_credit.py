"""What a run of verl asks of its own code: a credit, a prompt, and the rows of its data.

python own_credit.py <folder>    writes train.parquet and val.parquet
"""

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rlcredit import Credit
from rlcredit.integrations.search import Search
from rlcredit.tasks.esci import ESCI
from rlcredit.types import Prompt


@cache
def searched() -> Search:
    """The generated shop; with ESCI's files, ``ESCI(source=Source.path, path=...)``."""
    return Search.of(ESCI())


def credit_of(estimator: str) -> Credit:
    """The credit of an estimator's name: ``algorithm.adv_estimator=rlcredit_<name>``."""
    return searched().credit(estimator)


def row_of(messages: list[dict[str, Any]], columns: dict[str, Any]) -> Prompt:
    """The prompt with its judgements, by the id in its row."""
    del messages
    return searched().prompts[columns["extra_info"]["prompt_id"]]


def rows_of(prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """The rows of verl's data; random draws follow ``index``."""
    return [
        {
            "data_source": "esci",
            "prompt": [
                {"role": "system", "content": prompt.instruction},
                {"role": "user", "content": prompt.text},
            ],
            "reward_model": {"style": "rule", "ground_truth": prompt.query},
            "extra_info": {"index": index, "prompt_id": prompt.prompt_id},
        }
        for index, prompt in enumerate(prompts)
    ]


def main(folder: str) -> None:
    """Write the training and the validation prompts."""
    import pandas as pd

    task = searched().task
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, prompts in (("train", task.train), ("val", task.validation)):
        pd.DataFrame(rows_of(prompts)).to_parquet(Path(folder) / f"{name}.parquet")


if __name__ == "__main__":
    main(sys.argv[1])
