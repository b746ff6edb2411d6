"""SkyRL's training on a processor, with the credit of examples/skyrl.

Replaced are FSDP, which holds the weights (one Ray actor with the whole model and SkyRL's own
worker methods), vLLM, which samples (another one) and the transfer of weights between them.
Everything else is SkyRL's: the entry point's experiment, Ray, data set, generator, environment
gsm8k, batches, trainer, dispatch, worker, model wrapper, policy loss.
"""

import os
import sys
from functools import partial
from pathlib import Path
from runpy import run_path

import ray
import torch
from safetensors.torch import save_file
from skyrl.backends.skyrl_train.distributed.dispatch import MeshRank
from skyrl.backends.skyrl_train.distributed.strategy import DistributedStrategy
from skyrl.backends.skyrl_train.utils.ppo_utils import AdvantageEstimatorRegistry
from skyrl.backends.skyrl_train.workers.model_wrapper import HFModelWrapper
from skyrl.backends.skyrl_train.workers.worker import PolicyWorkerBase
from skyrl.train.config import SkyRLTrainConfig
from skyrl.train.dataset import PromptDataset
from skyrl.train.entrypoints.main_base import BasePPOExp, validate_cfg
from skyrl.train.trainer import RayPPOTrainer
from skyrl.train.utils import initialize_ray
from transformers import AutoModelForCausalLM, get_constant_schedule

from rlcredit import Credit
from rlcredit.integrations.skyrl import credit_trainer, register
from rlcredit.types import Randomness

KEPT = "RLCREDIT_TEST_KEPT"
"""Folder where each step's batch is kept."""
EXAMPLE = run_path(str(Path(__file__).parents[2] / "examples" / "skyrl" / "train.py"))
"""What the program of the page defines."""
FAILS = "RLCREDIT_TEST_FAILS"
"""Set: the credit's reward raises."""


def fails(texts, rows):
    raise OSError("the judge is away")


def credit_of(estimator):
    if FAILS in os.environ:
        return Credit(reward=fails, estimator=estimator)
    return EXAMPLE["credit_of"](estimator)


@ray.remote(num_cpus=1)
class Engine:
    """Samples from the weights that it was given last."""

    def __init__(self, path):
        torch.set_num_threads(1)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        self.version = -1

    def load(self, weights):
        self.model.load_state_dict(weights)
        self.version += 1

    def generate(self, prompt_ids, limit, number):
        generator = Randomness(seed=0, step=self.version).generator("sampling", number)
        ids, logprobs, end = [], [], self.model.config.eos_token_id
        with torch.no_grad():
            while len(ids) < limit and end not in ids:
                logits = self.model(torch.tensor([[*prompt_ids, *ids]])).logits[0, -1]
                ids.append(int(logits.softmax(-1).multinomial(1, generator=generator)))
                logprobs.append(float(logits.log_softmax(-1)[ids[-1]]))
        return ids, logprobs, "stop" if ids[-1] == end else "length"


class Client:
    """What the generator and the dispatch call of an inference engine's client."""

    def __init__(self, engine, tokenizer):
        self.engine = engine
        self.tokenizer = tokenizer

    async def generate(self, batch, model=None):
        limit = batch["sampling_params"]["max_tokens"]
        (uid, repetition) = map(int, batch["session_ids"][0].split("_"))
        ids, logprobs, stop = await self.engine.generate.remote(
            batch["prompt_token_ids"][0], limit, 100 * uid + repetition
        )
        return {
            "responses": [self.tokenizer.decode(ids, skip_special_tokens=True)],
            "response_ids": [ids],
            "response_logprobs": [logprobs],
            "stop_reasons": [stop],
        }

    async def finish_session(self, session_id):
        pass

    async def pause_generation(self):
        pass

    async def resume_generation(self):
        pass

    def increment_weight_version(self):
        pass


class Whole(DistributedStrategy):
    """The whole model in one process."""

    world_size = 1

    def setup_distributed(self):
        pass

    def backward(self, loss, model, optimizer, **_):
        loss.backward()

    def optimizer_step(self, optimizer, model, scheduler, name="model", **_):
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        return norm

    def save_checkpoint(self, *_):
        raise NotImplementedError

    def load_checkpoint(self, *_):
        raise NotImplementedError

    def save_hf_model(self, *_):
        raise NotImplementedError


class Worker(PolicyWorkerBase):
    """SkyRL's worker, without a GPU."""

    def init_worker_process_group(self):
        torch.cuda.current_device = partial(torch.device, "cpu")
        torch.distributed.init_process_group("gloo")
        self.device_mesh = torch.distributed.init_device_mesh(
            "cpu", (1, 1), mesh_dim_names=("dp", "sp")
        )
        self.mesh_rank = MeshRank(dp=0, sp=0, tp=0, pp=0, world_size=1, dp_size=1, pp_size=1)

    def init_model(self, path, num_training_steps=None):
        torch.set_num_threads(1)
        self.strategy = Whole()
        self.model = HFModelWrapper(path, bf16=False)
        rate = self.cfg.policy.optimizer_config.lr
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=rate)
        self.scheduler = get_constant_schedule(self.optimizer)

    def _set_pad_token_id(self, number):
        self.model.model.config.pad_token_id = number

    def init_weight_sync_state(self, client, config):
        self.engine = client.engine

    def broadcast_to_inference_engines(self, client, config, model_id=None):
        ray.get(self.engine.load.remote(self.model.model.state_dict()))


class Trainer(credit_trainer(RayPPOTrainer)):
    """The trainer of the example, whose batches are kept."""

    def build_models(self, policy, critic, reference):
        super().build_models(ray.remote(num_gpus=1)(Worker), critic, reference)

    def compute_advantages_and_returns(self, data):
        data = super().compute_advantages_and_returns(data)
        names = ("sequences", "attention_mask", "response_mask", "advantages", "rewards")
        uids = torch.tensor([int(uid) for uid in data.metadata["uids"]])
        kept = {name: data[name].contiguous() for name in names} | {"uids": uids}
        save_file(kept, Path(os.environ[KEPT]) / f"step{self.global_step}.safetensors")
        return data


class Experiment(BasePPOExp):
    """SkyRL's experiment with the client and the trainer above."""

    def get_train_dataset(self):
        length = self.cfg.trainer.max_prompt_length
        return PromptDataset(self.cfg.data.train_data, self.tokenizer, length, num_workers=1)

    def get_inference_client(self):
        return Client(Engine.remote(self.cfg.trainer.policy.model.path), self.tokenizer)

    def get_trainer(self, *settings, **named):
        return Trainer(*settings, credit=credit_of, prompt=EXAMPLE["row_of"], **named)


@ray.remote(num_cpus=1)
def entrypoint(cfg):
    Experiment(cfg).run()


def main():
    register(AdvantageEstimatorRegistry)
    cfg = SkyRLTrainConfig.from_cli_overrides(sys.argv[1:])
    validate_cfg(cfg)
    ray.init = partial(
        ray.init,
        num_cpus=8,
        num_gpus=1,  # which SkyRL asks Ray for
        include_dashboard=False,
        object_store_memory=200_000_000,
    )
    initialize_ray(cfg)
    ray.get(entrypoint.remote(cfg))


if __name__ == "__main__":
    import skyrl_cpu  # so that its classes have a module that other processes can import

    skyrl_cpu.main()
