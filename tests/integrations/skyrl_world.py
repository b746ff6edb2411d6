"""What is read of SkyRL, as its source at a956457 has it (Apache-2.0).

skyrl/train/trainer.py (RayPPOTrainer), skyrl/train/dataset/{dataset,preprocess}.py,
skyrl/backends/skyrl_train/training_batch.py and .../utils/ppo_utils.py, without Ray, models and
step-wise training.
"""

import copy
from types import SimpleNamespace

import torch


def config(**changed):
    """The settings that are read, with SkyRL's defaults."""
    usual = {
        "advantage_estimator": "rlcredit_ospo",
        "use_kl_in_reward": False,
        "advantage_batch_normalize": False,
        "policy_loss_type": "regular",
        "gamma": 1.0,
        "lambd": 1.0,
        "grpo_norm_by_std": True,
        "step_wise_trajectories": False,
    } | changed
    generator = SimpleNamespace(step_wise_trajectories=usual.pop("step_wise_trajectories"))
    return SimpleNamespace(
        trainer=SimpleNamespace(algorithm=SimpleNamespace(**usual)), generator=generator
    )


class AdvantageEstimatorRegistry:
    """Of one process; SkyRL's is synchronised through a Ray actor."""

    def __init__(self):
        self._functions = {"grpo": None}

    def register(self, name, func):
        if name in self._functions:
            raise ValueError(f"advantage estimator '{name}' already registered")
        self._functions[name] = func

    def get(self, name):
        if name not in self._functions:
            raise ValueError(f"Unknown advantage estimator '{name}'")
        return self._functions[name]


class PromptDataset:
    def __init__(self, rows):
        self.dataframe = rows

    def __getitem__(self, item):
        row_dict = dict(self.dataframe[item])
        messages = row_dict.pop("prompt")
        env_class = row_dict.pop("env_class", None)
        return messages, env_class, row_dict, str(item)


class TrainingInputBatch(dict):
    metadata = None


def convert_prompts_responses_to_batch_tensors(
    pad_token_id, prompts, responses, rewards, loss_masks
):
    """Sequences padded on the left, and what belongs to responses at their end."""
    max_response = max(map(len, responses))
    max_total = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))
    sequences = torch.full((len(prompts), max_total), pad_token_id)
    attention_mask = torch.zeros(len(prompts), max_total, dtype=torch.long)
    response_mask = torch.zeros(len(prompts), max_response, dtype=torch.long)
    ret_rewards = torch.zeros(len(prompts), max_response)
    ret_loss_masks = torch.zeros(len(prompts), max_response)
    for i, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        start = max_total - len(prompt) - len(response)
        sequences[i, start:] = torch.tensor([*prompt, *response])
        attention_mask[i, start:] = 1
        response_mask[i, max_response - len(response) :] = 1
        ret_rewards[i, max_response - len(response) :] = torch.tensor(rewards[i])
        ret_loss_masks[i, max_response - len(response) :] = torch.tensor(loss_masks[i]).float()
    return sequences, attention_mask, response_mask, ret_rewards, ret_loss_masks


def pad_training_input_batch(batch, pad_size):
    """Copies of the first row that train nothing."""
    padded = TrainingInputBatch()
    for key, tensor in batch.items():
        if tensor is None:
            padded[key] = None
            continue
        padding = tensor[[0] * pad_size].clone()
        padded[key] = torch.cat([tensor, padding * (key != "loss_mask")])
    padded.metadata = copy.deepcopy(batch.metadata)
    padded.metadata["uids"] = batch.metadata["uids"] + [f"pad{i}" for i in range(pad_size)]
    padded.metadata["pad_size"] = pad_size
    return padded


class RayPPOTrainer:
    def __init__(self, cfg, tokenizer, train_dataset, registry):
        self.cfg = cfg
        self.tokenizer = tokenizer
        self.train_dataset = train_dataset
        self.all_metrics = {}
        self.global_step = 0
        self.registry = registry

    def convert_to_training_input(self, generator_output, uids):
        sequences, attention_mask, response_mask, rewards, loss_mask = (
            convert_prompts_responses_to_batch_tensors(
                self.tokenizer.pad_token_id,
                generator_output["prompt_token_ids"],
                generator_output["response_ids"],
                generator_output["rewards"],
                generator_output["loss_masks"],
            )
        )
        training_input = TrainingInputBatch(
            {
                "sequences": sequences,
                "attention_mask": attention_mask,
                "response_mask": response_mask,
                "rewards": rewards,
                "loss_mask": loss_mask,
                "values": None,
            }
        )
        training_input.metadata = {"uids": uids}
        pad_size = -len(uids) % 4
        return pad_training_input_batch(training_input, pad_size)

    @torch.no_grad()
    def compute_advantages_and_returns(self, data):
        token_level_rewards = data["rewards"]
        advantages, returns = self._estimated(
            token_level_rewards=token_level_rewards,
            response_mask=data["response_mask"],
            index=data.metadata["uids"],
            adv_estimator=self.cfg.trainer.algorithm.advantage_estimator,
            config=self.cfg.trainer.algorithm,
            values=data["values"],
            gamma=self.cfg.trainer.algorithm.gamma,
            lambd=self.cfg.trainer.algorithm.lambd,
            grpo_norm_by_std=self.cfg.trainer.algorithm.grpo_norm_by_std,
        )
        data["returns"] = returns
        data["advantages"] = advantages
        pad_size = data.metadata.get("pad_size", 0)
        num_samples = len(token_level_rewards)
        return_sums = token_level_rewards.sum(dim=-1)[: num_samples - pad_size]
        valid_advantages = torch.masked_select(
            data["advantages"][: num_samples - pad_size, ...],
            data["response_mask"][: num_samples - pad_size].bool(),
        )
        self.all_metrics |= {
            "loss/avg_final_rewards": return_sums.mean().item(),
            "loss/avg_raw_advantages_abs": valid_advantages.abs().mean().item(),
        }
        return data

    def _estimated(self, token_level_rewards, response_mask, index, adv_estimator, **kwargs):
        """ppo_utils.compute_advantages_and_returns."""
        return self.registry.get(adv_estimator)(
            token_level_rewards=token_level_rewards,
            response_mask=response_mask,
            index=index,
            **kwargs,
        )
