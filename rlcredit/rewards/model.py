"""A trained reward model: a transformer that reads a prompt and a text, and gives one number."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from hashlib import file_digest
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.estimators.base import SetUtility
from rlcredit.identity import ASIDE
from rlcredit.retrieval.digest import digest
from rlcredit.rewards.caches import Cache, Key, Rows
from rlcredit.rewards.engine import Plan
from rlcredit.types import Counts, Prompt

_log = logging.getLogger(__name__)

_READ = {".json", ".safetensors", ".jinja", ".txt", ".model"}
"""Endings of the files that a model or its tokenizer is read from."""
_TODAY = datetime(2026, 1, 1)
"""What a chat template that asks for the date is told."""
_LEAST_TOKENS, _ROWS = 32, 4
"""Fewer tokens, and rows that are no multiple of so many, are multiplied by other routines, with
other last bits: such a batch repeats its rows."""


@dataclass(frozen=True, kw_only=True)
class RewardModel:
    """A sequence classifier of transformers with one logit, which is the reward.

    The prompt (its instruction, then its text) and the scored text go through the tokenizer's chat
    template as the turns of a user and an assistant; without a template they are its pair encoding.
    Weights are read in float32, from safetensors alone.

    Raises:
        ValueError: If the length or the batch is smaller than 1.
    """

    name: str
    """A folder, or a name on the Hugging Face hub."""
    utility: SetUtility
    """What a set of candidates earns, where a task asks for sets."""
    revision: str | None = None
    """Commit, branch or tag of the hub repository; None: its default branch."""
    max_length: int = 2048
    """The most tokens that the model reads; what is longer is cut at its end, counted and said."""
    batch_size: int = field(default=16, metadata=ASIDE)
    """Texts that the model reads at once."""
    device: str | None = field(default=None, metadata=ASIDE)
    """None: the current GPU, where there is one."""
    cache: Cache = field(default_factory=Cache, metadata=ASIDE)

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value in (("max_length", self.max_length), ("batch_size", self.batch_size)):
            if value < 1:
                raise ValueError(f"reward.{name}={value}, but it is 1 or more")

    def content(self) -> tuple[str, ...]:
        """SHA-256 of a folder's files, or the commit of a repository on the hub.

        Raises:
            ValueError: If there is no such model.
        """
        folder = Path(self.name).expanduser()
        if not folder.is_dir():
            return (self._commit(),)
        files = sorted(path for path in folder.iterdir() if path.suffix in _READ)
        hashes = [_sha256(path, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return (digest([path.name for path in files], hashes),)

    def bind(self) -> "ModelReward":
        """Load the model, and open the cache.

        Raises:
            ValueError: If it cannot be loaded, or does not give one number.
            OSError: If the cache's folder cannot be used.
        """
        from safetensors import SafetensorError
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        place = self._place()
        safe = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
        try:
            model, loaded = AutoModelForSequenceClassification.from_pretrained(**place, **safe)
            tokenizer = AutoTokenizer.from_pretrained(**place)
        except (OSError, ValueError, SafetensorError) as error:
            raise self._unusable(str(error).splitlines()[0]) from error
        if loaded["missing_keys"]:
            raise self._unusable(f"it has no weights {', '.join(sorted(loaded['missing_keys']))}")
        if model.config.num_labels != 1:
            raise self._unusable(f"it gives {model.config.num_labels} numbers for a text")
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        return ModelReward(
            settings=self,
            model=model.eval().to(device),
            tokenizer=tokenizer,
            version=self.content()[0],
            rows=self.cache.open().rewards,
        )

    def _place(self) -> dict[str, Any]:
        folder = Path(self.name).expanduser()
        return {
            "pretrained_model_name_or_path": str(folder) if folder.is_dir() else self.name,
            "revision": self.revision,
            "local_files_only": folder.is_dir(),
            "trust_remote_code": False,
        }

    def _commit(self) -> str:
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(**self._place())
        except (OSError, ValueError) as error:
            raise self._unusable(str(error).splitlines()[0]) from error
        return str(config._commit_hash)

    def _unusable(self, why: str) -> ValueError:
        return ValueError(
            f"reward.name={self.name} is no reward model that can be used: {why}. Give a folder or "
            "a hub name of a sequence classifier with one label and safetensors weights, while the "
            "hub is in reach or the model in its cache"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelReward:
    """A :class:`Reward`: a loaded reward model.

    Texts are read in batches of one length, so nothing is padded, and on one thread a text has the
    same bits in every batch.
    """

    settings: RewardModel
    model: Any
    tokenizer: Any
    version: str
    rows: Rows
    _counts: list[Counts] = field(default_factory=lambda: [Counts()], init=False, repr=False)

    @property
    def counts(self) -> Counts:
        """What this reward was asked for so far, what was remembered, and what was cut."""
        return self._counts[0]

    @property
    def said(self) -> str:
        """The model and its version, for a run's header."""
        return f"{self.settings.name}, version {self.version[:12]}"

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Float[Tensor, " N"]:
        """The logit of each text for the prompt beside it, in float32.

        Raises:
            ValueError: If the two lengths differ, two different prompts have one id, or the chat
                template refuses a text.
            RuntimeError: If a logit is not finite.
        """
        plan = Plan.exactly(prompts, texts)
        length = str(self.settings.max_length)
        scopes = [digest("model", self.version, length, _told(prompt)) for prompt in plan.prompts]
        keys: list[Key] = [(scopes[prompt], plan.texts[text]) for prompt, text in plan.pairs]
        pairs = [(_told(plan.prompts[prompt]), plan.texts[text]) for prompt, text in plan.pairs]
        values, remembered = self.rows.recalled(
            keys, lambda missing: self._computed([pairs[i] for i in missing])
        )
        self._counts[0] += Counts(asked=len(texts), distinct=len(keys), remembered=remembered)
        return values[plan.pair_of]

    @torch.no_grad()
    def _computed(self, pairs: Sequence[tuple[str, str]]) -> Float[Tensor, " N"]:
        features = self._encoded(pairs)
        values = torch.zeros(len(pairs))
        for picked in self._batches([len(row) for row in features["input_ids"]]):
            rows = self._filled(picked, length=len(features["input_ids"][picked[0]]))
            batch = {
                name: torch.tensor([column[i] for i in rows], device=self.model.device)
                for name, column in features.items()
            }
            values[picked] = self.model(**batch).logits[: len(picked), 0].float().cpu()
        for (_, text), value in zip(pairs, values.tolist(), strict=True):
            if not math.isfinite(value):
                raise RuntimeError(
                    f"the reward model {self.settings.name} gave {value} for {text[:80]!r}; its "
                    "weights are damaged, or overflow in float32. No reward was given"
                )
        return values

    def _filled(self, picked: Sequence[int], *, length: int) -> list[int]:
        """Texts of a batch, and some of them again."""
        if not self._takes_batches:
            return [*picked]
        least = max(len(picked), math.ceil(_LEAST_TOKENS / length))
        return [*islice(cycle(picked), math.ceil(least / _ROWS) * _ROWS)]

    @property
    def _takes_batches(self) -> bool:
        """A decoder without a padding token takes one text at a time."""
        return self.model.config.get_text_config().pad_token_id is not None

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Positions of texts of one length."""
        size = self.settings.batch_size if self._takes_batches else 1
        by_length: dict[int, list[int]] = {}
        for position, length in enumerate(lengths):
            by_length.setdefault(length, []).append(position)
        for same in by_length.values():
            yield from (same[first : first + size] for first in range(0, len(same), size))

    def _encoded(self, pairs: Sequence[tuple[str, str]]) -> dict[str, list[list[int]]]:
        """The model's input for each text, cut to the longest that it reads."""
        if self.tokenizer.chat_template is None:
            given: dict[str, Any] = {
                "text": [told for told, _ in pairs],
                "text_pair": [text for _, text in pairs],
            }
        else:
            turns = [self._turns(told, text) for told, text in pairs]
            given = {"text": turns, "add_special_tokens": False}
        longest = self.settings.max_length
        whole = self.tokenizer(**given, truncation=False, verbose=False)["input_ids"]
        long = [i for i, row in enumerate(whole) if len(row) > longest]
        if long:
            self._say_cut([pairs[i][1] for i in long])
        return dict(self.tokenizer(**given, truncation=True, max_length=longest))

    def _turns(self, told: str, text: str) -> str:
        """A user's and an assistant's turn, as the chat template writes them.

        Raises:
            ValueError: If the template refuses them.
        """
        from jinja2 import TemplateError

        turns = [{"role": "user", "content": told}, {"role": "assistant", "content": text}]
        try:
            written = self.tokenizer.apply_chat_template(
                turns, tokenize=False, strftime_now=_TODAY.strftime
            )
        except TemplateError as error:
            raise ValueError(
                f"the chat template of {self.settings.name} refuses a user's and an assistant's "
                f"turn: {error}; choose a reward model whose template takes both"
            ) from error
        return str(written)

    def _say_cut(self, texts: Sequence[str]) -> None:
        if not self.counts.truncated:
            _log.warning(
                "%d texts are longer, with their prompts, than the %d tokens that the reward model "
                "reads, and cut; the first begins %r. Said once; perf/truncated_texts counts them, "
                "and reward.max_length is the limit",
                len(texts),
                self.settings.max_length,
                texts[0][:60],
            )
        self._counts[0] += Counts(truncated=len(texts))


def _told(prompt: Prompt) -> str:
    """What the user says: the instruction, where there is one, and the prompt."""
    return "\n\n".join(part for part in (prompt.instruction, prompt.text) if part)


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    """The hash of a file, computed once while its size and time stay."""
    del size, changed_ns
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
