"""Draws the credit of one response by each estimator: one group of a real run, scored by BM25."""

import json
from dataclasses import dataclass, replace
from functools import cache
from html import escape
from pathlib import Path

from torch import Tensor

from rlcredit import Credit, lpo_advantages
from rlcredit.credit.group import group_relative
from rlcredit.integrations.search import Search
from rlcredit.losses.lpo import Divergence
from rlcredit.report.colours import colour_of
from rlcredit.scoring.named import CANDIDATES
from rlcredit.tasks.esci import ESCI

GROUP = Path(__file__).parents[2] / "docs" / "pictures" / "response.json"
LISTWISE = {"lpo": Divergence.forward_kl, "lpo_reverse": Divergence.reverse_kl}
SET_SIZE = 4
"""Candidates of a set: half of the group."""
FULL = 2.5
"""The advantage at which a colour is full."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A phrase of the response, or a candidate of the set; the mean advantage of its tokens."""

    text: str
    advantage: float


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What one method gives the response."""

    method: str
    parts: tuple[Part, ...]
    rewards: int
    """Rewards that the method asks for, the response's own included."""


@cache
def _search() -> Search:
    return Search.of(ESCI())


@cache
def _group() -> tuple[str, tuple[str, ...], int]:
    """Prompt id, the group's responses, and which of them is shown."""
    stored = json.loads(GROUP.read_text())
    return stored["prompt_id"], tuple(stored["responses"]), stored["shown"]


@cache
def credited(method: str) -> Drawn:
    """The shown response, credited by a method."""
    if method in CANDIDATES:
        return _of_set(method)
    if method in LISTWISE:
        return _listwise(method)
    prompt, responses, shown = _group()
    found = _search().credit(method)([_search().prompts[prompt]], [responses])
    asked = sum(each.response == shown for each in found.subsets)
    parts = _phrases(responses[shown], found.advantages[0, shown])
    return Drawn(method=method, parts=parts, rewards=max(1, asked - 1))


def prompt_and_rewards() -> tuple[str, list[float]]:
    """What was asked, and the reward of each response of the group."""
    prompt, responses, _ = _group()
    found = _search().credit("grpo")([_search().prompts[prompt]], [responses])
    return _search().prompts[prompt].text, found.rewards[0].tolist()


def _phrases(text: str, advantages: Tensor) -> tuple[Part, ...]:
    parts, start = [], 0
    for phrase in text.split(", "):
        mean = float(advantages[start : start + len(phrase)].mean())
        parts.append(Part(text=phrase, advantage=mean))
        start += len(phrase) + len(", ")
    return tuple(parts)


def _listwise(method: str) -> Drawn:
    """GRPO's advantages as LPO's gradient weighs them in the first update of a batch."""
    prompt, responses, shown = _group()
    rewards = _search().credit("grpo")([_search().prompts[prompt]], [responses]).rewards
    target = group_relative(rewards)
    value = float(lpo_advantages(target, divergence=LISTWISE[method])[0, shown])
    parts = tuple(Part(text=phrase, advantage=value) for phrase in responses[shown].split(", "))
    return Drawn(method=method, parts=parts, rewards=1)


def _of_set(method: str) -> Drawn:
    """The group's responses as two sets of candidates, of which the first is shown."""
    prompt, responses, _ = _group()
    sets = [responses[:SET_SIZE], responses[SET_SIZE:]]
    texts = ["".join(f"<c{i}>{text}</c{i}>" for i, text in enumerate(own, 1)) for own in sets]
    rules = replace(_search().task.rules, num_candidates=SET_SIZE)
    credit = Credit(reward=_search().reward, estimator=method, rules=rules)
    found = credit([_search().prompts[prompt]], [texts])
    starts = [texts[0].index(f"<c{i}>") + len("<c1>") for i in range(1, SET_SIZE + 1)]
    parts = [
        Part(text=text, advantage=float(found.advantages[0, 0, start : start + len(text)].mean()))
        for text, start in zip(sets[0], starts, strict=True)
    ]
    return Drawn(method=method, parts=tuple(parts), rewards=SET_SIZE)


def credit_figure(*names: str) -> str:
    """The shown response by each method as HTML: a colour, and the number that it stands for."""
    prompt, rewards = prompt_and_rewards()
    rows = "".join(_row(credited(name)) for name in names)
    of_group = ", ".join(f"{reward:.2f}" for reward in rewards)
    said = (
        f"Query: <q>{escape(prompt)}</q>. Rewards (nDCG@10, BM25) of the group's eight responses: "
        f"{of_group}. Numbers are advantages: blue is encouraged, orange is discouraged."
    )
    return f'<figure class="credit">{rows}<figcaption>{said}</figcaption></figure>'


def _row(drawn: Drawn) -> str:
    parts = "".join(_box(part) for part in drawn.parts)
    rewards = "1 reward" if drawn.rewards == 1 else f"{drawn.rewards} rewards"
    return (
        f'<div class="method" style="--method: {colour_of(drawn.method)}">'
        f"<b>{drawn.method}</b><small>{rewards}</small><p>{parts}</p></div>"
    )


def _box(part: Part) -> str:
    side = "up" if part.advantage > 0 else "down"
    strength = min(1.0, abs(part.advantage) / FULL)
    return (
        f'<span class="{side}" style="--strength: {100 * strength:.0f}%">{escape(part.text)} '
        f"<i>{part.advantage:+.2f}</i></span>"
    )
