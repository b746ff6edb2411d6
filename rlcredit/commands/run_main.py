"""What every command does around its function: Hydra, errors as sentences, files of one rank."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence

import hydra
from omegaconf import DictConfig

from rlcredit.commands.conf import conf_folder
from rlcredit.commands.errors import in_a_sentence
from rlcredit.commands.schema import register
from rlcredit.distributed.environment import place, refuse_together

SILENT = ("hydra/job_logging=none", "hydra/hydra_logging=none")
"""Words for processes that were started together with a first one; it alone prints."""

CONFIG_PATH = ("--config-path", "-cp")
"""Hydra's words for the folder of the primary config."""


def run_main(
    command: Callable[[DictConfig], object], *, config_name: str, together: bool = False
) -> None:
    """Call a command with the config that ``sys.argv`` describes.

    An error that a person can act on ends the process with its sentence and exit status 1; any
    other keeps its traceback.

    Args:
        command: What to do with the composed config.
        config_name: Of the command's file in ``conf/``, without ``.yaml``.
        together: Whether several processes may do it together; else one of several is refused.

    Raises:
        SystemExit: With the sentence.
    """
    register()
    sys.argv = [*_with_absolute_conf(sys.argv)]
    # Hydra then hands errors on instead of printing them, and explain() says them in a sentence.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    task = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=config_name)(
        command
    )
    with in_a_sentence():
        if not together:
            refuse_together(os.environ, command=f"rlcredit {config_name.replace('_', '-')}")
        if place(os.environ).rank > 0:
            sys.argv += SILENT
        task()


def _with_absolute_conf(words: Sequence[str]) -> Iterator[str]:
    """A command line whose ``--config-path`` is absolute; Hydra would look beside this file."""
    of_folder = False
    for word in words:
        flag, equals, path = word.partition("=")
        if of_folder:
            yield os.path.abspath(word)
        elif equals and flag in CONFIG_PATH:
            yield f"{flag}={os.path.abspath(path)}"
        else:
            yield word
        of_folder = word in CONFIG_PATH
