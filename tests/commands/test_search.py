"""A search by Optuna chooses by the highest validation measure, or is refused."""

from enum import Enum
from importlib.util import find_spec

import pytest
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import OmegaConf

from rlcredit.commands.errors import explain
from rlcredit.commands.sweep import refuse_unmeasured
from tests.composing import RUNS


class Direction(Enum):
    minimize = 1
    maximize = 2


@pytest.fixture
def sweeping(monkeypatch):
    """Let a job run under a sweeper of these settings."""

    def under(**sweeper):
        monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create({"sweeper": sweeper}))

    return under


@pytest.mark.parametrize("direction", ["maximize", Direction.maximize])
def test_a_search_for_the_highest_measure_of_scored_jobs_goes_on(sweeping, direction):
    sweeping(direction=direction)
    refuse_unmeasured(OmegaConf.create({"evaluation": {"every": 5}}))


def test_a_sweep_that_chooses_nothing_needs_no_measure(sweeping):
    sweeping(max_batch_size=None)
    refuse_unmeasured(OmegaConf.create({"evaluation": {"every": 0}}))


@pytest.mark.parametrize("direction", ["minimize", Direction.minimize, ["maximize", "minimize"]])
def test_a_search_for_the_lowest_measure_is_refused(sweeping, direction):
    sweeping(direction=direction)
    with pytest.raises(ValueError, match=r"give hydra\.sweeper\.direction=maximize"):
        refuse_unmeasured(OmegaConf.create({"evaluation": {"every": 5}}))


def test_a_search_over_jobs_that_score_no_validation_split_is_refused(sweeping):
    sweeping(direction="maximize")
    with pytest.raises(ValueError, match=r"evaluation\.every=0 .* give evaluation\.every=N"):
        refuse_unmeasured(OmegaConf.create({"evaluation": {"every": 0}}))


@pytest.mark.skipif(
    find_spec("hydra_plugins.hydra_optuna_sweeper") is not None, reason="it is installed here"
)
def test_a_sweeper_that_is_not_installed_is_answered_with_its_extra():
    with RUNS.hydra(), pytest.raises(HydraException) as error:
        compose("train", ["hydra/sweeper=optuna"], return_hydra_config=True)
    assert "pip install 'rlcredit[optuna]'" in explain(error.value)
