"""Attention of the shared-prefix layout on a GPU, by flash kernels that take runs of flat tokens.

No token is padded and no pair of tokens is masked, so work and memory follow the tokens there are.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import pad

from rlcredit.policy.packing import Grid, Pack


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """Runs of queries, and the run of keys that each sees."""

    queries: Int[Tensor, " R1"]
    """Where each run begins, and where the last ends; int32."""
    keys: Int[Tensor, " R1"]
    longest_query: int
    longest_key: int
    causal: bool
    """A query sees the keys up to its own place in the run; False: all of the run."""

    @classmethod
    def of(cls, queries: Grid, keys: Grid, *, causal: bool) -> "Runs":
        """The rows of two grids, pair by pair."""
        return cls(
            queries=_bounds(queries),
            keys=_bounds(keys),
            longest_query=queries.mask.shape[1],
            longest_key=keys.mask.shape[1],
            causal=causal,
        )


@runtime_checkable
class Kernel(Protocol):
    """Attention within runs, and its gradient from the output and log-sum-exp of a larger whole."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, runs: Runs, scale: float
    ) -> tuple[Float[Tensor, "N H D"], Float[Tensor, "H N"]]:
        """The output, and the log-sum-exp of each query's scores, in float32 at least."""
        ...

    def backward(
        self,
        dout: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        out: Tensor,
        lse: Tensor,
        runs: Runs,
        scale: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of queries, keys and values."""
        ...


class FlashKernel:
    """PyTorch's own build of FlashAttention-2 (arXiv:2307.08691), in half precision on a GPU."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, runs: Runs, scale: float
    ) -> tuple[Float[Tensor, "N H D"], Float[Tensor, "H N"]]:
        """Call the kernel; key-value heads may be fewer than query heads."""
        out, lse, *_ = torch.ops.aten._flash_attention_forward(
            q,
            k,
            v,
            runs.queries,
            runs.keys,
            runs.longest_query,
            runs.longest_key,
            0.0,
            runs.causal,
            False,
            scale=scale,
        )
        return out, lse

    def backward(
        self,
        dout: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        out: Tensor,
        lse: Tensor,
        runs: Runs,
        scale: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Call the kernel; without dropout its random state is not read."""
        state = torch.zeros(2, dtype=torch.uint64, device=q.device)
        return torch.ops.aten._flash_attention_backward(
            dout,
            q,
            k,
            v,
            out,
            lse,
            runs.queries,
            runs.keys,
            runs.longest_query,
            runs.longest_key,
            0.0,
            runs.causal,
            state,
            torch.empty(0, device=q.device),
            scale=scale,
        )


def takes_flash(device: str, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether the flash kernel takes queries: on a GPU, in half precision, not too wide."""
    half = dtype in (torch.bfloat16, torch.float16)
    return device == "cuda" and half and head_dim <= 256 and head_dim % 8 == 0


class VarlenAttention(Function):
    """Prompts among themselves; responses over their prompt and over themselves, merged.

    The merge, and why a part's backward needs the merged output alone, are those of
    ``attention._SplitAttention``: the flat tokens of a pack are runs already, so none is moved.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, pack: Pack, scale: float, kernel: Kernel
    ) -> Float[Tensor, "N H D"]:
        """Three calls of the kernel, one where no response has an input token."""
        start = pack.num_prompt_tokens
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        prompts = Runs.of(pack.prompts, pack.prompts, causal=True)
        out, lse = kernel.forward(q[:start], k[:start], v[:start], prompts, scale)
        ctx.runs = [prompts]
        if len(pack.responses.mask):
            over_prompt = Runs.of(pack.siblings, pack.prompts, causal=False)
            over_own = Runs.of(pack.responses, pack.responses, causal=True)
            first, lse_prompt = kernel.forward(q[start:], k[:start], v[:start], over_prompt, scale)
            second, lse_own = kernel.forward(q[start:], k[start:], v[start:], over_own, scale)
            both = torch.logaddexp(lse_prompt, lse_own)
            merged = first * _by_token(lse_prompt - both) + second * _by_token(lse_own - both)
            out, lse = torch.cat([out, merged.to(out.dtype)]), torch.cat([lse, both], dim=1)
            ctx.runs += [over_prompt, over_own]
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.settings = start, scale, kernel
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The three parts' gradients, added up."""
        q, k, v, out, lse = ctx.saved_tensors
        start, scale, kernel = ctx.settings
        dout = grads[0].contiguous()
        head, tail = slice(None, start), slice(start, None)

        def part(runs: Runs, mine: slice, seen: slice) -> tuple[Tensor, Tensor, Tensor]:
            own_lse = lse[:, mine].contiguous()
            return kernel.backward(
                dout[mine], q[mine], k[seen], v[seen], out[mine], own_lse, runs, scale
            )

        dq, dk, dv = part(ctx.runs[0], head, head)
        if len(ctx.runs) > 1:
            of_prompt, dkp, dvp = part(ctx.runs[1], tail, head)
            of_own, dkr, dvr = part(ctx.runs[2], tail, tail)
            dq = torch.cat([dq, of_prompt + of_own])
            dk, dv = torch.cat([dk + dkp, dkr]), torch.cat([dv + dvp, dvr])
        return dq, dk, dv, None, None, None


def _by_token(logs: Float[Tensor, "H N"]) -> Float[Tensor, "N H 1"]:
    return logs.exp().t()[..., None]


def _bounds(grid: Grid) -> Int[Tensor, " R1"]:
    return pad(grid.mask.sum(1).cumsum(0), (1, 0)).to(torch.int32)
