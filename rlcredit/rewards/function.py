"""A reward of one's own: a function of texts and of what their prompts hold."""

import asyncio
import json
import logging
import math
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from inspect import isawaitable
from itertools import count
from numbers import Real
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.code import Code
from rlcredit.estimators import Max
from rlcredit.estimators.base import SetUtility
from rlcredit.identity import ASIDE, CODE
from rlcredit.retrieval.digest import digest
from rlcredit.rewards.base import scores_parts
from rlcredit.rewards.caches import Cache, Key, Rows
from rlcredit.rewards.engine import Plan
from rlcredit.rewards.limits import HungError, within
from rlcredit.types import Counts, Prompt

_log = logging.getLogger(__name__)

_CHECK_EVERY, _NUM_CHECKED = 50, 4
"""Calls between two checks that a text has one reward, and texts of such a check."""
_REL_TOL, _ABS_TOL = 1e-6, 1e-9
"""How far two rewards of one text may be apart."""
_SHOWN = 80
"""Characters of a text that a sentence shows."""

Row = dict[str, Any]
"""What a prompt holds, by name, as a function reads it."""
Pair = tuple[Prompt, str]


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function ``(texts, rows) -> floats`` of a package from outside, plain or ``async``.

    It gets a list of texts and, for each, a mapping with what its prompt holds (:func:`row_of`),
    and returns a number for each text, in their order. The texts are whole responses, responses
    with segments left out, and candidates, as the task's rules leave them.

    Raises:
        ValueError: If a batch is smaller than 1, or a time limit is not above 0.
    """

    path: str = field(metadata=CODE)
    """Module and name of the function: ``my_pkg.rewards:score``."""
    utility: SetUtility
    """What a set of candidates earns, where a task asks for sets."""
    parts: bool = True
    """Whether a text with parts left out has a reward that means something."""
    noisy: bool = False
    """Let two calls give one text different rewards; then no reward is remembered. The value of a
    coalition is no function any more, and credit is the noisier for it."""
    batch_size: int | None = field(default=None, metadata=ASIDE)
    """The most texts of a call; null: all at once."""
    timeout_s: float = field(default=60.0, metadata=ASIDE)
    """How long a call may take, in seconds (:func:`rlcredit.rewards.limits.within`)."""
    cache: Cache = field(default_factory=Cache, metadata=ASIDE)

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(
                f"reward.batch_size={self.batch_size}, but a call has 1 text or more; null: all"
            )
        if not 0 < self.timeout_s < math.inf:
            raise ValueError(
                f"reward.timeout_s={self.timeout_s}, but a limit is above 0 and finite; 60 is usual"
            )

    def content(self) -> tuple[str, ...]:
        """The version of the function's code; empty where it has none."""
        version = Code.of(self.path).version
        return () if version is None else (version,)

    def bind(self) -> "FunctionReward":
        """Import the function, and open the cache.

        Raises:
            ValueError: If it cannot be imported or called.
            OSError: If the cache's folder cannot be used.
        """
        code, cache = Code.of(self.path), self.cache
        if cache.folder is not None and (code.version is None or self.noisy):
            why = "is noisy" if self.noisy else "has neither a version nor a source to hash"
            _log.warning("%s %s, so its rewards are not kept on disk", self.path, why)
            cache = replace(cache, folder=None)
        if self.noisy:
            cache = replace(cache, memory_mb=0)
        return FunctionReward(settings=self, code=code, rows=cache.open().rewards)


