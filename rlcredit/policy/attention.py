"""Attention for layouts that share prompts, as an attention function of transformers.

A model whose attention is set to ``NAME`` behaves as with PyTorch's own (sdpa), except in calls
that get ``layout=...``: then the layout computes the attention. The name is set once and for all:
gradient checkpointing runs layers again in the backward pass, long after a call has returned.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.llama import LlamaForCausalLM
from transformers.models.qwen2 import Qwen2ForCausalLM
from transformers.models.qwen3 import Qwen3ForCausalLM

from rlcredit.policy.packing import Grid, Pack
from rlcredit.policy.varlen import FlashKernel, VarlenAttention, takes_flash

NAME = "rlcredit_layout"
FAMILIES = (LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@runtime_checkable
class Layout(Protocol):
    """How the tokens of one call of the model attend to each other."""

    def attend(
        self,
        q: Float[Tensor, "B H N D"],
        k: Float[Tensor, "B K N D"],
        v: Float[Tensor, "B K N D"],
        *,
        layer: int,
        scale: float,
    ) -> Float[Tensor, "B N H D"]:
        """The attention's output of one layer."""
        ...


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    layout: Layout | None = None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """The attention function that transformers calls in every layer of a model set to ``NAME``.

    Keyword arguments of the model's own call reach it here, ``layout`` among them.
    """
    if layout is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
    layer: Any = module.layer_idx
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return layout.attend(query, key, value, layer=layer, scale=scale), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def obstacle(model: PreTrainedModel) -> str | None:
    """Why a model cannot take a layout; None: it can."""
    config = model.config
    if not isinstance(model, FAMILIES):
        names = ", ".join(family.__name__ for family in FAMILIES)
        return f"{type(model).__name__} is none of {names}"
    if config._attn_implementation not in {"sdpa", NAME}:
        return f"its attention is {config._attn_implementation}, not sdpa"
    if "sliding_attention" in (getattr(config, "layer_types", None) or []):
        return "some of its layers attend to a sliding window"
    if getattr(config, "attention_dropout", 0.0):
        return f"its attention has dropout {config.attention_dropout}"
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.bias is not None:
        return f"its head is {head}, not a plain linear layer without bias"
    return None


def no_mask(device: torch.device) -> Tensor:
    """A mask that transformers hands on as it is; without one it would build [N, N] for a pack."""
    return torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=device)


class PackAttention:
    """Each response sees its prompt and itself; each prompt itself.

    By three mask-free calls of a flash kernel: on the CPU in float32 at least, since its backward
    is slow in bfloat16, and on a GPU in half precision, which is all that its kernel knows. Else by
    one call with a mask per prompt: work and memory grow with the square of a group's tokens.
    """

    def __init__(self, pack: Pack, *, split: bool | None = None) -> None:
        self.pack = pack
        self.split = pack.ids.device.type == "cpu" if split is None else split
        self.mask: Tensor | None = None

    def attend(
        self,
        q: Float[Tensor, "1 H N D"],
        k: Float[Tensor, "1 K N D"],
        v: Float[Tensor, "1 K N D"],
        *,
        layer: int,
        scale: float,
    ) -> Float[Tensor, "1 N H D"]:
        """Attend within the pack's one row of N tokens, in whichever of the two ways was chosen."""
        del layer
        kind, dtype = q.device.type, v.dtype
        lower = product_dtype(q)
        flash = takes_flash(kind, lower, q.shape[-1])
        wide = torch.promote_types(q.dtype, torch.float32) if self.split else q.dtype
        wide = lower if flash else wide
        # The row without its batch axis and with tokens first, [N, heads, D]: grids pick tokens.
        q, k, v = (x[0].transpose(0, 1).to(wide) for x in (q, k, v))
        if flash:
            out: Any = VarlenAttention.apply(q, k, v, self.pack, scale, FlashKernel())
        elif self.split:
            out = _SplitAttention.apply(q, k, v, self.pack, scale)
        else:
            if self.mask is None:
                self.mask = pack_mask(self.pack)
            out = masked_attention(q, k, v, self.pack, scale, self.mask)
        return out.to(dtype)[None]


