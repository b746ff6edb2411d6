"""The shared-prefix layout: a prompt's tokens once, then every response to it.

One flat row of tokens without padding: [prompt_0 | prompt_1 | ... | response_00 | response_01 ...].
A response's last token is no input, and its first one is scored at the prompt's last position, so
the model reads P * L + sum of (length - 1) tokens instead of P * G * (L + T).
"""

from dataclasses import dataclass
from enum import StrEnum, auto

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rlcredit.types import Rollouts


class Packing(StrEnum):
    """How the tokens of a micro-batch are laid out; it changes speed and memory, no number."""

    shared_prefix = auto()
    """A prompt is computed once for all responses to it."""
    padded = auto()
    """A row per response, prompt and padding included: the reference, for any model."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Consecutive runs of flat tokens as the rows of a right-padded rectangle."""

    index: Int[Tensor, "R W"]
    """Flat place of each cell; padding points at the first token of the grid."""
    mask: Bool[Tensor, "R W"]
    full: bool
    """No cell is padding."""

    @classmethod
    def of(cls, lengths: Int[Tensor, " R"], *, start: int) -> "Grid":
        """Runs of these lengths, one after another from the flat place ``start``."""
        width = int(lengths.max()) if len(lengths) else 0
        places = torch.arange(width, device=lengths.device)
        mask = places < lengths[:, None]
        index = (start + lengths.cumsum(0) - lengths)[:, None] + places
        return cls(index=torch.where(mask, index, start), mask=mask, full=bool(mask.all()))

    def pick(self, flat: Tensor) -> Tensor:
        """[N, ...] as [R, W, ...]; padding holds whatever stands in the first token."""
        return flat[self.index]

    def pick_zeroed(self, flat: Tensor) -> Tensor:
        """[N, ...] as [R, W, ...] with zeros on padding."""
        cells = flat[self.index]
        if self.full:
            return cells
        return cells * self.mask.view(*self.mask.shape, *[1] * (cells.ndim - 2))

    def flat(self, cells: Tensor) -> Tensor:
        """[R, W, ...] as the grid's own tokens in flat order."""
        return cells.flatten(0, 1) if self.full else cells[self.mask]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pack:
    """Some rows of a batch of rollouts in the shared-prefix layout."""

    ids: Int[Tensor, " N"]
    positions: Int[Tensor, " N"]
    """Place in prompt and response together; it restarts after the prompt for each response."""
    num_prompt_tokens: int
    """The first so many of the N tokens are prompts."""
    prompts: Grid
    """A row per prompt."""
    responses: Grid
    """A row per response with an input token; flat places after the prompts."""
    siblings: Grid
    """A row per prompt: the input tokens of all its responses, one response after another."""
    heads: Int[Tensor, " H"]
    """Flat places whose next token is scored, ascending."""
    heads_of: Int[Tensor, " n"]
    """Place in ``heads`` of each scored token; ascending."""
    targets: Int[Tensor, " n"]
    """The scored tokens."""
    cells: tuple[Int[Tensor, " n"], Int[Tensor, " n"]]
    """Row and column of each scored token in the [B, T] block that was packed."""

    @classmethod
    def of(cls, rollouts: Rollouts, rows: slice = slice(None)) -> "Pack":
        """Pack rows of the flattened [P * G] batch."""
        group_size = rollouts.response_ids.shape[1]
        ids = rollouts.response_ids.flatten(0, 1)[rows]
        mask = rollouts.response_mask.flatten(0, 1)[rows]
        owner = torch.arange(len(rollouts.prompts), device=ids.device)
        owner = owner.repeat_interleave(group_size)[rows]
        chosen, owner = torch.unique_consecutive(owner, return_inverse=True)
        prompt_mask = rollouts.prompt_mask[chosen]
        return cls._laid_out(rollouts.prompt_ids[chosen], prompt_mask, ids, mask, owner)

    @classmethod
    def _laid_out(
        cls,
        prompt_ids: Int[Tensor, "P L"],
        prompt_mask: Bool[Tensor, "P L"],
        ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
        owner: Int[Tensor, " B"],
    ) -> "Pack":
        prompt_lengths, lengths = prompt_mask.sum(1), mask.sum(1)
        read = (lengths - 1).clamp(min=0)
        num_prompt_tokens = int(prompt_lengths.sum())
        places = torch.arange(ids.shape[1], device=ids.device)
        is_input = places < read[:, None]
        after_prompt = prompt_lengths[owner][:, None] + places
        written = torch.zeros_like(prompt_lengths).index_add_(0, owner, read)
        prompts = Grid.of(prompt_lengths, start=0)
        in_prompt = torch.arange(prompts.mask.shape[1], device=ids.device).expand_as(prompts.mask)
        # the first tokens of all responses, then the others in flat order: heads stay ascending
        first, (row, column) = lengths.nonzero().squeeze(1), is_input.nonzero(as_tuple=True)
        num_inputs = len(row)
        others = torch.arange(num_inputs, device=ids.device)
        flat_heads = num_prompt_tokens + others
        cells = (torch.cat([first, row]), torch.cat([torch.zeros_like(first), column + 1]))
        return cls(
            ids=torch.cat([prompt_ids[prompt_mask], ids[is_input]]),
            positions=torch.cat([in_prompt[prompts.mask], after_prompt[is_input]]),
            num_prompt_tokens=num_prompt_tokens,
            prompts=prompts,
            responses=Grid.of(read[read > 0], start=num_prompt_tokens),
            siblings=Grid.of(written, start=num_prompt_tokens),
            heads=torch.cat([prompt_lengths.cumsum(0) - 1, flat_heads]),
            heads_of=torch.cat([owner[first], len(prompt_lengths) + others]),
            targets=ids[cells],
            cells=cells,
        )
