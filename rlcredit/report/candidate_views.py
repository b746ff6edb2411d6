"""Responses seen as sets of candidates: what a candidate is worth alone and to the set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from rlcredit.estimators.base import SetUtility
from rlcredit.report.segment_views import rankings
from rlcredit.report.views import Hit, Seen, SegmentView
from rlcredit.rewards.costs import earned
from rlcredit.rewards.ranking import RankingReward
from rlcredit.scoring.candidates import CandidateSet
from rlcredit.text.response import TextRules
from rlcredit.types import CandidateRewards, Prompt


@dataclass(frozen=True, kw_only=True, eq=False)
class CandidateViews:
    """The parts are candidates; a list of documents is that of the best candidate of a set.

    What the set earns without a candidate is what the rest is worth to the user, as in Shapley's
    game; the rule that a set must be whole is the task's and is left out there.
    """

    name: ClassVar[str] = "candidate"
    rules: TextRules
    reward: RankingReward
    utility: SetUtility

    def __call__(self, prompt: Prompt, text: str) -> Seen:
        """View a response as its candidates: each alone, the set without it, the set up to it."""
        written = CandidateSet.of(self.rules, prompt, text)
        count = len(written.texts)
        own: list[float] = []
        if count:
            said = [span.of(text) for span in written.spans]
            asked = [prompt] * count
            own = earned(self.reward, asked, written=said, searched=written.texts).tolist()
        found = rankings(self.reward, prompt, written.texts) if count else []
        everyone = list(range(count))
        rest = [[i for i in everyone if i != k] for k in everyone]
        up_to = [everyone[: k + 1] for k in everyone]
        without = self._utilities(prompt, written, own, rest)
        so_far = self._utilities(prompt, written, own, up_to)
        complete = sum(written.listed) == self.rules.num_candidates
        return Seen(
            reward=self._utilities(prompt, written, own, [everyone])[0] if complete else 0.0,
            spans=written.spans,
            segments=tuple(
                SegmentView(
                    text=written.spans[k].of(text),
                    counts=written.listed[k] and written.first[k],
                    true=None,
                    alone=own[k],
                    without=without[k],
                    up_to=so_far[k],
                    found_without=_of_best(own, found, rest[k]),
                )
                for k in everyone
            ),
            found=_of_best(own, found, everyone),
        )

    def _utilities(
        self,
        prompt: Prompt,
        written: CandidateSet,
        own: Sequence[float],
        sets: Sequence[Sequence[int]],
    ) -> list[float]:
        """Utility of subsets of a response's candidates."""
        if not own:
            return [0.0] * len(sets)
        columns = len(own)
        mask = torch.zeros(1, len(sets), columns, dtype=torch.bool)
        for row, members in enumerate(sets):
            mask[0, row, list(members)] = True
        mask &= torch.tensor(written.listed)
        shape = mask.shape
        candidates = CandidateRewards(
            rewards=torch.tensor(own).expand(shape),
            mask=mask,
            candidate_ids=torch.zeros(1, len(sets), 1, dtype=torch.long),
            num_asked=columns,
            first=torch.tensor(written.first).expand(shape),
            covers=self._covers(prompt, written, shape) if self.utility.reads_covers else None,
        )
        return self.utility(candidates, mask)[0].tolist()

    def _covers(self, prompt: Prompt, written: CandidateSet, shape: torch.Size) -> torch.Tensor:
        covered = self.reward.covered([prompt] * len(written.texts), written.texts)
        documents = sorted(frozenset[str]().union(*covered)) or [""]
        table = torch.tensor([[d in own for d in documents] for own in covered])
        return table.expand(*shape, len(documents))


def _of_best(
    own: Sequence[float], found: Sequence[tuple[Hit, ...]], members: Sequence[int]
) -> tuple[Hit, ...]:
    """What the best of some candidates finds; the first of equals."""
    return found[max(members, key=lambda k: own[k])] if members else ()