def product_dtype(x: Tensor) -> torch.dtype:
    """The number format of products with a tensor: autocast's, where that is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def pack_mask(pack: Pack) -> Bool[Tensor, "P 1 W W"]:
    """Who sees whom among a prompt's tokens and its responses', both right-padded, side by side.

    Axes: prompt, heads (all alike), query, key; W = longest prompt + most response tokens.
    """
    # The number of its response for each flat token, -1 for the tokens of prompts.
    count = torch.arange(len(pack.responses.mask), device=pack.ids.device)
    whose = torch.cat(
        [
            count.new_full((pack.num_prompt_tokens,), -1),
            pack.responses.flat(count[:, None].expand_as(pack.responses.mask)),
        ]
    )
    index = torch.cat([pack.prompts.index, pack.siblings.index], dim=1)
    valid = torch.cat([pack.prompts.mask, pack.siblings.mask], dim=1)
    whose = whose[index]
    # A key is seen from its own response, or if the prompt's, from everywhere behind it.
    places = torch.arange(index.shape[1], device=index.device)
    same = (whose[:, :, None] == whose[:, None, :]) | (whose[:, None, :] == -1)
    seen = same & (places[None, :] <= places[:, None]) & valid[:, None, :]
    # a row that sees nothing would be NaN
    return (seen | torch.eye(len(places), dtype=torch.bool, device=index.device))[:, None]


def masked_attention(
    q: Float[Tensor, "N H D"],
    k: Float[Tensor, "N K D"],
    v: Float[Tensor, "N K D"],
    pack: Pack,
    scale: float,
    mask: Bool[Tensor, "P 1 W W"],
) -> Float[Tensor, "N H D"]:
    """The plain version: one row per prompt, and PyTorch's attention with a mask."""
    index = torch.cat([pack.prompts.index, pack.siblings.index], dim=1)
    parts = _Parts(pack, num_heads=q.shape[1], num_kv_heads=k.shape[1])
    rows, *seen = (x[index].transpose(1, 2) for x in (q, k, v))
    # copied heads, not enable_gqa: with a mask, a GPU has no other kernel for those than the plain
    # one, which keeps every score
    keys, values = (parts.repeat(each) for each in seen)
    out = scaled_dot_product_attention(rows, keys, values, attn_mask=mask, scale=scale)
    out, width = out.transpose(1, 2), pack.prompts.index.shape[1]
    return torch.cat([pack.prompts.flat(out[:, :width]), pack.siblings.flat(out[:, width:])])


class _SplitAttention(Function):
    """Exact attention in three parts, merged by log-sum-exp.

    A response's token attends to its prompt (set A) and to its own response so far (set B). With
    l_A = log sum over j in A of exp(scale q . k_j), the softmax over both sets gives

        out = (e^l_A out_A + e^l_B out_B) / (e^l_A + e^l_B),    lse = log(e^l_A + e^l_B)

    so each part may be computed alone, by a kernel that knows no mask. The flash backward of one
    part needs only the *merged* output and lse (as in ring attention, arXiv:2310.01889). Where
    prompts differ in length, their padding alone is masked.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, pack: Pack, scale: float
    ) -> Float[Tensor, "N H D"]:
        """Prompts among themselves; responses over their prompt, and over themselves."""
        parts = _Parts(pack, num_heads=q.shape[1], num_kv_heads=k.shape[1])
        # Prompts over themselves: causal and right-padded, so no real query sees padding, and what
        # padded queries see is dropped by `flat`.
        qp, kp, vp = (_heads_first(pack.prompts.pick(x)) for x in (q, k, v))
        out, lse = _flash(qp, parts.repeat(kp), parts.repeat(vp), 0.0, True, scale=scale)
        outs, lses = [pack.prompts.flat(out.transpose(1, 2))], [pack.prompts.flat(_last(lse))]
        if len(pack.responses.mask):
            # Responses over their prompt: all their tokens come after all of it, so the block is
            # full, and one call serves all siblings.
            folded = parts.fold(pack.siblings.pick(q))
            bias = parts.bias(q.dtype)
            out, lse = _flash(folded, kp, vp, 0.0, False, attn_mask=bias, scale=scale)
            over_prompt = pack.siblings.flat(parts.unfold(out))
            lse_prompt = pack.siblings.flat(parts.unfold(lse[..., None])).squeeze(-1)
            # Responses over themselves: a row for each, causal as the prompts are.
            qr, kr, vr = (_heads_first(pack.responses.pick(x)) for x in (q, k, v))
            out, lse = _flash(qr, parts.repeat(kr), parts.repeat(vr), 0.0, True, scale=scale)
            over_own = pack.responses.flat(out.transpose(1, 2))
            lse_own = pack.responses.flat(_last(lse))
            # Merge. Rows of siblings and rows of single responses flatten to the same token order.
            both = torch.logaddexp(lse_prompt, lse_own)
            merged = over_prompt * (lse_prompt - both).exp()[..., None]
            outs.append(merged.addcmul_(over_own, (lse_own - both).exp()[..., None]))
            lses.append(both)
        out, lse = torch.cat(outs), torch.cat(lses)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.parts, ctx.scale = parts, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The three parts' gradients, added up.

        From s_ij = scale q_i . k_j the kernel makes again p_ij = exp(s_ij - lse_i), then

            dv_j = sum_i p_ij dout_i,    ds_ij = p_ij (dout_i . v_j - dout_i . out_i)

        With the merged lse and out these are the terms of the whole softmax for the keys j of the
        part, so the parts' sums are the exact dq, dk, dv.
        """
        q, k, v, out, lse = ctx.saved_tensors
        parts, scale, dout = ctx.parts, ctx.scale, grads[0]
        pack: Pack = parts.pack
        kp, vp = (_heads_first(pack.prompts.pick(x)) for x in (k, v))
        dq, dk, dv = parts.causal_backward(pack.prompts, dout, q, k, v, out, lse, scale)
        if not len(pack.responses.mask):
            return pack.prompts.flat(dq), pack.prompts.flat(dk), pack.prompts.flat(dv), None, None
        # Responses over their prompt. Padded queries are copies of a real token; with dout = 0 they
        # add nothing to the keys and values that they share with real ones.
        rows = pack.siblings
        of_prompt, dkp, dvp = _flash_backward(
            parts.fold(rows.pick_zeroed(dout)),
            parts.fold(rows.pick(q)),
            kp,
            vp,
            parts.fold(rows.pick(out)),
            parts.fold(rows.pick(lse)[..., None]).squeeze(-1),
            0.0,
            False,
            attn_mask=parts.bias(q.dtype),
            scale=scale,
        )
        of_own, dkr, dvr = parts.causal_backward(pack.responses, dout, q, k, v, out, lse, scale)
        # A response's query adds up what it got from both sets; a prompt's key, from both kinds of
        # queries.
        own = pack.responses.flat(of_own).add_(rows.flat(parts.unfold(of_prompt)))
        dk, dv = dk + dkp.transpose(1, 2), dv + dvp.transpose(1, 2)
        return (
            torch.cat([pack.prompts.flat(dq), own]),
            torch.cat([pack.prompts.flat(dk), pack.responses.flat(dkr)]),
            torch.cat([pack.prompts.flat(dv), pack.responses.flat(dvr)]),
            None,
            None,
        )


