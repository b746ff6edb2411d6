"""What verl imports in each of its processes, in a process that imports verl (make test-verl)."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "verl"
pytestmark = [
    pytest.mark.skipif(
        find_spec("verl") is None or find_spec("transfer_queue") is None,
        reason="verl is not installed here; make test-verl runs this in .venv-verl",
    ),
    pytest.mark.timeout(900),
]


def said_by(script, *words):
    """What a script prints, its errors included; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=EXAMPLE,
        env={"PATH": "", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HOME": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


REGISTERED = """
import verl
from verl.experimental.reward_loop.reward_manager.registry import REWARD_MANAGER
from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, register_adv_est
from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY
from rlcredit.integrations import contract, verl as ours, verl_plugin

assert set(ours.NAMES) < set(ADV_ESTIMATOR_REGISTRY), ADV_ESTIMATOR_REGISTRY
assert "rlcredit" in REWARD_MANAGER
modes = ("rlcredit_sync", "rlcredit_colocate_async", "rlcredit_separate_async")
assert set(modes) < set(TRAINER_REGISTRY), TRAINER_REGISTRY
for mode in modes:
    assert issubclass(TRAINER_REGISTRY[mode], TRAINER_REGISTRY[mode.removeprefix("rlcredit_")])
try:
    register_adv_est("rlcredit_ospo")(lambda **batch: None)
except ValueError as error:
    print("TWICE", error)
try:
    verl_plugin.install()
except ValueError as error:
    print("AGAIN", error)
moved = contract.Contract(
    package="verl", versions="0.9", file="verl/trainer/ppo/v1/trainer_base.py", name="PPOTrainer",
    parameters={"_compute_advantage": ("self", "rows")}, lines={"_validate": ("no such line",)},
)
verl_plugin.VERL = (*contract.VERL, moved)
try:
    verl_plugin.check_contract()
except ImportError as error:
    print("MOVED", error)
"""


def test_verl_knows_our_names_once_and_a_verl_that_moved_is_named():
    said = said_by(REGISTERED)
    assert "TWICE Adv estimator rlcredit_ospo has already been registered" in said
    assert "AGAIN reward manager rlcredit has already been registered" in said
    assert "MOVED verl 0.9.1 is not the verl that this integration knows (0.9): " in said
    assert "_compute_advantage takes ['self', 'batch', 'metrics'], not ['self', 'rows']" in said
    assert "PPOTrainer._validate no longer says 'no such line'. Install one of these" in said


REFUSED = """
import logging, sys
from rlcredit.integrations import contract

contract.VERL = contract.VERL[:1]
object.__setattr__(contract.VERL[0], "parameters", {"_compute_advantage": ("self",)})
import verl
from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY
assert "rlcredit_ospo" not in ADV_ESTIMATOR_REGISTRY
"""


def test_a_plugin_that_is_not_loaded_says_so_though_verl_is_silent():
    said = said_by(REFUSED)
    assert "the plugin rlcredit was not loaded: verl 0.9.1 is not the verl that this" in said


COMPOSED = """
import sys
from hydra import compose, initialize_config_dir
import verl
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config
from rlcredit.integrations.verl import Setup, refuse
from verl.trainer import main_ppo
from pathlib import Path

base = f"file://{Path(main_ppo.__file__).parent / 'config'}"
with initialize_config_dir(str(Path.cwd()), version_base=None):
    for name in sys.argv[1:]:
        cfg = compose(name, overrides=[f"hydra.searchpath=[{base}]"])
        validate_config(
            config=cfg,
            use_reference_policy=need_reference_policy(cfg),
            use_critic=need_critic(cfg),
        )
        setup = Setup.of(cfg)
        refuse(cfg, setup.credit)
        gpus = cfg.trainer.nnodes * cfg.trainer.n_gpus_per_node
        print(name, gpus, cfg.reward.num_workers, cfg.data.train_batch_size, setup.group_size)
"""


def test_the_yamls_of_8_and_64_gpus_pass_verl_s_checks_and_ours():
    said = said_by(COMPOSED, "qwen2_5_7b_8_gpus", "qwen2_5_7b_64_gpus")
    assert "qwen2_5_7b_8_gpus 8 8 128 8" in said
    assert "qwen2_5_7b_64_gpus 64 64 512 8" in said
