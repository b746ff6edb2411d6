"""What is read of verl, as its source at 0.9.1 has it (Apache-2.0), in one process.

verl/experimental/reward_loop/reward_manager/base.py, verl/experimental/agent_loop/agent_loop.py
(AgentLoopWorker._compute_score), verl/trainer/ppo/v1/{agent_loop_tq,trainer_base}.py and
verl/trainer/ppo/{padding_utils,ray_trainer}.py, without engines, Ray and TransferQueue's servers.
"""

import asyncio
import copy
from types import SimpleNamespace

import numpy as np
import torch
from omegaconf import OmegaConf


def config(**changed):
    """The settings that are read, with verl's defaults."""
    usual = {
        "algorithm.adv_estimator": "rlcredit_ospo",
        "algorithm.use_kl_in_reward": False,
        "reward.reward_manager": {"source": "register", "name": "rlcredit"},
        "reward.reward_model.enable": False,
        "reward.custom_reward_function.path": None,
        "reward.reward_kwargs": {
            "credit": "tests.integrations.verl_world:credit_of",
            "prompt": "tests.integrations.verl_world:row_of",
        },
        "actor_rollout_ref.rollout.n": 4,
        "actor_rollout_ref.actor.policy_loss.loss_mode": "vanilla",
        "trainer.v1.trainer_mode": "rlcredit_sync",
    }
    made = OmegaConf.create({})
    for name, value in (usual | changed).items():
        OmegaConf.update(made, name, value)
    OmegaConf.set_struct(made, True)
    return made


MAKER = {}
"""What :func:`credit_of` calls; a test puts its own there."""


def credit_of(name):
    return MAKER["credit"](name)


def row_of(messages, columns):
    return {"prompt": messages[-1]["content"], "wanted": columns["extra_info"]["wanted"]}


class RewardManagerBase:
    def __init__(self, config, tokenizer, compute_score):
        self.config = config
        self.tokenizer = tokenizer
        self.compute_score = compute_score


class DataProto:
    def __init__(self, batch, non_tensor_batch):
        self.batch = batch
        self.non_tensor_batch = non_tensor_batch

    def __getitem__(self, item):
        return SimpleNamespace(
            batch={name: value[item] for name, value in self.batch.items()},
            non_tensor_batch={name: value[item] for name, value in self.non_tensor_batch.items()},
        )


def scored(manager, prompt_ids, response_ids, kwargs, extra_fields):
    """AgentLoopWorker._compute_score for one output: the reward; extra fields are added to."""
    prompts = torch.tensor([prompt_ids])
    responses = torch.tensor([response_ids])
    input_ids = torch.cat([prompts, responses], dim=1)
    data = DataProto(
        batch={
            "prompts": prompts,
            "responses": responses,
            "attention_mask": torch.ones_like(input_ids),
            "input_ids": input_ids,
        },
        non_tensor_batch={name: np.array([value]) for name, value in kwargs.items()},
    )
    result = asyncio.run(manager.run_single(data))
    extra_fields["reward_extra_info"] = result["reward_extra_info"]
    return result["reward_score"]


def put(queue, manager, kwargs, prompt_ids, response_ids, *, output=0, mask=None):
    """AgentLoopWorkerTQ._agent_loop_postprocess for one output; its key and tag."""
    extra_fields = {"turn_scores": []}
    reward = scored(manager, prompt_ids, response_ids, kwargs, extra_fields)
    response_mask = torch.tensor([1] * len(response_ids) if mask is None else mask)
    rm_scores = torch.zeros_like(response_mask, dtype=torch.float32)
    rm_scores[-1] = reward
    key = f"{kwargs['uid']}_{kwargs['session_id']}_{output}"
    queue.rows[key] = {
        "prompts": torch.tensor(prompt_ids),
        "responses": torch.tensor(response_ids),
        "response_mask": response_mask,
        "rm_scores": rm_scores,
        "extra_fields": extra_fields,
        **kwargs,
    }
    return key, {"status": "success", "global_steps": kwargs["global_steps"]}


def put_padding(queue, keys, tags):
    """upsample_batch_to_divisible_size: a copy of the first row behind the batch."""
    row, tag = copy.deepcopy(queue.rows[keys[0]]), copy.deepcopy(tags[0])
    nothing = torch.zeros(1, dtype=torch.long)
    row.update(
        uid="pad0",
        prompts=torch.zeros(127, dtype=torch.long),
        responses=nothing,
        response_mask=nothing,
        rm_scores=torch.zeros(1),
    )
    queue.rows["pad0_0_0"] = row
    tag.update(is_padding=True)
    return [*keys, "pad0_0_0"], [*tags, tag]


class Queue:
    """The module transfer_queue."""

    def __init__(self):
        self.rows = {}

    def kv_batch_get(self, keys, partition_id, select_fields):
        assert partition_id == "train"
        rows = [self.rows[key] for key in keys]
        there = [name for name in select_fields if name in rows[0]]
        columns = {name: [row[name] for row in rows] for name in there}
        return {
            name: torch.nested.as_nested_tensor(values, layout=torch.jagged)
            if isinstance(values[0], torch.Tensor)
            else values
            for name, values in columns.items()
        }


class RayActorError(Exception):
    pass


def worker(*, alive=True):
    """The handle of a reward worker, which tells whether it lives."""
    return SimpleNamespace(__ray_ready__=SimpleNamespace(remote=lambda: alive))


def get(answers):
    if not all(answers):
        raise RayActorError("The actor died unexpectedly before finishing this task.")


RAY = SimpleNamespace(get=get, exceptions=SimpleNamespace(RayActorError=RayActorError))


class PPOTrainer:
    estimators = None
    """verl's registry."""
    queue = None

    def __init__(self, config):
        self.config = config
        self.trainer_mode = self.config.trainer.v1.trainer_mode
        self.sent = 0

    def _add_prompts_to_generate(self, num_prompts):
        self.sent += num_prompts
        return num_prompts

    def _validate(self):
        return {"val/acc": 0.5}

    def _compute_advantage(self, batch, metrics):
        data = self.queue.kv_batch_get(
            keys=batch.keys,
            partition_id=batch.partition_id,
            select_fields=["uid", "response_mask", "rm_scores"],
        )
        estimate = self.estimators[self.config.algorithm.adv_estimator]
        advantages, returns = estimate(
            token_level_rewards=data["rm_scores"].to_padded_tensor(0.0),
            response_mask=data["response_mask"].to_padded_tensor(0),
            config=self.config.algorithm,
            index=np.array(data["uid"], dtype=object),
        )
        return advantages, returns
