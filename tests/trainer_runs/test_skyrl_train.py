"""SkyRL's own train() on a processor, three steps, with our advantages (make test-skyrl)."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path

import pytest
import torch

from rlcredit import Credit

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "skyrl" / "train.py"
STEPS, SIZE, PROMPTS = 3, 4, 3
pytestmark = [
    pytest.mark.skipif(
        find_spec("skyrl") is None,
        reason="skyrl is not installed here; make test-skyrl runs this in .venv-skyrl",
    ),
    pytest.mark.timeout(1600),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A policy and rows as files."""
    from small_sums import save_model, save_rows

    made = tmp_path_factory.mktemp("skyrl")
    save_model(made / "policy")
    save_rows(made / "train.jsonl", STEPS * PROMPTS)
    return made


def words(folder, kept, estimator):
    """The settings of a small run."""
    given = {
        "trainer.algorithm.advantage_estimator": estimator,
        "trainer.algorithm.use_kl_loss": False,
        "trainer.placement.colocate_all": False,
        "trainer.policy.model.path": folder / "policy",
        "trainer.policy.optimizer_config.lr": 1e-2,
        "trainer.train_batch_size": PROMPTS,
        "trainer.policy_mini_batch_size": PROMPTS,
        "trainer.micro_train_batch_size_per_gpu": 4,
        "trainer.micro_forward_batch_size_per_gpu": 4,
        "trainer.max_training_steps": STEPS,
        "trainer.max_prompt_length": 16,
        "trainer.remove_microbatch_padding": False,
        "trainer.flash_attn": False,
        "trainer.eval_interval": -1,
        "trainer.eval_before_train": False,
        "trainer.ckpt_interval": -1,
        "trainer.resume_mode": "none",
        "trainer.enable_ray_gpu_monitor": False,
        "trainer.logger": "console",
        "trainer.ckpt_path": kept / "checkpoints",
        "trainer.export_path": kept / "exports",
        "trainer.log_path": kept / "logs",
        "data.dataloader.num_workers": 0,
        "data.train_data": f"[{folder / 'train.jsonl'}]",
        "environment.env_class": "gsm8k",
        "generator.inference_engine.enable_ray_prometheus_stats": False,
        "generator.n_samples_per_prompt": SIZE,
        "generator.batched": False,
        "generator.max_input_length": 16,
        "generator.sampling_params.max_generate_length": 24,
    }
    return [f"{name}={value}" for name, value in given.items()]


def train(folder, kept, estimator, **environment):
    """Run the program; its exit status and all that it and its processes printed."""
    kept.mkdir()
    given = {
        "PYTHONPATH": os.pathsep.join(map(str, (HERE, HERE / "absent"))),
        "RLCREDIT_TEST_KEPT": str(kept),
        "SKYRL_DUMP_INFRA_LOG_TO_STDOUT": "1",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "0",  # Ray counts what is listed; none is used
        "RAY_DEDUP_LOGS": "0",
        "RAY_memory_monitor_refresh_ms": "0",  # else Ray kills where others need memory
        "TOKENIZERS_PARALLELISM": "false",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-m", "skyrl_cpu", *words(folder, kept, estimator)],
        cwd=kept,
        env=os.environ | given,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    return done.returncode, done.stdout + done.stderr


def responses(batch):
    """The tokens of each response, with its advantages."""
    lengths = batch["response_mask"].sum(1).tolist()
    ids = [row[-length:] for row, length in zip(batch["sequences"], lengths, strict=True)]
    found = [row[-length:] for row, length in zip(batch["advantages"], lengths, strict=True)]
    return ids, found


def own(credit, rows, batch, tokenizer, step):
    """Our advantages of the batch's responses, [P, G, T], in the batch's order."""
    ids = torch.nn.utils.rnn.pad_sequence(responses(batch)[0], batch_first=True)
    lengths = batch["response_mask"].sum(1)
    mask = torch.arange(ids.shape[1]) < lengths[:, None]
    shape = (len(rows), SIZE, ids.shape[1])
    done = credit.of_tokens(rows, ids.view(shape), mask.view(shape), tokenizer, step=step)
    return done.advantages.flatten(0, 1).float(), done.rewards.flatten()


@pytest.mark.parametrize("name", ["ospo", "prefix"])
def test_train_uses_our_advantages(name, folder, tmp_path):
    from safetensors.torch import load_file
    from small_sums import row
    from transformers import AutoTokenizer

    status, said = train(folder, tmp_path / "kept", f"rlcredit_{name}")
    assert status == 0, said[-5000:]
    norms = [float(norm) for norm in re.findall(r"'grad_norm': ([\d.e-]+)", said)]
    assert len(norms) == STEPS
    assert min(norms) > 0
    tokenizer = AutoTokenizer.from_pretrained(folder / "policy")
    example = run_path(str(EXAMPLE))
    credit = example["credit_of"](name)
    moved = varied = 0
    for step in range(1, STEPS + 1):
        batch = load_file(tmp_path / "kept" / f"step{step}.safetensors")
        asked = [row(number) for number in batch["uids"][::SIZE].tolist()]
        rows = [example["row_of"](each["prompt"], each) for each in asked]
        expected, rewards = own(credit, rows, batch, tokenizer, step)
        assert torch.equal(rewards.float(), batch["rewards"].sum(1))
        for found, ours in zip(responses(batch)[1], expected, strict=True):
            assert torch.equal(found, ours[: len(found)])
            moved += bool(found.any())
            varied += len(found.unique()) > 1
        assert not batch["advantages"][batch["response_mask"] == 0].any()
    assert moved > STEPS
    assert varied > STEPS


def test_a_reward_that_fails_ends_the_run_and_nothing_is_trained_on(folder, tmp_path):
    kept = tmp_path / "kept"
    status, said = train(folder, kept, "rlcredit_ospo", RLCREDIT_TEST_FAILS="1")
    assert status != 0
    assert "the judge is away" in said, said[-5000:]
    assert "'grad_norm'" not in said
    assert list(kept.glob("*.safetensors")) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["generator.step_wise_trajectories=true"], "step_wise_trajectories gives all steps"),
        (["trainer.algorithm.use_kl_in_reward=true"], "use_kl_in_reward changes the rewards"),
        (["trainer.algorithm.advantage_batch_normalize=true"], "advantage_batch_normalize moves"),
        (["trainer.algorithm.policy_loss_type=gspo"], "gspo has one ratio a response"),
    ],
)
def test_settings_are_refused_by_the_names_that_skyrl_has(words, said):
    from skyrl.train.config import SkyRLTrainConfig

    from rlcredit.integrations.skyrl import refuse

    credit = Credit(reward=lambda texts, rows: [0.0] * len(texts), estimator="ospo")
    refuse(SkyRLTrainConfig.from_cli_overrides([]), credit)
    with pytest.raises(ValueError, match=said):
        refuse(SkyRLTrainConfig.from_cli_overrides(words), credit)
