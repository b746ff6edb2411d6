"""What is read of slime, as its source at 624b824 has it (Apache-2.0).

slime/utils/types.py (Sample), slime/ray/rollout.py (RolloutManager, without what nothing here
reads) and slime/backends/megatron_utils/{loss,cp_utils}.py, whose process groups are numbers here.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch


def arguments(**changed):
    """slime's arguments with the defaults of slime/utils/arguments.py."""
    usual = {
        "advantage_estimator": "grpo",
        "custom_advantage_function_path": "rlcredit.integrations.slime.advantages",
        "normalize_advantages": False,
        "reward_key": None,
    }
    return SimpleNamespace(**(usual | changed))


@dataclass
class Sample:
    group_index: int | None = None
    index: int | None = None
    rollout_id: int | None = None
    prompt: str | list[dict[str, str]] = ""
    tokens: list[int] = field(default_factory=list)
    response: str = ""
    response_length: int = 0
    label: str | None = None
    reward: float | dict[str, Any] | None = None
    loss_mask: list[int] | None = None
    remove_sample: bool = False
    metadata: dict = field(default_factory=dict)

    def get_reward_value(self, args):
        return self.reward if not args.reward_key else self.reward[args.reward_key]


class RolloutManager:
    def __init__(self, args, custom_reward_post_process_func, partitions):
        self.args = args
        self.custom_reward_post_process_func = custom_reward_post_process_func
        self.partitions = partitions  # build_dp_schedule's

    def _post_process_rewards(self, samples):
        if self.custom_reward_post_process_func is not None:
            return self.custom_reward_post_process_func(self.args, samples)
        raise NotImplementedError

    def _convert_samples_to_train_data(self, samples):
        raw_rewards, rewards = self._post_process_rewards(samples)
        assert len(raw_rewards) == len(samples)
        assert len(rewards) == len(samples)
        train_data = {
            "tokens": [sample.tokens for sample in samples],
            "response_lengths": [sample.response_length for sample in samples],
            "rewards": rewards,
            "raw_reward": raw_rewards,
        }
        loss_masks = []
        for sample in samples:
            if sample.loss_mask is None:
                sample.loss_mask = [1] * sample.response_length
            if sample.remove_sample:
                sample.loss_mask = [0] * sample.response_length
            loss_masks.append(sample.loss_mask)
        train_data["loss_masks"] = loss_masks
        return train_data

    def _split_train_data_by_dp(self, data):
        data["total_lengths"] = [len(t) for t in data["tokens"]]
        refs = []
        for partition in self.partitions:
            rollout_data = {"partition": partition}
            for key in ["tokens", "response_lengths", "rewards", "loss_masks"]:
                rollout_data[key] = [data[key][j] for j in partition]
            rollout_data["raw_reward"] = data["raw_reward"]
            # process_rollout_data (slime/utils/data.py) takes a rank's part of the lengths
            rollout_data["total_lengths"] = [data["total_lengths"][j] for j in partition]
            refs.append(rollout_data)
        return refs


def slicer(cp_rank, cp_size):
    """``slice_log_prob_with_cp`` of one of the processes that share every sequence."""

    def offsets(total_length, response_length):
        prompt_length = total_length - response_length
        chunk_size = (total_length + 2 * cp_size - 1) // (2 * cp_size)
        chunk_0 = (cp_rank * chunk_size, (cp_rank + 1) * chunk_size)
        chunk_1 = ((2 * cp_size - cp_rank - 1) * chunk_size, (2 * cp_size - cp_rank) * chunk_size)
        logits_0 = (max(chunk_0[0], prompt_length - 1), min(chunk_0[1], total_length - 1))
        logits_1 = (max(chunk_1[0], prompt_length - 1), min(chunk_1[1], total_length - 1))
        if logits_0[0] >= logits_0[1]:
            logits_0 = (0, 0)
        if logits_1[0] >= logits_1[1]:
            logits_1 = (0, 0)
        return logits_0, logits_1

    def slice_log_prob_with_cp(log_prob, total_length, response_length):
        assert len(log_prob) == response_length
        if cp_size == 1:
            return log_prob
        prompt_length = total_length - response_length
        first, second = offsets(total_length, response_length)
        chunk_1 = log_prob[first[0] - (prompt_length - 1) : first[1] - (prompt_length - 1)]
        chunk_2 = log_prob[second[0] - (prompt_length - 1) : second[1] - (prompt_length - 1)]
        return chunk_1 + chunk_2

    return slice_log_prob_with_cp


def compute_advantages_and_returns(args, rollout_data, custom_adv_fn, sliced):
    """slime's function where ``--custom-advantage-function-path`` is set; no KL in the reward."""
    rollout_data["kl"] = [
        torch.zeros(len(sliced([0.0] * length, total, length)))
        for length, total in zip(
            rollout_data["response_lengths"], rollout_data["total_lengths"], strict=True
        )
    ]
    custom_adv_fn(args, rollout_data)
    return rollout_data["advantages"], rollout_data["returns"]


def log_rollout_data(rollout_data):
    """What slime/observability/train_metric_utils.py sums of a process's rewards."""
    return sum(rollout_data["rewards"])