class _Parts:
    """Shapes of the parts; R query heads share each of the K key-value heads."""

    def __init__(self, pack: Pack, *, num_heads: int, num_kv_heads: int) -> None:
        self.pack, self.kv, self.share = pack, num_kv_heads, num_heads // num_kv_heads

    def repeat(self, x: Float[Tensor, "P K W D"]) -> Float[Tensor, "P H W D"]:
        """Copy each key-value head for every query head that reads it."""
        return x if self.share == 1 else x.repeat_interleave(self.share, dim=1)

    def fold(self, x: Float[Tensor, "P S H D"]) -> Float[Tensor, "P K SR D"]:
        """Query heads of a key-value head become queries of it, so that no key is repeated."""
        num_prompts, width = x.shape[:2]
        cells = x.reshape(num_prompts, width, self.kv, self.share, -1).permute(0, 2, 1, 3, 4)
        return cells.reshape(num_prompts, self.kv, width * self.share, -1)

    def unfold(self, x: Float[Tensor, "P K SR D"]) -> Float[Tensor, "P S H D"]:
        """Undo :meth:`fold`."""
        num_prompts, width = x.shape[0], x.shape[2] // self.share
        cells = x.reshape(num_prompts, self.kv, width, self.share, -1).permute(0, 2, 1, 3, 4)
        return cells.reshape(num_prompts, width, self.kv * self.share, -1)

    def bias(self, dtype: torch.dtype) -> Tensor | None:
        """-inf on the padding of prompts, where there is any."""
        if self.pack.prompts.full:
            return None
        mask = self.pack.prompts.mask
        zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
        return zeros.masked_fill(~mask, float("-inf"))[:, None, None]

    def causal_backward(
        self,
        grid: Grid,
        dout: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        out: Tensor,
        lse: Tensor,
        scale: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients [R, W, heads, D] of attention within the rows of a grid."""
        keys, values = (self.repeat(_heads_first(grid.pick(x))) for x in (k, v))
        dq, dk, dv = _flash_backward(
            _heads_first(grid.pick_zeroed(dout)),
            _heads_first(grid.pick(q)),
            keys,
            values,
            _heads_first(grid.pick(out)),
            _heads_first(grid.pick(lse)[..., None]).squeeze(-1),
            0.0,
            True,
            scale=scale,
        )
        if self.share > 1:  # a key-value head's gradient is the sum over its copies
            dk, dv = (x.unflatten(1, (self.kv, self.share)).sum(2) for x in (dk, dv))
        return dq.transpose(1, 2), dk.transpose(1, 2), dv.transpose(1, 2)


def _heads_first(x: Float[Tensor, "R W H D"]) -> Float[Tensor, "R H W D"]:
    return x.transpose(1, 2)


def _last(x: Float[Tensor, "R H W"]) -> Float[Tensor, "R W H"]:
    return x.transpose(1, 2)
