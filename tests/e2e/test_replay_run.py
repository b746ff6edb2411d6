"""A run that diverges keeps the batch it stopped on, and the command it prints explains it."""

import re

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from rlcredit.commands.errors import explain
from rlcredit.commands.replay import replay_refused
from rlcredit.trainer.refused import NonFiniteError
from tests.e2e.running import ROOT, run

DIVERGES = (
    "trainer.optimizer.lr=1e20",
    "trainer.optimizer.warmup_steps=0",
    "trainer.updates_per_batch=2",
    "trainer.steps=1",
    "evaluation.every=0",
    "evaluation.max_prompts=1",
)
"""The first update makes weights whose products overflow in the second."""


def test_the_command_of_the_message_names_tensor_and_rows(tmp_path, cache, capsys):
    folder = tmp_path / "run"
    with pytest.raises(NonFiniteError, match="must be finite") as stopped:
        run(folder, f"cache={cache}", *DIVERGES)
    said = explain(stopped.value)
    assert said is not None
    (given,) = re.findall(r"rlcredit replay (batch=\S+)$", said)
    assert given == f"batch={folder / 'failed_batch'}"
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("replay", overrides=[given, f"cache={cache}"], return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]
        shown = replay_refused(cfg)
    assert not shown.finite
    assert shown.given == ()
    rows = sorted(row for each in shown.first for row in each.rows)
    assert set(rows) <= set(range(12))
    assert rows
    printed = capsys.readouterr().out
    assert "the run said: step 1" in printed
    assert re.search(r"first: .*model\.layers\.\d\.\S+: \d+ NaN and .* \(rows \d", printed)
    assert f"row {rows[0]} is response {rows[0] % 4} to" in printed
    assert torch.isnan(torch.tensor([shown.loss, shown.grad_norm])).any()
