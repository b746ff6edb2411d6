"""Warnings about a run that goes wrong while its reward may still rise."""

from collections.abc import Mapping
from dataclasses import dataclass, field

WATCHED = (("candidates/per_response", "candidates"), ("segments/per_response", "segments"))
"""Metric and what it counts; the first that a run logs is watched."""
WINDOW = 5


@dataclass
class SegmentWatch:
    """Warns once when responses hold half as many segments (or candidates) as at the start.

    Credit by segment can be won by writing fewer of them (one segment earns all the credit), and a
    one-step gradient check does not show it.
    """

    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    warned: bool = False

    def __call__(self, step: int, metrics: Mapping[str, float]) -> str | None:
        """Look at one step's metrics; a sentence if there is something to say."""
        name, parts = next((each for each in WATCHED if each[0] in metrics), (None, ""))
        if name is None:
            return None  # answers that are verified as a whole
        count = metrics[name]
        if len(self.first) < WINDOW:
            self.first.append(count)
        self.last = [*self.last, count][-WINDOW:]
        before, now = sum(self.first) / len(self.first), sum(self.last) / len(self.last)
        if self.warned or len(self.last) < WINDOW or now > 0.5 * before:
            return None
        self.warned = True
        return (
            f"step {step}: responses hold {now:.1f} {parts}, {before:.1f} at the start. "
            "The policy may be gaming the segmentation; read some responses in completions.jsonl"
        )

    def carry(self) -> dict[str, float]:
        """What a checkpoint keeps of it."""
        kept = {f"watch/first/{i}": value for i, value in enumerate(self.first)}
        kept |= {f"watch/last/{i}": value for i, value in enumerate(self.last)}
        return kept | {"watch/warned": float(self.warned)}

    @classmethod
    def from_carry(cls, carry: Mapping[str, float]) -> "SegmentWatch":
        """The watch of a run that goes on."""

        def values(name: str) -> list[float]:
            keys = [key for key in carry if key.startswith(f"watch/{name}/")]
            return [carry[key] for key in sorted(keys)]

        return cls(values("first"), values("last"), bool(carry.get("watch/warned", 0.0)))
