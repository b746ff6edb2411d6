"""What verl imports in each of its processes (entry point ``verl.plugins``).

Makes the reward manager, the estimators and the trainers of :mod:`rlcredit.integrations.verl` known
to verl. verl keeps silent about a plugin that fails, hence the line in the log.
"""

import logging
from importlib.metadata import version
from pathlib import Path

import verl

from rlcredit.integrations.contract import VERL, check_files
from rlcredit.integrations.verl import (
    NAME,
    NAMES,
    PREFIX,
    credit_manager,
    credit_trainer,
    handed_over,
)

_log = logging.getLogger(__name__)

MODES = ("sync", "colocate_async", "separate_async")
"""verl's trainers."""


def check_contract() -> None:
    """Compare verl's source, which is read and not imported, with what is relied on.

    Raises:
        ImportError: With what has moved.
    """
    check_files(VERL, Path(verl.__path__[0]).parent, version("verl"))


def install() -> None:
    """Register everything, once a process.

    Raises:
        ImportError: If verl has changed, or TransferQueue is not installed.
        ValueError: If verl knows one of the names already.
    """
    check_contract()
    import ray  # pyright: ignore[reportMissingImports]
    import transfer_queue  # pyright: ignore[reportMissingImports]
    from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase  # pyright: ignore[reportMissingImports]
    from verl.experimental.reward_loop.reward_manager.registry import register  # pyright: ignore[reportMissingImports]
    from verl.trainer.ppo.core_algos import register_adv_est  # pyright: ignore[reportMissingImports]
    from verl.trainer.ppo.v1 import get_trainer_cls, register_trainer  # pyright: ignore[reportMissingImports]

    register(NAME)(credit_manager(RewardManagerBase))
    for name in NAMES:
        register_adv_est(name)(handed_over)
    for mode in MODES:
        made = credit_trainer(get_trainer_cls(mode), mode, queue=transfer_queue, ray=ray)
        register_trainer(f"{PREFIX}{mode}")(made)


try:
    install()
except (ImportError, ValueError, OSError) as error:
    _log.error("the plugin rlcredit was not loaded: %s", error)
    raise
