"""What the model remembers of the rows that still grow: two ways to keep it, one result."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import Cache, PreTrainedModel

from rlcredit.policy.attention import no_mask
from rlcredit.policy.causal_lm import positions
from rlcredit.policy.packing import Grid


@dataclass(kw_only=True)
class CacheState:
    """transformers' own cache, the prompt's part repeated for every response: the reference."""

    logits: Float[Tensor, "B V"]
    """Logits of the next token of each row."""
    cache: Cache
    mask: Bool[Tensor, "B L"]

    @classmethod
    def read(
        cls, model: PreTrainedModel, ids: Int[Tensor, "P L"], mask: Bool[Tensor, "P L"]
    ) -> "CacheState":
        """One row per prompt."""
        output = model(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=positions(mask),
            use_cache=True,
            logits_to_keep=1,
        )
        return cls(logits=output.logits[:, -1], cache=output.past_key_values, mask=mask)

    def take(self, rows: Int[Tensor, " C"]) -> None:
        """These rows, in this order; one may be taken several times."""
        self.logits, self.mask = self.logits[rows], self.mask[rows]
        self.cache.batch_select_indices(rows)

    def advance(self, model: PreTrainedModel, tokens: Int[Tensor, " B"]) -> None:
        """Append one token to every row."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        output = model(
            input_ids=tokens[:, None],
            attention_mask=self.mask.long(),
            position_ids=positions(self.mask)[:, -1:],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.logits, self.cache = output.logits[:, -1], output.past_key_values


