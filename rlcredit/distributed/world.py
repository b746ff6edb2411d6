"""The processes of a run, seen from one of them.

A run of one process has a world of one, in which every call returns what it was given: nothing
above this package asks whether there are several.
"""

import json
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store

from rlcredit.distributed.board import Board, RankError

BUCKET = 2**25
"""Numbers in one sum over processes: 128 MB in float32, whatever the size of the model."""
PATIENCE_S = 5.0
"""How long processes whose exchange broke wait for each other to say so; who does not is stuck."""
_NOTES = "__notes__"


@dataclass(frozen=True, kw_only=True)
class Payload:
    """What a process shows the others: tensors, and plain values that JSON can hold."""

    tensors: Mapping[str, Tensor]
    notes: Mapping[str, object] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Pack without pickle: tensors as safetensors, notes as JSON among them."""
        notes = torch.frombuffer(bytearray(json.dumps(self.notes).encode()), dtype=torch.uint8)
        # cloned: safetensors refuses tensors that share memory, as masks of several records do
        tensors = {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in self.tensors.items()
        }
        return save(tensors | {_NOTES: notes})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Payload":
        """The inverse of :meth:`to_bytes`; tensors are on the CPU."""
        tensors = load(data)
        notes = json.loads(bytes(tensors.pop(_NOTES).tolist()))
        return cls(tensors=tensors, notes=notes)


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """This process among those of the run."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Among the processes of this machine."""
    local_size: int = 1
    timeout_s: float = 1800.0
    board: Board | None = None

    @classmethod
    def join(
        cls,
        store: Store,
        *,
        rank: int,
        size: int,
        device: str,
        timeout_s: float,
    ) -> "World":
        """Meet the other processes of the run, and learn which of them share this machine.

        Args:
            store: The same for all, at an address that all know.
            rank: This process, counted from 0.
            size: How many there are.
            device: Type of the devices that compute, ``cpu`` or ``cuda``.
            timeout_s: How long a process waits for the others before it ends the run.

        Raises:
            RankError: If they do not all come in time.
        """
        board = Board(store=store, rank=rank, size=size)
        board.enter("start")
        board.put(f"machine/{rank}", socket.gethostname())
        world = cls(rank=rank, size=size, timeout_s=timeout_s, board=board)
        with world._meeting():
            dist.init_process_group(
                "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl",
                store=PrefixStore("group", store),
                rank=rank,
                world_size=size,
                timeout=timedelta(seconds=timeout_s),
            )
        machines = [board.get(f"machine/{each}") for each in range(size)]
        local_rank = machines[:rank].count(machines[rank])
        if device != "cpu":
            # srun may show each process its own GPU alone, which is then number 0 for all
            torch.cuda.set_device(local_rank % max(1, torch.cuda.device_count()))
        return replace(world, local_rank=local_rank, local_size=machines.count(machines[rank]))

    def leave(self) -> None:
        """Say goodbye; the world must not be used afterwards."""
        if self.size > 1:
            dist.destroy_process_group()

    @property
    def leads(self) -> bool:
        """The one process that writes files, prints and reports."""
        return self.rank == 0

    def device(self, kind: str) -> torch.device:
        """The device of this process: on a machine with several GPUs each has its own."""
        if kind == "cuda" and self.size > 1:
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device(kind)

    def part(self, total: int, rank: int | None = None) -> slice:
        """The share of ``total`` items of a process (this one unless told), in global order.

        Raises:
            ValueError: If there are fewer items than processes.
        """
        if total < self.size:
            raise ValueError(
                f"{self.size} processes share {total} prompts, and a prompt's group is never "
                "split: one would have nothing to do; raise trainer.prompts_per_step, or lower "
                "trainer.processes"
            )
        rank = self.rank if rank is None else rank
        return slice(rank * total // self.size, (rank + 1) * total // self.size)

    def parts(self, total: int) -> list[slice]:
        """The shares of all processes."""
        return [self.part(total, rank) for rank in range(self.size)]

    def enter(self, phase: str) -> None:
        """Say what this process does from now on, for the message if it ends there."""
        if self.board is not None:
            self.board.enter(phase)

    def gather(self, payload: Payload) -> list[Payload]:
        """The payloads of all processes, by rank.

        Raises:
            RankError: If a process is dead, or does not come in time.
        """
        if self.size == 1:
            return [payload]
        data = payload.to_bytes()
        with self._meeting():
            length = torch.tensor([len(data)])
            lengths = [torch.zeros_like(length) for _ in range(self.size)]
            dist.all_gather(lengths, length)
            longest = max(int(each) for each in lengths)
            block = torch.zeros(longest, dtype=torch.uint8)
            block[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            blocks = [torch.zeros_like(block) for _ in range(self.size)]
            dist.all_gather(blocks, block)
        return [
            Payload.from_bytes(each[: int(n)].numpy().tobytes())
            for each, n in zip(blocks, lengths, strict=True)
        ]

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their sum over all processes, which is the same bits in all of them.

        Raises:
            RankError: If a process is dead, or does not come in time.
        """
        self._flattened(dist.all_reduce, tensors)

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of the first process.

        Raises:
            RankError: If a process is dead, or does not come in time.
        """
        self._flattened(partial(dist.broadcast, src=0), tensors)

    def largest(self, *numbers: int) -> list[int]:
        """Take for each number the largest that any process has in its place.

        Raises:
            RankError: If a process is dead, or does not come in time.
        """
        if self.size == 1:
            return list(numbers)
        values = torch.tensor(numbers)
        with self._meeting():
            dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return values.tolist()

    def wait(self) -> None:
        """Until all processes are here.

        Raises:
            RankError: If a process is dead, or does not come in time.
        """
        self.largest(0)

    @contextmanager
    def first_on_each_machine(self) -> Iterator[None]:
        """The first process of every machine runs the body before the others do: it fills caches.

        Raises:
            RankError: If a process is dead, or does not come in time.
        """
        if self.local_rank > 0:
            self.wait()
        yield
        if self.local_rank == 0:
            self.wait()

    def _flattened(self, exchange: Callable[[Tensor], object], tensors: Iterable[Tensor]) -> None:
        """Replace tensors by what an exchange makes of them, many at a time."""
        if self.size == 1:
            return
        with self._meeting(), torch.no_grad():
            for bucket in _buckets(tensors):
                flat = torch.cat([tensor.flatten() for tensor in bucket])
                exchange(flat)
                parts = flat.split([tensor.numel() for tensor in bucket])
                for tensor, values in zip(bucket, parts, strict=True):
                    tensor.copy_(values.view_as(tensor))

    @contextmanager
    def _meeting(self) -> Iterator[None]:
        """Whoever is missing is named."""
        assert self.board is not None, "a world of several has a board"
        try:
            self.board.meet()
            yield
        except RuntimeError as error:  # torch knows that a peer is gone, not which
            raise RankError(self.missing(str(error))) from error

    def missing(self, why: str) -> str:
        """A sentence that names who died or is stuck, after an exchange broke."""
        if self.board is None:
            return f"another process died, or is stuck ({why.splitlines()[0]})"
        here = f"rank {self.rank} of {self.size}, in {self.board.phase}"
        try:
            ranks = self.board.behind() or self.board.give_up(patience_s=PATIENCE_S)
            late = [f"rank {r} (in {self.board.read(r).phase})" for r in ranks]
        except RuntimeError:
            return f"{here}: the process that started the run is gone ({why})"
        if not late:
            return f"{here}: the connection to the other processes broke ({why})"
        return (
            f"{', '.join(late)} died, or is stuck for more than trainer.timeout_s="
            f"{self.timeout_s:g} seconds, while {here}, waited. The run ends; the same command "
            f"goes on from the last checkpoint. ({why.splitlines()[0]})"
        )


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Runs of tensors of one type, of about :data:`BUCKET` numbers; the same in every process."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        full = sum(each.numel() for each in bucket) + tensor.numel() > BUCKET
        if bucket and (full or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
