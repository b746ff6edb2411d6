"""Warnings about a run that goes wrong while its reward may still rise."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

WINDOW = 5
"""Steps that a figure is averaged over, at the start of the run and now."""


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A metric, when it is wrong, and what is said then."""

    metric: str
    rings: Callable[[float, float], bool]
    """Of its means over the first and over the latest steps."""
    says: str
    """With ``{before}`` and ``{now}``, the two means."""


def _halved(before: float, now: float) -> bool:
    return now <= 0.5 * before


RISE = 0.2
"""Rise of a share of words that is too much: one word in five. The texts of catalogues say .10 to
.18 of their words again, demonstrations none, and the policy that said "bohemian" ten times .50."""


def _risen(before: float, now: float) -> bool:
    return now > before + RISE


def _stranger(before: float, now: float) -> bool:
    """Two nats a token, a multiple of what training moves a policy that goes on writing texts."""
    return now > math.exp(2) * before


# Credit by segment can be won by writing fewer of them (one segment earns all the credit), and a
# one-step gradient check does not show it.
ALARMS = (
    *(
        Alarm(
            metric=f"{parts}/per_response",
            rings=_halved,
            says=f"responses hold {{now:.1f}} {parts}, {{before:.1f}} at the start. The policy may "
            "be gaming the segmentation",
        )
        for parts in ("candidates", "segments")
    ),
    Alarm(
        metric="segments/valid_share",
        rings=lambda before, now: now < 0.5,
        says="{now:.0%} of the segments count under the task's rules, {before:.0%} at the start. "
        "The others get no credit",
    ),
    Alarm(
        metric="response/truncated_share",
        rings=lambda before, now: now >= 1,
        says="every response is cut off at rollout.max_new_tokens, so none was ever seen to end. "
        "Give a larger rollout.max_new_tokens",
    ),
    Alarm(
        metric="credit/mean_abs",
        rings=lambda before, now: now == 0,
        says="the credit of every segment has been 0: nothing but the reward of whole responses, "
        "if that, is learnt from",
    ),
    Alarm(
        metric="rollout/equal_groups_kept",
        rings=lambda before, now: now >= 1,
        says="{now:.1f} groups of a step have equal rewards after the last round of "
        "trainer.resample_equal_groups, and train little or nothing. More rounds may find others, "
        "as may prompts that are neither too easy nor too hard",
    ),
    Alarm(
        metric="text/repeated_share",
        rings=_risen,
        says="{now:.0%} of the words were said before in the same response, {before:.0%} at the "
        "start. The reward may pay for repetition; reward.word_cost=0.01 makes words cost",
    ),
    Alarm(
        metric="text/unknown_share",
        rings=_risen,
        says="{now:.0%} of the words stand in no document, {before:.0%} at the start. The policy "
        "may have left the language; reward.unknown_cost makes such words cost",
    ),
    Alarm(
        metric="text/prompt_copied_share",
        rings=lambda before, now: now > max(0.9, before),
        says="{now:.0%} of the words are the query's own, {before:.0%} at the start. The policy "
        "writes the query again, which earns what the query earns and no more; with "
        "dataset.compose=expand the query stands there anyway",
    ),
    Alarm(
        metric="text/perplexity",
        rings=_stranger,
        says="the responses have a perplexity of {now:.1f} under the starting policy, {before:.1f} "
        "at the start. The policy may have left the language; loss.kl_coef holds it nearer",
    ),
)


TEXTS = (
    ("text/repeated_share", "repeated", ".0%"),
    ("text/unknown_share", "in no document", ".0%"),
    ("text/perplexity", "perplexity under the starting policy", ".1f"),
)
"""Metric, label and format of what is said of the texts at the end."""


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@dataclass
class Watch:
    """Says once of each alarm that it rings; metrics that a run does not log are not watched."""

    first: dict[str, list[float]] = field(default_factory=dict)
    last: dict[str, list[float]] = field(default_factory=dict)
    warned: set[str] = field(default_factory=set)

    def __call__(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """Look at one step's metrics; a sentence for each alarm that rings for the first time."""
        return [
            f"step {step}: {said}; read some responses in completions.jsonl"
            for alarm in ALARMS
            if alarm.metric in metrics
            and (said := self._heard(alarm, metrics[alarm.metric])) is not None
        ]

    def _heard(self, alarm: Alarm, value: float) -> str | None:
        first = self.first.setdefault(alarm.metric, [])
        if len(first) < WINDOW:
            first.append(value)
        last = self.last[alarm.metric] = [*self.last.get(alarm.metric, []), value][-WINDOW:]
        before, now = _mean(first), _mean(last)
        if alarm.metric in self.warned or len(last) < WINDOW or not alarm.rings(before, now):
            return None
        self.warned.add(alarm.metric)
        return alarm.says.format(before=before, now=now)

    def texts(self) -> str | None:
        """How the texts changed, in one line: means over the first steps and over the latest."""
        changes = [
            f"{label} {_mean(self.first[metric]):{form}} -> {_mean(self.last[metric]):{form}}"
            for metric, label, form in TEXTS
            if self.last.get(metric)
        ]
        return f"words of responses: {', '.join(changes)}" if changes else None

    def carry(self) -> dict[str, float]:
        """What a checkpoint keeps of it."""
        kept = {f"watch/warned/{metric}": 1.0 for metric in sorted(self.warned)}
        for name, values in (("first", self.first), ("last", self.last)):
            for metric, own in values.items():
                kept |= {f"watch/{name}/{i}/{metric}": value for i, value in enumerate(own)}
        return kept

    @classmethod
    def from_carry(cls, carry: Mapping[str, float]) -> "Watch":
        """The watch of a run that goes on; what is kept of no alarm of today is left out."""
        watch = cls()
        for alarm in ALARMS:
            for name, values in (("first", watch.first), ("last", watch.last)):
                keys = (f"watch/{name}/{i}/{alarm.metric}" for i in range(WINDOW))
                kept = [carry[key] for key in keys if key in carry]
                if kept:
                    values[alarm.metric] = kept
            if f"watch/warned/{alarm.metric}" in carry:
                watch.warned.add(alarm.metric)
        return watch