@dataclass(kw_only=True)
class PrefixState:
    """The keys and values of a prompt once for all responses to it; each response's own beside.

    Reading the cache is what decoding costs; here a prompt's part is read once per prompt. B rows
    (responses that still grow) belong to P prompts and are sorted by prompt. Prompts are read with
    one row each, then :meth:`take` repeats the rows, and :meth:`advance` adds a token to each.
    """

    lengths: Int[Tensor, " P"]
    """Tokens of each prompt that still has a row."""
    owner: Int[Tensor, " B"]
    """Prompt of each row; ascending."""
    room: int
    """Most tokens of a response."""
    grown: int = -1
    """Place of the newest token in the response; -1 while prompts are read."""
    logits: Float[Tensor, "B V"] = field(default_factory=lambda: torch.empty(0, 0))
    prompt: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Layer -> keys and values [P, K, L, D], right-padded."""
    own: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Layer -> keys and values [B, K, room, D]."""
    bias: Float[Tensor, "P 1 1 L"] | None = None
    """-inf on the padding of prompts, where there is any."""
    own_bias: Float[Tensor, " W"] | None = None
    """-inf on places of the response that hold no token yet, where keys and values have such."""
    most: int = 1
    """Rows of the prompt that has most."""
    slots: Int[Tensor, " B"] | None = None
    """Place of each row in a [P, most] rectangle; None where it has no gap."""

    @classmethod
    def read(
        cls,
        model: PreTrainedModel,
        ids: Int[Tensor, "P L"],
        mask: Bool[Tensor, "P L"],
        *,
        room: int,
    ) -> "PrefixState":
        """One row per prompt."""
        # Left-padded as they come, right-padded as they are kept: then places are 0, 1, ... in each
        # row, and causal attention needs no mask while prompts are read.
        lengths = mask.sum(1)
        grid = Grid.of(lengths, start=0)
        everyone = torch.arange(len(ids), device=ids.device)
        state = cls(lengths=lengths, owner=everyone, room=room)
        places = torch.arange(grid.mask.shape[1], device=ids.device)
        state._run(model, grid.pick(ids[mask]), places.expand_as(grid.mask), lengths - 1)
        # Later tokens see whole rows of the prompts' keys, so their padding must be masked.
        if not grid.full:
            zeros = torch.zeros(grid.mask.shape, dtype=model.dtype, device=ids.device)
            state.bias = zeros.masked_fill(~grid.mask, float("-inf"))[:, None, None]
        return state

    def take(self, rows: Int[Tensor, " C"]) -> None:
        """These rows, in this order, so that prompts stay ascending; one may be taken often."""
        self.logits, owner = self.logits[rows], self.owner[rows]
        self.own = {layer: (k[rows], v[rows]) for layer, (k, v) in self.own.items()}
        # Prompts whose responses have all ended are dropped, and the others numbered anew.
        kept, self.owner, counts = torch.unique_consecutive(
            owner, return_inverse=True, return_counts=True
        )
        if len(kept) < len(self.lengths):
            self.lengths = self.lengths[kept]
            self.prompt = {layer: (k[kept], v[kept]) for layer, (k, v) in self.prompt.items()}
            self.bias = None if self.bias is None else self.bias[kept]
        # The cells of a [P, most] rectangle: row `within` of its prompt's rows, which is its index
        # less the rows of all earlier prompts.
        most = int(counts.max()) if len(counts) else 0
        within = torch.arange(len(rows), device=rows.device)
        within = within - (counts.cumsum(0) - counts)[self.owner]
        gaps = len(rows) < most * len(kept)
        self.slots = self.owner * most + within if gaps else None
        self.most = most

    def advance(self, model: PreTrainedModel, tokens: Int[Tensor, " B"]) -> None:
        """Append one token to every row."""
        self.grown += 1
        places = (self.lengths[self.owner] + self.grown)[:, None]
        self._run(model, tokens[:, None], places, torch.zeros_like(tokens))

    def attend(
        self,
        q: Float[Tensor, "B H N D"],
        k: Float[Tensor, "B K N D"],
        v: Float[Tensor, "B K N D"],
        *,
        layer: int,
        scale: float,
    ) -> Float[Tensor, "B N H D"]:
        """Keep the new keys and values of a layer; attend to all kept ones, each row to its own.

        One softmax runs over prompt and response together, so this is plain attention; only the
        two products with the prompt's keys and values are taken once per prompt.
        """
        if self.grown < 0:  # prompts are being read: rows are prompts, N their longest
            self._keep_prompt(layer, k, v)
            out = scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=scale, enable_gqa=True
            )
            return out.transpose(1, 2)
        # A new token of each response, N = 1; R query heads share each of the K key-value heads.
        keys, values = self._with(layer, k, v)
        prompt_keys, prompt_values = self.prompt[layer]
        num_kv = k.shape[1]
        q = q.squeeze(2).unflatten(1, (num_kv, -1)) * scale
        # Scores over the prompt: [P, K, most * R, D] @ [P, K, D, L], then rows again [B, K, R, L].
        over_prompt = self._spread(q) @ prompt_keys.transpose(2, 3)
        if self.bias is not None:
            over_prompt = over_prompt + self.bias
        over_prompt = self._gather(over_prompt, q.shape[2])
        # The softmax over the prompt's L tokens and the response's own, in float32 at least.
        width = over_prompt.shape[-1]
        over_own = q @ keys.transpose(2, 3)
        if self.own_bias is not None:
            over_own = over_own + self.own_bias
        scores = torch.cat([over_prompt, over_own], dim=-1)
        wide = torch.promote_types(scores.dtype, torch.float32)
        shares = scores.softmax(-1, dtype=wide).to(v.dtype)
        # The mean of the values, in the same two parts.
        out = self._gather(self._spread(shares[..., :width]) @ prompt_values, q.shape[2])
        out = out + shares[..., width:] @ values
        return out.flatten(1, 2)[:, None]

    def _keep_prompt(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Keep the keys and values of all prompts."""
        self.prompt[layer] = k, v

    def _with(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The responses' own keys and values, the new ones included."""
        if layer not in self.own:  # room for the longest response at once: no copy for each token
            shape = (*k.shape[:2], self.room, k.shape[3])
            self.own[layer] = k.new_empty(shape), v.new_empty(shape)
        keys, values = self.own[layer]
        keys[:, :, self.grown], values[:, :, self.grown] = k[:, :, 0], v[:, :, 0]
        return keys[:, :, : self.grown + 1], values[:, :, : self.grown + 1]

    def _spread(self, x: Float[Tensor, "B K R W"]) -> Float[Tensor, "P K GR W"]:
        """Put the rows of a prompt side by side, as queries of its keys; G = most rows of one."""
        if self.slots is not None:  # prompts have unequal numbers of rows: zeros in the gaps
            cells = x.new_zeros(len(self.lengths) * self.most, *x.shape[1:])
            cells[self.slots] = x
            x = cells
        return x.unflatten(0, (len(self.lengths), -1)).transpose(1, 2).flatten(2, 3)

    def _gather(self, x: Float[Tensor, "P K GR W"], share: int) -> Float[Tensor, "B K R W"]:
        """Undo :meth:`_spread`: a row for each response again, gaps left out."""
        rows = x.unflatten(2, (-1, share)).transpose(1, 2).flatten(0, 1)
        return rows if self.slots is None else rows[self.slots]

    def _run(self, model: Any, ids: Tensor, places: Tensor, last: Tensor) -> None:
        """Run the model on new tokens [B, N], and keep the logits after the one at ``last``."""
        hidden = model.get_decoder()(
            input_ids=ids,
            position_ids=places,
            attention_mask=no_mask(ids.device),
            use_cache=False,
            layout=self,
        ).last_hidden_state
        rows = torch.arange(len(ids), device=ids.device)
        self.logits = model.get_output_embeddings()(hidden[rows, last])
