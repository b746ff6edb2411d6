"""TRL in several processes, each with a part of every group."""

import os
import socket
import warnings
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import torch

from tests.forked import FORKED


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a process trained on in a step, and what the whole batch should have."""

    rows: int
    advantages: list[list[float]]
    everything: list[list[float]]
    """Our own advantages of all processes' completions."""


def score(texts, rows):
    """Letters, and the words that a row wants."""
    return [
        sum(word in text for word in row["wanted"]) + len(set(text)) / 100
        for text, row in zip(texts, rows, strict=True)
    ]


def started(size):
    """Two steps in as many processes; what each trained on, by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    queue = FORKED.Queue()
    ranks = [FORKED.Process(target=_train, args=(rank, size, port, queue)) for rank in range(size)]
    for process in ranks:
        process.start()
    found = dict(queue.get(timeout=120) for _ in ranks)
    for process in ranks:
        process.join(timeout=60)
    assert [process.exitcode for process in ranks] == [0] * size, found
    return found


def _train(rank, size, port, queue):
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    from datasets import Dataset
    from trl import GRPOConfig

    from rlcredit import Credit
    from rlcredit.integrations.trl import CreditGRPOTrainer
    from rlcredit.text import Windows
    from tests.policy.toy import toy_policy, toy_prompts

    policy = toy_policy()
    parts = []

    class Spied(CreditGRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            step = self._step
            output = super()._generate_and_score_completions(inputs)
            parts.append(_part(self, step, inputs, output))
            return output

    with TemporaryDirectory() as folder:
        trainer = Spied(
            model=policy.model,
            args=GRPOConfig(
                output_dir=folder,
                use_cpu=True,
                bf16=False,
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
                max_steps=2,
                per_device_train_batch_size=2,
                num_generations=4,
                max_completion_length=16,
                gradient_checkpointing=False,
                seed=0,
            ),
            train_dataset=Dataset.from_list(
                [{"prompt": p.text, "wanted": ["red", "steel"]} for p in toy_prompts()[:4]]
            ),
            processing_class=policy.tokenizer,
            credit=Credit(reward=score, estimator="ospo", segmenter=Windows(num_words=2), seed=2),
        )
        trainer.train()
    queue.put((rank, parts))


def _part(trainer, step, inputs, output):
    """This process's advantages, and ours of all completions that lie anywhere."""
    from accelerate.utils import gather_object

    ids, mask = output["completion_ids"], output["completion_mask"].bool()
    mine = [row[kept].tolist() for row, kept in zip(ids, mask, strict=True)]
    every, rows = gather_object(mine), gather_object(inputs)
    size = trainer.num_generations
    whole = torch.zeros(len(every), max(map(len, every)), dtype=torch.long)
    there = torch.zeros(whole.shape, dtype=torch.bool)
    for index, own in enumerate(every):
        whole[index, : len(own)] = torch.tensor(own)
        there[index, : len(own)] = True
    groups = (len(every) // size, size)
    found = trainer.credit.of_tokens(
        rows[::size],
        whole.unflatten(0, groups),
        there.unflatten(0, groups),
        trainer.processing_class,
        step=step,
    )
    wide = torch.zeros(len(mine), whole.shape[1])
    width = min(wide.shape[1], output["advantages"].shape[1])
    wide[:, :width] = output["advantages"][:, :width]
    return Part(
        rows=len(inputs),
        advantages=wide.tolist(),
        everything=found.advantages.flatten(0, 1).float().tolist(),
    )
