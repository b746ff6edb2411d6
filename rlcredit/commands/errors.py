"""Sentences that a person can act on, made from errors, Hydra's about names and values too."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from rlcredit.commands.conf import conf_folder
from rlcredit.errors import chain, nearest, raised_here
from rlcredit.files import refused_by_disk
from rlcredit.run.stream import best_effort


def explain(error: BaseException) -> str | None:
    """The sentence a person can act on; None for an error that is a bug and needs its traceback.

    Errors that this package raises on purpose name value, rule and remedy. What a disk refuses is
    said with its path. To Hydra's about unknown groups, keys and values the nearest valid name is
    added. RLCREDIT_DEBUG=1 keeps every traceback.
    """
    if os.environ.get("RLCREDIT_DEBUG") == "1":
        return None
    links = list(chain(error))
    for link in links:
        if raised_here(link):
            return str(link)
    for link in links:
        if isinstance(link, OSError) and (sentence := refused_by_disk(link)) is not None:
            return sentence
    return _about_config(error, links)


def _about_config(error: BaseException, links: Sequence[BaseException]) -> str | None:
    for link in links:
        if isinstance(link, MissingConfigException):
            return _about_choice(link)
        if isinstance(link, InterpolationKeyError):
            return (
                f"{link}: a setting that is taken from another component, and the chosen one does "
                "not have it; choose components that go together (estimators of candidates go with "
                "rewards of search, dataset=esci)"
            )
        if isinstance(link, OmegaConfBaseException):
            return _about_key(error, link)
    return str(error) if isinstance(error, HydraException) else None


_EXTRAS = {
    "hydra/sweeper/optuna": "optuna",
    "hydra/launcher/submitit_slurm": "slurm",
    "hydra/launcher/submitit_local": "slurm",
}
"""Choices that come with a package, and the extra that installs it."""


def _about_choice(error: MissingConfigException) -> str:
    """Hydra's message, and the nearest name.

    Where the choice is one of a list (``tracker=[wandb,...]``) Hydra names no options.
    """
    name = error.missing_cfg_file or ""
    if name in _EXTRAS:
        return f"{name} is not installed here: pip install 'rlcredit[{_EXTRAS[name]}]'"
    if error.options is not None:
        return f"{error}{nearest(name, error.options)}"
    group = (conf_folder() / name).parent
    options = sorted(path.stem for path in group.glob("*.yaml"))
    listed = f"\nvalid names here: {', '.join(options)}" if options else ""
    return f"{error}{nearest(name, options)}{listed}"


def _about_key(error: BaseException, link: OmegaConfBaseException) -> str:
    message = str(error) if isinstance(error, HydraException) else str(link)
    if str(link) not in message:
        message = f"{message}\n{link}"
    parent = link.parent_node
    if link.key is None or not isinstance(parent, DictConfig):
        return message
    names = [str(name) for name in parent if name != "_target_"]
    if str(link.key) in names:
        return message
    deeper = [
        f"{parent._get_full_key(name)}.{link.key}"
        for name, node in parent.items_ex(resolve=False)
        if isinstance(node, DictConfig) and not node._is_none() and link.key in node
    ]
    hint = f"\ndid you mean {' or '.join(deeper)}?" if deeper else nearest(str(link.key), names)
    return f"{message}{hint}\nvalid names here: {', '.join(names)}"


@contextmanager
def in_a_sentence() -> Iterator[None]:
    """Let an error that :func:`explain` knows end the process with its sentence; others pass.

    What is printed within it is said as far as it can be: nobody who stops reading stops a command.

    Raises:
        SystemExit: With the sentence, so that the exit status is 1.
    """
    try:
        with redirect_stdout(best_effort(sys.stdout)), redirect_stderr(best_effort(sys.stderr)):
            yield
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        sys.exit(sentence)
