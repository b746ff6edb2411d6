"""verl's trainer on a processor: one Ray actor in the place of its GPU engines.

Replaced are the workers that hold the weights, the servers that sample and the exchange between
them. Everything else is verl's: Hydra, Ray, TransferQueue, the agent loop, the reward loop, the
replay buffer, the computation of advantages and the policy's loss. verl imports this module in
each of its processes (VERL_USE_EXTERNAL_MODULES), after which trainer_mode=rlcredit_cpu exists.
"""

import os
from pathlib import Path

import ray
import torch
import transfer_queue as tq
from safetensors.torch import save_file
from tensordict import TensorDict
from verl.experimental.agent_loop.agent_loop import register as register_loop
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.experimental.reward_loop import RewardLoopManager
from verl.trainer.ppo.core_algos import get_policy_loss_fn
from verl.trainer.ppo.v1 import get_trainer_cls, register_trainer
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.rollout.llm_server import LLMServerClient
from verl.workers.rollout.replica import TokenOutput

import rlcredit.integrations.verl_plugin  # noqa: F401  verl loads plugins after this module
from rlcredit.types import Randomness

KEPT = "RLCREDIT_TEST_KEPT"
"""Folder where each step's batch is kept."""


@ray.remote(num_cpus=1)
class Policy:
    """Samples, computes log-probs, and updates."""

    def __init__(self, path, lr):
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(1)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=lr)
        self.drawn = self.version = 0

    def generate(self, prompt_ids, limit):
        generator = Randomness(seed=0, step=self.version).generator("sampling", self.drawn)
        self.drawn += 1
        ids = []
        with torch.no_grad():
            while len(ids) < limit and self.model.config.eos_token_id not in ids:
                logits = self.model(torch.tensor([[*prompt_ids, *ids]])).logits[0, -1]
                ids.append(int(logits.softmax(-1).multinomial(1, generator=generator)))
            (logprobs,) = self.logprobs([(prompt_ids, ids)])
        return ids, logprobs.tolist(), self.version

    def logprobs(self, pairs, *, grad=False):
        found = []
        with torch.set_grad_enabled(grad):
            for prompt, response in pairs:
                logits = self.model(torch.tensor([[*prompt, *response]])).logits
                every = logits[0, len(prompt) - 1 : -1].log_softmax(-1)
                found.append(every.gather(-1, torch.tensor(response)[:, None])[:, 0])
        return found

    def update(self, pairs, batch, config):
        now = torch.nn.utils.rnn.pad_sequence(self.logprobs(pairs, grad=True), batch_first=True)
        loss, metrics = get_policy_loss_fn(config.policy_loss.loss_mode)(
            old_log_prob=batch["old_log_probs"],
            log_prob=now,
            advantages=batch["advantages"],
            response_mask=batch["response_mask"],
            loss_agg_mode=config.loss_agg_mode,
            config=config,
        )[:2]
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.version += 1
        return {"actor/pg_loss": float(loss), "actor/grad_norm": float(norm), **metrics}


class Client(LLMServerClient):
    """Sends prompts to the actor."""

    def __init__(self, config, policy):
        super().__init__(config)
        self.policy = policy

    async def generate(self, request_id, *, prompt_ids, **_):
        limit = self.config.actor_rollout_ref.rollout.response_length
        ids, logprobs, version = await self.policy.generate.remote(prompt_ids, limit)
        steps = dict.fromkeys(("global_steps", "min_global_steps", "max_global_steps"), version)
        return TokenOutput(
            token_ids=ids, log_probs=logprobs, stop_reason="completed", extra_fields=steps
        )


def padded(values):
    return torch.nn.utils.rnn.pad_sequence([row.float() for row in values], batch_first=True)


@register_trainer("rlcredit_cpu")
class CPUTrainer(get_trainer_cls("rlcredit_sync")):
    """The synchronous trainer, in front of the actor."""

    def _setup(self):
        self._init_tokenizer()
        self._init_dataloader()
        self._init_dump_executor()
        model, actor = self.config.actor_rollout_ref.model, self.config.actor_rollout_ref.actor
        self.policy = Policy.remote(model.path, actor.optim.lr)
        self.reward_loop_manager = RewardLoopManager(config=self.config)
        self.teacher_model_manager = self.distillation_config = None
        self.global_steps = 0

    def on_init_end(self):
        pass

    def on_step_end(self):
        pass

    def on_sample_end(self):
        pass

    def _start_profiling(self):
        pass

    def _stop_profiling(self):
        pass

    def _get_n_gpus_for_throughput(self):
        return 1

    def get_llm_client(self):
        return Client(self.config, self.policy)

    def _get(self, batch, *fields):
        return tq.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=list(fields)
        )

    def _pairs(self, batch):
        data = self._get(batch, "prompts", "responses")
        return [
            (prompt.tolist(), response.tolist())
            for prompt, response in zip(
                data["prompts"].unbind(), data["responses"].unbind(), strict=True
            )
        ]

    def _balance_batch(self, batch, metrics, **_):
        """Without several ranks nothing is balanced, but the batch is made divisible."""
        return self._pad(batch)

    def _pad(self, batch):
        from verl.trainer.ppo.padding_utils import upsample_batch_to_divisible_size

        multiple = int(os.environ.get("RLCREDIT_TEST_MULTIPLE", "1"))
        return upsample_batch_to_divisible_size(batch, multiple, self.tokenizer.eos_token_id)

    def _compute_old_log_prob(self, batch, metrics):
        values = ray.get(self.policy.logprobs.remote(self._pairs(batch)))
        nested = torch.nested.as_nested_tensor(values, layout=torch.jagged)
        return tq.kv_batch_put(
            keys=batch.keys,
            partition_id=batch.partition_id,
            fields=TensorDict({"old_log_probs": nested}, batch_size=len(batch)),
        )

    def _update_actor(self, batch, metrics):
        fields = ("advantages", "old_log_probs", "response_mask")
        data = self._get(batch, *fields)
        wide = {name: padded(data[name].unbind()) for name in fields}
        pairs = self._pairs(batch)
        rows = self._get(batch, "index", "session_id")
        self._keep(pairs, wide, batch, list(rows["index"]))
        config = omega_conf_to_dataclass(self.config.actor_rollout_ref.actor)
        metrics.update(ray.get(self.policy.update.remote(pairs, wide, config)))
        return batch

    def _keep(self, pairs, wide, batch, index):
        """What was trained on, with the keys of the rows in the file's name table."""
        folder = Path(os.environ[KEPT])
        ids = padded([torch.tensor(response) for _, response in pairs]).long()
        padding = torch.tensor([tag.get("is_padding", False) for tag in batch.tags])
        names = {name: number for number, name in enumerate(dict.fromkeys(self._uids(batch)))}
        save_file(
            {
                "ids": ids,
                "advantages": wide["advantages"],
                "mask": wide["response_mask"],
                "padding": padding,
                "group": torch.tensor([names[uid] for uid in self._uids(batch)]),
                "session": torch.tensor([int(key.rsplit("_", 2)[1]) for key in batch.keys]),
                "index": torch.tensor([int(one) for one in index]),
            },
            folder / f"step{self.global_steps}.safetensors",
        )

    def _uids(self, batch):
        return [key.rsplit("_", 2)[0] for key in batch.keys]


@register_loop("plain")
class Plain(SingleTurnAgentLoop):
    """verl looks up how a chat is cut into tokens by the model's type; this one is of none."""

    def __init__(self, *args, hf_model_type=None, **kwargs):
        super().__init__(*args, hf_model_type="other", **kwargs)
