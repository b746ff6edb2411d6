"""Groups of equal rewards, replaced by groups of other prompts: DAPO's dynamic sampling.

arXiv:2503.14476, section 3.2, draws further prompts until every group of a batch has a gradient.
Here the rounds are bounded; what is still equal after the last one stays, and is counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from rlcredit.credit.group import equal_rewards
from rlcredit.distributed.records import with_rows
from rlcredit.distributed.world import Payload, World
from rlcredit.types import Counts, Metrics, Prompt, Rollouts, Signals


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Groups of responses, with all that is known of them."""

    rollouts: Rollouts
    signals: Signals

    def replaced(self, rows: Sequence[int], others: "Drawn", *, filler: int) -> "Drawn":
        """Other groups in the place of some; what was spent on both is counted.

        Args:
            rows: Numbers of the groups that go.
            others: As many groups.
            filler: Token that fills up rows.
        """
        mine, theirs = self.signals, others.signals
        rollouts = with_rows(self.rollouts, others.rollouts, rows, "rollouts", filler=filler)
        signals = with_rows(mine, theirs, rows, "signals", filler=filler)
        thrown_away = int(self.rollouts.response_mask[list(rows)].sum())
        counts = None if mine.counts is None else mine.counts + (theirs.counts or Counts())
        return Drawn(
            rollouts=rollouts,
            signals=replace(
                signals,
                num_evaluations=mine.num_evaluations + theirs.num_evaluations,
                num_extra_tokens=mine.num_extra_tokens + theirs.num_extra_tokens + thrown_away,
                counts=counts,
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Resampler:
    """Replaces groups of equal rewards, in all processes of a step at once.

    Which groups are equal is known to all processes, so that the further prompts are dealt out by
    their places in the whole step, and a draw is the same whatever the number of processes.
    """

    world: World
    part: slice
    """The prompts of the step that this process samples."""
    rounds: int
    """Most rounds."""
    filler: int
    """Token that fills up rows."""
    draw: Callable[[Sequence[Prompt], int], Drawn | None]
    """Samples and scores groups from a global index on; every process calls it as often as the
    others, without prompts where it has none to draw (and then gets None)."""
    others: Callable[[int, int], Sequence[Prompt]]
    """So many further prompts of the step, after the first so many."""

    def __call__(
        self, drawn: Drawn, prompts: Sequence[Prompt]
    ) -> tuple[Drawn, list[Prompt], Metrics]:
        """Replace what is equal, round after round.

        Args:
            drawn: The groups of this process.
            prompts: Of all processes.

        Returns:
            The groups of this process, the prompts of all of them, and how many groups were drawn
            further and are equal still.
        """
        now, further = list(prompts), 0
        for _ in range(self.rounds):
            equal = self._equal(drawn)
            if not equal:
                break
            chosen = self.others(further, len(equal))
            for place, prompt in zip(equal, chosen, strict=True):
                now[place] = prompt
            own = [n for n, place in enumerate(equal) if self.part.start <= place < self.part.stop]
            first = len(prompts) + further + (own[0] if own else 0)
            found = self.draw([chosen[n] for n in own], first)
            if found is not None:
                rows = [equal[n] - self.part.start for n in own]
                drawn = drawn.replaced(rows, found, filler=self.filler)
            further += len(equal)
        return (
            drawn,
            now,
            {
                "rollout/resampled_groups": torch.tensor(float(further)),
                "rollout/equal_groups_kept": torch.tensor(float(len(self._equal(drawn)))),
            },
        )

    def _equal(self, drawn: Drawn) -> list[int]:
        """Places in the step of the groups of equal rewards, of all processes."""
        own = Payload(tensors={"equal": equal_rewards(drawn.signals.rewards).cpu()})
        flags = torch.cat([each.tensors["equal"] for each in self.world.gather(own)])
        return flags.nonzero().squeeze(1).tolist()