@dataclass(frozen=True, kw_only=True, eq=False)
class FunctionReward:
    """A :class:`Reward`: an imported function, checked at every call."""

    settings: Function
    code: Code
    rows: Rows
    _counts: list[Counts] = field(default_factory=lambda: [Counts()], init=False, repr=False)
    _calls: Iterator[int] = field(default_factory=count, init=False, repr=False)

    @classmethod
    def at_hand(
        cls,
        function: Callable[[list[str], list[Row]], Any],
        *,
        parts: bool = True,
        batch_size: int | None = None,
        timeout_s: float = 60.0,
    ) -> "FunctionReward":
        """The reward of a function that a program or a notebook has, checked as an imported one.

        Args:
            function: ``(texts, rows) -> floats``, plain or ``async``.
            parts: Whether a text with parts left out has a reward that means something.
            batch_size: The most texts of a call; None: all at once.
            timeout_s: How long a call may take, in seconds.

        Raises:
            ValueError: If a number is out of its range, or the function's version is none.
        """
        code = Code.at_hand(function)
        settings = Function(
            path=code.path, utility=Max(), parts=parts, batch_size=batch_size, timeout_s=timeout_s
        )
        return cls(settings=settings, code=code, rows=settings.cache.open().rewards)

    @property
    def counts(self) -> Counts:
        """What this reward was asked for so far, and what was remembered."""
        return self._counts[0]

    @property
    def said(self) -> str:
        """The function and its version, for a run's header."""
        version = self.code.version
        return f"{self.code.path}, {'no version' if version is None else f'version {version[:12]}'}"

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Float[Tensor, " N"]:
        """The reward of each text for the prompt beside it, in float32.

        A pair that stands in a call several times is scored once.

        Raises:
            ValueError: If the two lengths differ, or two different prompts have one id.
            RuntimeError: If the function raises, hangs, gives anything but one finite number for
                each text, or gives a text another number than before.
        """
        plan = Plan.exactly(prompts, texts)
        scopes = [self._scope(prompt) for prompt in plan.prompts]
        keys: list[Key] = [(scopes[prompt], plan.texts[text]) for prompt, text in plan.pairs]
        pairs = [(plan.prompts[prompt], plan.texts[text]) for prompt, text in plan.pairs]
        values, remembered = self.rows.recalled(
            keys, lambda missing: self._computed([pairs[i] for i in missing])
        )
        self._counts[0] += Counts(asked=len(texts), distinct=len(keys), remembered=remembered)
        return values[plan.pair_of]

    def _scope(self, prompt: Prompt) -> str:
        """Hash of all that a reward depends on but its text."""
        told = json.dumps(row_of(prompt), sort_keys=True, ensure_ascii=False)
        return digest("function", self.code.path, self.code.version or "", told)

    def _computed(self, pairs: Sequence[Pair]) -> Float[Tensor, " N"]:
        """Score pairs, and now and then some of them again."""
        values = self._scored(pairs)
        if not self.settings.noisy and next(self._calls) % _CHECK_EVERY == 0:
            self._check_again(pairs, values)
        return torch.tensor(values, dtype=torch.float64).float()

    def _scored(self, pairs: Sequence[Pair]) -> list[float]:
        size = self.settings.batch_size or len(pairs)
        batches = [pairs[first : first + size] for first in range(0, len(pairs), size)]
        return [value for batch in batches for value in self._batch(batch)]

    def _check_again(self, pairs: Sequence[Pair], values: Sequence[float]) -> None:
        """Refuse a function that gives one text two rewards."""
        chosen = range(0, len(pairs), max(len(pairs) // _NUM_CHECKED, 1))[:_NUM_CHECKED]
        again = self._scored([pairs[i] for i in chosen])
        for i, value in zip(chosen, again, strict=True):
            if not math.isclose(value, values[i], rel_tol=_REL_TOL, abs_tol=_ABS_TOL):
                raise RuntimeError(
                    f"{self.code.path} gave {_short(pairs[i][1])} the reward {values[i]!r} and, "
                    f"asked again, {value!r}; a text has one reward for a prompt, or what a part "
                    "of it earns means nothing: take chance, time and the other texts of a call "
                    "out of it, or set reward.noisy=true, and nothing is remembered"
                )

    def _batch(self, pairs: Sequence[Pair]) -> list[float]:
        """One call of the function; every value is checked."""
        rows = [row_of(prompt) for prompt, _ in pairs]
        texts = [text for _, text in pairs]
        limit = self.settings.timeout_s
        try:
            given = within(limit, lambda: _answer(self.code.function, [*texts], rows))
        except HungError as error:
            raise RuntimeError(
                f"{self.code.path} has not returned within reward.timeout_s={limit:g} seconds, "
                f"{_on(texts)}; mend it, raise the limit, or give it fewer texts at once with "
                "reward.batch_size. No reward was given for them"
            ) from error
        except (Exception, SystemExit) as error:
            raise RuntimeError(
                f"{self.code.path} raised {type(error).__name__}: {error} {_on(texts)} "
                f"({self._last_line(error)}); no reward was given for them"
            ) from error
        return self._checked(texts, given)

    def _checked(self, texts: Sequence[str], given: object) -> list[float]:
        """The numbers that a call gave."""
        if not isinstance(given, list):
            self._refuse(texts, f"gave a value of type {type(given).__name__}")
        if len(given) != len(texts):
            self._refuse(texts, f"gave {len(given)} values")
        for text, value in zip(texts, given, strict=True):
            if isinstance(value, bool) or not isinstance(value, Real):
                what = f"{value!r:.{_SHOWN}} (of type {type(value).__name__})"
                self._refuse(texts, f"gave {what} for {_short(text)}")
            if not math.isfinite(value):
                self._refuse(texts, f"gave {float(value)!r} for {_short(text)}")
        return [float(value) for value in given]

    def _refuse(self, texts: Sequence[str], what: str) -> NoReturn:
        raise RuntimeError(
            f"{self.code.path} {what}, {_on(texts)}; it must return a finite number (int or "
            "float) for each text, in their order. No reward was given for them"
        )

    def _last_line(self, error: BaseException) -> str:
        """Where in the function's own file an error arose; the very last line if not there."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename == self.code.file] or frames
        return f"{own[-1].filename}:{own[-1].lineno}: {own[-1].line}"


def row_of(prompt: Prompt) -> Row:
    """What a prompt holds, as a function reads it.

    ``prompt_id``, ``prompt`` (what the policy reads), ``query``, ``relevance`` (document id ->
    grade), and the further columns of data of one's own, whose names hide none of these.
    """
    return dict(prompt.row) | {
        "prompt_id": prompt.prompt_id,
        "prompt": prompt.text,
        "query": prompt.query,
        "relevance": dict(prompt.relevance),
    }


def _answer(function: Callable[..., Any], texts: list[str], rows: list[Row]) -> object:
    """What a function returns: a list, if it can be one. A coroutine is run to its end."""
    given = function(texts, rows)
    if isawaitable(given):
        given = asyncio.run(_awaited(given))
    if isinstance(given, str | bytes | Mapping | Set) or not isinstance(given, Iterable):
        return given
    return list(given)


async def _awaited(given: Awaitable[object]) -> object:
    return await given


def _on(texts: Sequence[str]) -> str:
    return f"on {len(texts)} texts, of which the first is {_short(texts[0])}"


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


@scores_parts.register
def _(reward: Function) -> bool:
    """As its settings say."""
    return reward.parts


@scores_parts.register
def _(reward: FunctionReward) -> bool:
    """As its settings say."""
    return reward.settings.parts
