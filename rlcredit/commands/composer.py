"""Many configs of runs from one folder: each choice of components is composed once."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from rlcredit.commands.conf import composing


@dataclass(frozen=True, kw_only=True)
class Composer:
    """Composes ``train`` from a folder, and remembers what words choose.

    Hydra takes .3 s to compose what words choose (``estimator=ospo``), and then sets the values
    that other words give (``trainer.steps=9``). These are set here, in a copy.
    """

    folder: Path
    """Absolute; what it does not hold is read from ``conf/``."""
    chosen: dict[tuple[str, ...], DictConfig] = field(default_factory=dict, init=False)
    """Words that choose -> what Hydra composes."""

    def hydra(self) -> AbstractContextManager[None]:
        """Let Hydra compose from the folder within the context."""
        return composing(self.folder)

    def __call__(self, words: Sequence[str]) -> DictConfig:
        """The config that ``train.py`` composes from these words, Hydra's own node included.

        Raises:
            HydraException: If a word is none, or chooses what does not exist.
            OmegaConfBaseException: If a word sets what is no setting, or to what it cannot be.
        """
        parsed = OverridesParser.create().parse_overrides(list(words))
        choices = tuple(str(word.input_line) for word in parsed if not _sets(word))
        if choices not in self.chosen:
            with self.hydra():
                self.chosen[choices] = compose("train", list(choices), return_hydra_config=True)
        cfg = deepcopy(self.chosen[choices])
        for word in filter(_sets, parsed):
            OmegaConf.update(cfg, word.key_or_group, word.value(), merge=True)
        cfg.hydra.overrides.task = [w.input_line for w in parsed if not w.is_hydra_override()]
        return cfg


def _sets(word: Override) -> bool:
    """Whether a word changes one value of a component, which Hydra does when all is composed."""
    special = word.is_add() or word.is_force_add() or word.is_delete() or word.is_hydra_override()
    return "." in word.key_or_group and not special
