"""Writes tests/golden/trl.json: GRPO's advantages, losses and gradients as TRL computes them.

One real step of TRL's own trainer on a tiny random policy gives completions, rewards and
advantages; its loss function is then called for each variant, with log-probs of an older policy
put beside. The weights are stored too, so that the gradients can be taken again without TRL.

    python scripts/make_golden.py
"""

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from rlcredit.types import Randomness

TARGET = Path(__file__).parents[1] / "tests" / "golden" / "trl.json"
WORDS = ["<pad>", "<eos>", "red", "blue", "tent", "boot", "warm", "light", "dry", "old"]
REWARDS = [0.1, 0.7, 0.7, 0.25, 0.0, 1.0, 0.6, 0.3]
GROUP_SIZE = 4
VARIANTS: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo"},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon_high": 0.3},
    "cispo": {"loss_type": "cispo", "epsilon_high": 1.1},
    "kl": {"loss_type": "grpo", "beta": 0.1},
    "dual_clip": {"loss_type": "grpo", "delta": 1.25},
}


class Recorder(GRPOTrainer):
    """Keeps what the trainer is about to compute its loss from."""

    batch: dict[str, Tensor]

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        """Remember the batch, groups in order, then go on as always."""
        scored = super()._generate_and_score_completions(inputs)
        self.batch = {k: v.clone() for k, v in scored.items() if isinstance(v, Tensor)}
        return scored

    def variant(self, settings: dict[str, Any], batch: dict[str, Tensor]) -> tuple[float, Tensor]:
        """Loss and flat gradient under other settings."""
        defaults = {"importance_sampling_level": "token", "beta": 0.0, "epsilon_high": 0.2}
        for name, value in {**defaults, "delta": None, **settings}.items():
            setattr(self.args if name == "delta" else self, name, value)
        model: Any = self.model
        model.zero_grad()
        loss = self._compute_loss(model, batch)
        loss.backward()
        return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()])


def tokenizer() -> PreTrainedTokenizerFast:
    """Words to ids, nothing else."""
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )


def policy() -> Qwen3ForCausalLM:
    """Random weights, in double precision."""
    config = Qwen3Config(
        vocab_size=len(WORDS),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        max_position_embeddings=32,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
    )
    model = Qwen3ForCausalLM(config).double()
    generator = Randomness(seed=0, step=0).generator("weights")
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.5, generator=generator)
    return model


def reward(completions: list[str], **_: Any) -> list[float]:
    """The next rewards of the list, whatever was written."""
    return REWARDS[: len(completions)]


def trainer(folder: str) -> Any:
    """TRL's trainer, after one step without a learning rate."""
    args = GRPOConfig(
        output_dir=folder,
        use_cpu=True,
        report_to=[],
        bf16=False,
        seed=0,
        learning_rate=0.0,
        max_steps=1,
        per_device_train_batch_size=len(REWARDS),
        num_generations=GROUP_SIZE,
        max_completion_length=6,
        gradient_checkpointing=False,
        use_bias_correction_kl=False,
    )
    prompts = Dataset.from_dict({"prompt": ["red tent", "warm dry boot"]})
    judge: Any = reward
    found = Recorder(
        model=policy(),
        reward_funcs=judge,
        args=args,
        train_dataset=prompts,
        processing_class=tokenizer(),
    )
    found.train()
    return found


def main() -> None:
    """Run TRL and store what it found."""
    with tempfile.TemporaryDirectory() as folder:
        run = trainer(folder)
    batch = run.batch
    generator = Randomness(seed=0, step=0).generator("drift")
    shape = batch["completion_ids"].shape
    with torch.no_grad():
        logprobs = run._get_per_token_logps_and_entropies(
            run.model,
            torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
            torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
            shape[1],
        )[0]
    for name in ("old_per_token_logps", "ref_per_token_logps"):
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        batch[name] = logprobs + 0.5 * noise
    run.model.train()
    variants = {}
    for name, settings in VARIANTS.items():
        loss, gradient = run.variant(settings, batch)
        variants[name] = {"settings": settings, "loss": loss, "gradient": gradient.tolist()}
    record = {
        "made_by": "python scripts/make_golden.py",
        "versions": {name: version(name) for name in ("trl", "transformers", "torch")},
        "group_size": GROUP_SIZE,
        "max_completion_length": run.max_completion_length,
        "rewards": REWARDS,
        "config": run.model.config.to_diff_dict(),
        "weights": {name: w.tolist() for name, w in run.model.named_parameters()},
        "batch": {name: value.tolist() for name, value in batch.items()},
        "logprobs": logprobs.tolist(),
        "variants": variants,
    }
    TARGET.write_text(json.dumps(record) + "\n")
    print(f"{TARGET}: {len(variants)} losses by trl {record['versions']['trl']}")


if __name__ == "__main__":
    main()
