"""A trainer of TRL's with our credit that keeps every batch it trains on."""

import warnings
from copy import deepcopy

import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import GRPOConfig

from rlcredit.integrations.trl import CreditGRPOTrainer

OURS = ("reward_funcs", "prompts", "lpo", "tools")
"""What goes to the trainer itself; all else to its settings."""


class Kept(CreditGRPOTrainer):
    """Keeps what it was given and what it made of it."""

    def __init__(self, **settings):
        self.batches = []
        super().__init__(**settings)

    def _generate_and_score_completions(self, inputs):
        step = self._step
        output = super()._generate_and_score_completions(inputs)
        self.batches.append((step, deepcopy(inputs), output))
        return output


def trainer(policy, folder, credit, *, rows, **settings):
    """Three updates of two groups of four, unless told otherwise."""
    torch.manual_seed(0)
    others = {name: settings.pop(name) for name in OURS if name in settings}
    usual = {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 1,
        "max_steps": 3,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 20,
        "learning_rate": 1e-3,
        "gradient_checkpointing": False,
        "loss_type": "dapo",
        "seed": 0,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = Kept(
            model=deepcopy(policy.model),
            args=GRPOConfig(**(usual | settings)),
            train_dataset=Dataset.from_list(rows),
            processing_class=policy.tokenizer,
            credit=credit,
            **others,
        )
    made.remove_callback(PrinterCallback)
    return made
