"""Train a model with TRL's trainer and credit by segment.

python train.py <model> [steps]
"""

import sys

import torch
from datasets import Dataset
from trl import GRPOConfig

from rlcredit import Credit
from rlcredit.integrations.trl import CreditGRPOTrainer
from rlcredit.text import Sentences

ROWS = [
    {"prompt": "Once upon a time", "wanted": ["dog", "happy"]},
    {"prompt": "Tom had a boat.", "wanted": ["sea", "fish"]},
    {"prompt": "It was a cold day.", "wanted": ["snow", "play"]},
    {"prompt": "Lily saw a bird.", "wanted": ["fly", "sky"]},
]


def score(texts: list[str], rows: list[dict]) -> list[float]:
    """The share of the wanted words that a text has."""
    return [
        sum(word in text.lower() for word in row["wanted"]) / len(row["wanted"])
        for text, row in zip(texts, rows, strict=True)
    ]


def main(model: str, steps: int) -> None:
    """Credit each sentence by what the text earns without it."""
    trainer = CreditGRPOTrainer(
        model=model,
        credit=Credit(reward=score, estimator="loo", segmenter=Sentences()),
        train_dataset=Dataset.from_list(ROWS),
        args=GRPOConfig(
            output_dir="outputs/trl",
            max_steps=steps,
            per_device_train_batch_size=8,
            num_generations=8,
            max_completion_length=64,
            learning_rate=1e-5,
            logging_steps=1,
            log_completions=True,
            report_to=[],
            use_cpu=not torch.cuda.is_available(),
            bf16=torch.cuda.is_available(),
        ),
    )
    trainer.train()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100)
