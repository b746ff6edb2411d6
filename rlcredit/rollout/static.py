"""Decoding in buffers of fixed shape, so that a GPU can replay the one-token step.

Launching the kernels of a small model takes longer than running them. A CUDA graph launches a whole
step at once, if every tensor stays where it is and as large as it is. So keys and values lie in
buffers, rows that ended keep their place until the batch falls to the next smaller size, and
attention reads a prefix of the buffer that grows in steps. No row sees another's, so no sample
depends on any of that; ``decoding.py`` has the versions that grow and shrink.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from rlcredit.policy.attention import NAME, obstacle
from rlcredit.rollout.decoding import PrefixState

CHECK_EVERY = 8
"""Tokens between two looks at which rows still grow; each look waits for the device."""
BLOCK = 1024
"""Tokens of the vocabulary whose probabilities are added up first."""
SHORTEST = 64
"""Least width of a prompt, and of what is read of a response, in tokens."""
_MOVING_ROPES = frozenset({"dynamic", "longrope"})
"""Rotary embeddings that ask the device how long the longest row is."""


def step_size(number: int) -> int:
    """The smallest of 1, 2, 3, 4, 6, 8, 12, ... that holds a number: at most a third is idle."""
    power = 1 << max(0, number - 1).bit_length()
    return 3 * power // 4 if power >= 4 and number <= 3 * power // 4 else power


def padded_width(tokens: int) -> int:
    """Tokens that a buffer of keys and values has for so many."""
    return max(SHORTEST, step_size(tokens))


@dataclass(frozen=True, kw_only=True)
class StepShape:
    """All sizes in a one-token step; steps of one shape share a CUDA graph."""

    prompts: int
    group: int
    """Rows of each prompt at the start."""
    prompt_width: int
    rows: int
    """Rows that are computed."""
    width: int
    """Tokens of a response that attention reads."""
    greedy: bool


@dataclass(kw_only=True)
class StaticState(PrefixState):
    """A prompt's keys and values once for its responses, in buffers that outlive the call."""

    at: Int[Tensor, "1"]
    """Place in the response of the token that is computed."""
    width: int = 0

    def _keep_prompt(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Write them into the buffers."""
        for buffer, new in zip(self.prompt[layer], (k, v), strict=True):
            buffer.copy_(new)

    def _with(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The responses' own keys and values, the new ones included."""
        keys, values = (buffer[: len(k)] for buffer in self.own[layer])
        keys.index_copy_(2, self.at, k)
        values.index_copy_(2, self.at, v)
        return keys[:, :, : self.width], values[:, :, : self.width]

    def run(self, model: Any, ids: Tensor, places: Tensor, last: Tensor) -> None:
        """Run the model on new tokens [B, N], and keep the logits after the one at ``last``."""
        self._run(model, ids, places, last)


@dataclass(kw_only=True, eq=False)
class _Rows:
    """What changes with every token, by row or by cell; a cell is a row's place at the start."""

    cells: Int[Tensor, " B"]
    """Cell of each row."""
    tokens: Int[Tensor, " B"]
    """Newest token of each row."""
    alive: Bool[Tensor, " B"]
    """Rows that still grow."""
    uniforms: Float[Tensor, "B T"]
    """By cell, as are all that follow."""
    ids: Int[Tensor, "B T"]
    logprobs: Float[Tensor, "B T"]
    lengths: Int[Tensor, " B"]
    finished: Bool[Tensor, " B"]
    finite: Bool[Tensor, ""]
    """All logits were finite so far."""

    @classmethod
    def empty(cls, rows: int, room: int, device: torch.device) -> "_Rows":
        number = torch.zeros(rows, dtype=torch.long, device=device)
        flag = torch.zeros(rows, dtype=torch.bool, device=device)
        table = torch.zeros(rows, room, dtype=torch.float64, device=device)
        return cls(
            cells=number,
            tokens=number.clone(),
            alive=flag,
            uniforms=table,
            ids=torch.zeros(rows, room, dtype=torch.long, device=device),
            logprobs=table.clone(),
            lengths=number.clone(),
            finished=flag.clone(),
            finite=torch.ones((), dtype=torch.bool, device=device),
        )

    def begin(self, rows: int, filler: int, uniforms: Tensor | None) -> None:
        """Forget what was drawn before; the first so many rows grow."""
        self.cells[:rows] = torch.arange(rows, device=self.cells.device)
        self.alive.zero_()[:rows] = True
        self.ids.fill_(filler)
        for each in (self.logprobs, self.lengths, self.finished):
            each.zero_()
        self.finite.fill_(True)
        if uniforms is not None:
            self.uniforms[:rows] = uniforms


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """The responses of some rows."""

    ids: Int[Tensor, "B T"]
    logprobs: Float[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]
    finished: Bool[Tensor, " B"]


@dataclass(kw_only=True, eq=False)
class StaticDecoder:
    """Decodes rows of prompts with one model, in buffers that grow to the largest batch.

    Raises:
        ValueError: If the model's attention takes no layout, or CUDA graphs are asked of another
            device.
    """

    model: PreTrainedModel
    room: int
    """Most tokens of a response."""
    temperature: float
    ends: frozenset[int]
    filler: int
    """Token behind the end of a response."""
    graphs: bool
    """Replay steps as CUDA graphs."""
    state: StaticState = field(init=False)
    rows: _Rows = field(init=False)
    recorded: dict[StepShape, "torch.cuda.CUDAGraph | None"] = field(default_factory=dict)
    """None: the shape was run once, which warms its kernels up, and is recorded next time."""

    def __post_init__(self) -> None:
        """Set the model's attention; no buffer is made yet."""
        refuse_moving(self.model, graphs=self.graphs)
        self.model.set_attn_implementation(NAME)
        device = self.model.device
        self.end_ids = torch.tensor(sorted(self.ends), device=device)
        self.places = self._addresses()
        none = torch.zeros(0, dtype=torch.long, device=device)
        at = torch.zeros(1, dtype=torch.long, device=device)
        self.state = StaticState(lengths=none, owner=none, room=self.room, at=at)
        self.rows = _Rows.empty(0, self.room, device)
        self.cells_of_prompts = 0

    def is_for(self, model: PreTrainedModel, ends: frozenset[int]) -> bool:
        """Whether it decodes this very model, its weights being where they were."""
        return model is self.model and ends == self.ends and self._addresses() == self.places

    def _addresses(self) -> tuple[int, ...]:
        return tuple(parameter.data_ptr() for parameter in self.model.parameters())

    def __call__(
        self,
        ids: Int[Tensor, "P L"],
        mask: Bool[Tensor, "P L"],
        *,
        group: int,
        uniforms: Float[Tensor, "B T"] | None,
    ) -> Drawn:
        """``group`` responses to each prompt; greedy without uniform numbers.

        Args:
            ids: Tokens of the prompts, left-padded.
            mask: Which of them count.
            group: Rows of each prompt.
            uniforms: One number for each place of each row; None: greedy.

        Raises:
            FloatingPointError: If logits are not finite.
        """
        count = len(ids) * group
        self._read(ids, mask, group)
        self.rows.begin(count, self.filler, uniforms)
        greedy = uniforms is None
        self._draw(self.state.logits[self.rows.cells[:count] // group], count, greedy=greedy)
        rows = count
        for place in range(self.room - 1):
            if place % CHECK_EVERY == 0:
                rows = self._fewer(rows, place)
                if not rows:
                    break
            width = min(self.room, padded_width(place + 1))
            self._advance(
                StepShape(
                    prompts=len(ids),
                    group=group,
                    prompt_width=self.state.prompt[0][0].shape[2],
                    rows=rows,
                    width=width,
                    greedy=greedy,
                )
            )
        return self._drawn(count)

    def _drawn(self, count: int) -> Drawn:
        """What the rows hold, checked."""
        if not bool(self.rows.finite):
            raise FloatingPointError(
                "the policy's logits are not finite, so no token can be drawn; the training "
                "diverged (lower the learning rate), or the weights are damaged"
            )
        places = torch.arange(self.room, device=self.rows.ids.device)
        return Drawn(
            ids=self.rows.ids[:count].clone(),
            logprobs=self.rows.logprobs[:count].clone(),
            mask=places < self.rows.lengths[:count, None],
            finished=self.rows.finished[:count].clone(),
        )

    def _read(self, ids: Tensor, mask: Tensor, group: int) -> None:
        """Compute the prompts, right-padded to a width that other batches have too."""
        lengths = mask.sum(1)
        width = padded_width(int(lengths.max()))
        self._make_room(len(ids), width, len(ids) * group)
        state, places = self.state, torch.arange(width, device=ids.device)
        inside = places < lengths[:, None]
        right = torch.full(inside.shape, self.filler, device=ids.device)
        right[inside] = ids[mask]
        state.lengths.copy_(lengths)
        assert state.bias is not None
        state.bias.zero_().masked_fill_(~inside[:, None, None], float("-inf"))
        state.grown, state.most = -1, group
        state.at.zero_()
        state.run(self.model, right, places.expand_as(right), lengths - 1)
        state.grown = 0

    def _make_room(self, prompts: int, width: int, rows: int) -> None:
        """Buffers for so many prompts and rows; graphs that know older ones are dropped."""
        config: Any = self.model.config.get_text_config()
        heads, layers = config.num_key_value_heads, range(config.num_hidden_layers)
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        kind = {"dtype": self.model.dtype, "device": self.model.device}
        state, cells = self.state, prompts * width
        if cells > self.cells_of_prompts:
            self.recorded.clear()
            self.cells_of_prompts = cells
            self.of_prompts = torch.empty(len(layers), 2, heads * cells * size, **kind)
            self.biases = torch.empty(cells, **kind)
            self.lengths = torch.empty(cells, dtype=torch.long, device=self.model.device)
        if rows > len(self.rows.tokens):
            self.recorded.clear()
            self.rows = _Rows.empty(rows, self.room, self.model.device)
            # zeros: what is not yet written is multiplied by a share of 0, and must be finite
            shape = (rows, heads, self.room, size)
            state.own = {}  # freed before larger ones are made
            state.own = {
                at: (torch.zeros(shape, **kind), torch.zeros(shape, **kind)) for at in layers
            }
        shape, used = (prompts, heads, width, size), heads * cells * size
        state.prompt = {
            at: (
                self.of_prompts[at, 0, :used].view(shape),
                self.of_prompts[at, 1, :used].view(shape),
            )
            for at in layers
        }
        state.bias = self.biases[:cells].view(prompts, 1, 1, width)
        state.lengths = self.lengths[:prompts]

    def _fewer(self, rows: int, place: int) -> int:
        """How many rows to go on with: those that grow moved to the front, and few others."""
        alive = self.rows.alive[:rows]
        growing = int(alive.sum())
        fewer = min(rows, step_size(growing)) if growing else 0
        if fewer < rows:
            kept = alive.long().argsort(descending=True, stable=True)[:fewer]
            for each in (self.rows.cells, self.rows.tokens, self.rows.alive):
                each[:fewer] = each[kept]
            for buffers in self.state.own.values():
                for buffer in buffers:
                    buffer[:fewer, :, :place] = buffer[kept, :, :place]
        return fewer

    def _advance(self, shape: StepShape) -> None:
        """One more token for every row, by a graph where there is one."""
        if self.graphs and shape in self.recorded:
            graph = self.recorded[shape]
            if graph is None:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, pool=self._pool()):
                    self._step(shape)
                self.recorded[shape] = graph
            graph.replay()
        else:
            self._step(shape)
            self.recorded[shape] = None

    def _pool(self) -> Any:
        """One pool of memory for all graphs: no two of them run at once."""
        graphs = [graph for graph in self.recorded.values() if graph is not None]
        return graphs[0].pool() if graphs else None

    def _step(self, shape: StepShape) -> None:
        """Compute the newest token of each row, and draw the next; no wait for the device."""
        state, rows = self.state, self.rows
        cells, tokens = rows.cells[: shape.rows], rows.tokens[: shape.rows]
        owner = cells // shape.group
        state.slots, state.width = cells, shape.width
        ahead = torch.arange(shape.width, device=cells.device) > state.at
        zeros = torch.zeros(shape.width, dtype=self.model.dtype, device=cells.device)
        state.own_bias = zeros.masked_fill(ahead, float("-inf"))
        places = (state.lengths[owner] + state.at)[:, None]
        state.run(self.model, tokens[:, None], places, torch.zeros_like(tokens))
        state.at += 1
        self._draw(state.logits, shape.rows, greedy=shape.greedy)

    def _draw(self, logits: Float[Tensor, "B V"], count: int, *, greedy: bool) -> None:
        """The token at the place that the state is at, for the first so many rows."""
        rows, place = self.rows, self.state.at
        cells, alive = rows.cells[:count], rows.alive[:count]
        numbers = None if greedy else rows.uniforms[cells, place]
        tokens, logprobs, finite = draw_by_blocks(logits, numbers, temperature=self.temperature)
        rows.finite &= finite
        ended = (tokens[:, None] == self.end_ids).any(1)
        rows.ids[cells, place] = tokens.masked_fill(~alive, self.filler)
        logprobs = logprobs.to(rows.logprobs.dtype).masked_fill(~alive, 0)
        rows.logprobs[cells, place] = logprobs
        rows.lengths[cells] += alive
        rows.finished[cells] |= alive & ended
        rows.tokens[:count] = tokens
        rows.alive[:count] = alive & ~ended


def refuse_moving(model: PreTrainedModel, *, graphs: bool) -> None:
    """Refuse a model that cannot be decoded in buffers of fixed shape, or recorded.

    Raises:
        ValueError: With the remedy.
    """
    reason = obstacle(model)
    parameters = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    rope = parameters.get("rope_type")
    if reason is None and rope in _MOVING_ROPES:
        reason = f"its rotary embedding ({rope}) changes with the longest row"
    if reason is not None:
        raise ValueError(
            f"rollout.decoding={'cuda_graphs' if graphs else 'static'} cannot take this policy, "
            f"since {reason}; set rollout.decoding=dynamic"
        )
    if graphs and model.device.type != "cuda":
        raise ValueError(
            f"rollout.decoding=cuda_graphs replays steps on a CUDA device, and the policy lies on "
            f"{model.device}; set trainer.device=cuda, or rollout.decoding=static"
        )


def draw_by_blocks(
    logits: Float[Tensor, "B V"], uniforms: Float[Tensor, " B"] | None, *, temperature: float
) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"], Bool[Tensor, ""]]:
    """The token of the inverse cumulative distribution at each row's uniform number.

    Probabilities are added up in float64 by blocks of the vocabulary, and one by one in the block
    that the number falls into alone: a third of the memory traffic of a sum over all.

    Args:
        logits: Of the next token.
        uniforms: In [0, 1); None: the most probable token.
        temperature: Divides the logits.

    Returns:
        Tokens; their log-probabilities in nats, in float32 at least; whether all rows are finite.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    wide = wide if temperature == 1 else wide / temperature
    wide = wide - wide.amax(-1, keepdim=True)
    size = min(BLOCK, wide.shape[1])
    blocks = pad(wide.exp(), (0, -wide.shape[1] % size)).unflatten(1, (-1, size))
    below = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    total = below[:, -1]
    if uniforms is None:
        tokens = logits.argmax(-1)
    else:
        target = (uniforms * total)[:, None]
        # right=True passes over blocks and tokens of probability 0
        block = torch.searchsorted(below, target, right=True).clamp(max=below.shape[1] - 1)
        before = below.gather(1, (block - 1).clamp(min=0)).masked_fill(block == 0, 0)
        chosen = blocks[torch.arange(len(blocks), device=block.device), block.squeeze(1)]
        within = before + chosen.cumsum(-1, dtype=torch.float64)
        # the same sum in another order may end a last bit below the number
        target = torch.minimum(target, within[:, -1:] * (1 - 2**-52))
        tokens = (block * size + torch.searchsorted(within, target, right=True)).squeeze(1)
        tokens = tokens.clamp(max=wide.shape[1] - 1)
    logprobs = wide.gather(1, tokens[:, None]).squeeze(1) - total.log().to(wide.dtype)
    return tokens, logprobs, torch.isfinite(total).all()
