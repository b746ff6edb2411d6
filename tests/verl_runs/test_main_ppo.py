"""verl's own main_ppo on a processor, three steps, with our advantages (make test-verl)."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from verl_own_credit import ROWS, wanted

from rlcredit import Credit

HERE = Path(__file__).parent
STEPS, SIZE, PROMPTS = 3, 4, 3
pytestmark = [
    pytest.mark.skipif(
        find_spec("verl") is None or find_spec("transfer_queue") is None,
        reason="verl is not installed here; make test-verl runs this in .venv-verl",
    ),
    pytest.mark.timeout(1600),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A policy and rows as files."""
    from verl_small_model import save_model, save_rows

    made = tmp_path_factory.mktemp("verl")
    save_model(made / "policy")
    save_rows(made / "train.parquet")
    return made


def words(folder, estimator):
    """The settings of a small run."""
    given = {
        "algorithm.adv_estimator": estimator,
        "trainer.v1.trainer_mode": "rlcredit_cpu",
        "reward.reward_manager.name": "rlcredit",
        "reward.num_workers": 2,
        "+reward.reward_kwargs.credit": "verl_own_credit:credit_of",
        "+reward.reward_kwargs.prompt": "verl_own_credit:row_of",
        "data.train_files": folder / "train.parquet",
        "data.val_files": folder / "train.parquet",
        "data.train_batch_size": PROMPTS,
        "data.val_max_samples": 2,
        "data.max_prompt_length": 16,
        "data.max_response_length": 12,
        "data.dataloader_num_workers": 0,
        "data.filter_overlong_prompts": False,
        "actor_rollout_ref.model.path": folder / "policy",
        "actor_rollout_ref.model.use_remove_padding": False,
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.n": SIZE,
        "actor_rollout_ref.rollout.agent.num_workers": 1,
        "actor_rollout_ref.rollout.agent.default_agent_loop": "plain",
        "actor_rollout_ref.rollout.prompt_length": 16,
        "actor_rollout_ref.rollout.response_length": 12,
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": 4,
        "actor_rollout_ref.actor.ppo_mini_batch_size": PROMPTS,
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": 4,
        "actor_rollout_ref.actor.optim.lr": 1e-2,
        "trainer.n_gpus_per_node": 1,
        "trainer.nnodes": 1,
        "trainer.total_training_steps": STEPS,
        "trainer.total_epochs": 1,
        "trainer.val_before_train": True,
        "trainer.test_freq": -1,
        "trainer.save_freq": -1,
        "trainer.logger": "[console]",
        "trainer.device": "cpu",
        "trainer.default_local_dir": folder / "checkpoints",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
        "ray_kwargs.ray_init.num_cpus": 16,
        "+ray_kwargs.ray_init.include_dashboard": False,
        "+ray_kwargs.ray_init.object_store_memory": 200_000_000,
    }
    return [f"{name}={value}" for name, value in given.items()]


def main_ppo(folder, kept, estimator, *more, **environment):
    """Run verl's command; its exit status and all that it and its processes printed."""
    kept.mkdir()
    given = {
        "PYTHONPATH": str(HERE),
        "VERL_USE_EXTERNAL_MODULES": "verl_cpu_engine",
        "RLCREDIT_TEST_KEPT": str(kept),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "RAY_DEDUP_LOGS": "0",
        "RAY_memory_monitor_refresh_ms": "0",  # else Ray kills where others need memory
        "TOKENIZERS_PARALLELISM": "false",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-m", "verl.trainer.main_ppo", *words(folder, estimator), *more],
        cwd=kept,
        env=os.environ | given,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    return done.returncode, done.stdout + done.stderr


def own(credit, tokenizer, batch, step):
    """Our advantages of the batch's responses, those of one prompt a call, in order of sessions."""
    found = torch.zeros(batch["advantages"].shape)
    for group in batch["group"][~batch["padding"]].unique().tolist():
        members = ((batch["group"] == group) & ~batch["padding"]).nonzero().flatten()
        members = members[batch["session"][members].argsort()]
        number = int(batch["index"][members[0]])
        done = credit.of_tokens(
            [ROWS[number % len(ROWS)]],
            batch["ids"][members][None],
            batch["mask"][members][None].bool(),
            tokenizer,
            step=step,
            offset=number,
        )
        found[members] = done.advantages[0].float()
    return found


@pytest.mark.parametrize("name", ["ospo", "prefix"])
def test_main_ppo_trains_on_our_advantages(name, folder, tmp_path):
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    multiple = {"RLCREDIT_TEST_MULTIPLE": "5"}  # 12 responses and 3 rows of padding
    status, said = main_ppo(folder, tmp_path / "kept", f"rlcredit_{name}", **multiple)
    assert status == 0, said[-5000:]
    tokenizer = AutoTokenizer.from_pretrained(folder / "policy")
    credit = Credit(reward=wanted, estimator=name, seed=3)
    varied = 0
    for step in range(1, STEPS + 1):
        batch = load_file(tmp_path / "kept" / f"step{step}.safetensors")
        assert batch["padding"].tolist() == [False] * PROMPTS * SIZE + [True] * 3
        assert not batch["advantages"][batch["padding"]].any()
        expected = own(credit, tokenizer, batch, step)
        assert torch.equal(batch["advantages"], expected)
        assert bool(expected.any())
        inside = batch["mask"].bool()
        rows = zip(batch["advantages"], inside, strict=True)
        varied += sum(len(set(row[mask].tolist())) > 1 for row, mask in rows)
    assert varied > STEPS
    assert "rlcredit/reward_evaluations" in said


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        ("raises", r"the reward of response .* failed, so the step stops.*the judge is away"),
        ("dies", r"a reward worker has died, and with it the rewards"),
    ],
)
def test_a_reward_that_fails_stops_the_run_and_nothing_is_trained_on(
    reward, said, folder, tmp_path
):
    kept = tmp_path / "kept"
    status, output = main_ppo(
        folder,
        kept,
        "rlcredit_ospo",
        "trainer.val_before_train=False",
        RLCREDIT_TEST_REWARD=reward,
    )
    assert status != 0
    assert re.search(said, output), output[-5000:]
    assert list(kept.glob("*.safetensors")) == []
