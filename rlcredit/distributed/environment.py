"""The world of processes that another program started together.

torchrun, Ray Train, mpirun and srun tell each process in environment variables which of them it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed import DistError
from torch.distributed.rendezvous import rendezvous

from rlcredit.distributed.board import RankError
from rlcredit.distributed.world import World


@dataclass(frozen=True, kw_only=True)
class Place:
    """Which process this is, of how many that were started together."""

    rank: int = 0
    size: int = 1


@dataclass(frozen=True, kw_only=True)
class _Launcher:
    """The variables by which a program tells the processes that it starts their places."""

    rank: str
    size: str


TORCH = _Launcher(rank="RANK", size="WORLD_SIZE")
OPEN_MPI = _Launcher(rank="OMPI_COMM_WORLD_RANK", size="OMPI_COMM_WORLD_SIZE")
MPICH = _Launcher(rank="PMI_RANK", size="PMI_SIZE")
SLURM = _Launcher(rank="SLURM_PROCID", size="SLURM_STEP_NUM_TASKS")
# mpirun starts its helpers through srun, so Slurm's variables in its processes are the helpers'
INNERMOST_FIRST = (TORCH, OPEN_MPI, MPICH)
# A batch script has SLURM_PROCID=0 and SLURM_NTASKS, a shell of salloc SLURM_NTASKS, and each is
# one process. Only srun sets SLURM_STEP_ID ("Output environment variables" in srun(1), sbatch(1)
# and salloc(1)). The step in which salloc may start its shell is srun's too, with the tasks of
# the whole allocation, but its number is reserved: those of other steps end here (slurm.h).
SLURM_MAX_NORMAL_STEP_ID = 0xFFFFFFF0


def join_started(environment: Mapping[str, str], *, device: str, timeout_s: float) -> World:
    """Meet the processes that torchrun, srun, mpirun or another program started with this one.

    Args:
        environment: Variables by name, as in ``os.environ``.
        device: Type of the devices that compute, ``cpu`` or ``cuda``.
        timeout_s: How long a process waits for the others.

    Returns:
        A world of one, where the environment names no others.

    Raises:
        ValueError: If the variables contradict each other, or do not say where to meet.
        RankError: If the processes do not all come in time.
    """
    here = place(environment)
    if here.size == 1:
        return World()
    url = meeting_point(environment, size=here.size)
    wait = timedelta(seconds=timeout_s)
    try:
        store, rank, size = next(rendezvous(url, here.rank, here.size, timeout=wait))
    except DistError as error:
        raise RankError(
            f"rank {here.rank} of {here.size} has not met the others at {url} in "
            f"trainer.timeout_s={timeout_s:g} seconds: MASTER_ADDR must name the machine of rank "
            "0, MASTER_PORT a port that is free there and open to the others, and all must start "
            f"({str(error).splitlines()[0]})"
        ) from error
    return World.join(store, rank=rank, size=size, device=device, timeout_s=timeout_s)


def place(environment: Mapping[str, str]) -> Place:
    """Find this process among those that were started together; alone if nobody says otherwise.

    Args:
        environment: Variables by name, as in ``os.environ``.

    Raises:
        ValueError: If only one of rank and number of processes is set, if either is no number, or
            if the rank is not below the number.
    """
    for launcher in INNERMOST_FIRST:
        if launcher.rank in environment or launcher.size in environment:
            return _read(launcher, environment)
    step = environment.get("SLURM_STEP_ID", "")
    if step.isdigit() and int(step) <= SLURM_MAX_NORMAL_STEP_ID:
        return _read(SLURM, environment)
    return Place()


def refuse_together(environment: Mapping[str, str], *, command: str) -> None:
    """Refuse to do in each of several processes what one of them does.

    Args:
        environment: Variables by name, as in ``os.environ``.
        command: What was asked for, for the message.

    Raises:
        ValueError: If the variables say that this process is one of several, or contradict each
            other.
    """
    size = place(environment).size
    if size > 1:
        raise ValueError(
            f"{size} processes were started together (by torchrun, srun or mpirun), and {command} "
            "is the work of one: each would do all of it and write the same files. Start one: "
            "srun -n 1, mpirun -n 1, or without torchrun"
        )


def meeting_point(environment: Mapping[str, str], *, size: int) -> str:
    """Find the address where processes that were started together meet, as a URL of torch.

    Args:
        environment: Variables by name, as in ``os.environ``.
        size: How many processes there are, for the message.

    Raises:
        ValueError: If ``MASTER_ADDR`` or ``MASTER_PORT`` is missing, or the port is none.
    """
    host, port = environment.get("MASTER_ADDR"), environment.get("MASTER_PORT")
    if not host or not port:
        missing = "MASTER_PORT" if host else "MASTER_ADDR"
        raise ValueError(
            f"{size} processes were started together, and {missing}, which says where they meet, "
            "is not set; before they start:\n"
            "export MASTER_ADDR=<the machine of rank 0; 127.0.0.1 where there is one machine>\n"
            "export MASTER_PORT=29400"
        )
    if not 0 < _number("MASTER_PORT", port) < 2**16:
        raise ValueError(f"MASTER_PORT={port}: a port is 1 to 65535, the same for all processes")
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def _read(launcher: _Launcher, environment: Mapping[str, str]) -> Place:
    missing = [name for name in (launcher.rank, launcher.size) if name not in environment]
    if missing:
        raise ValueError(
            f"{missing[0]} is not set: {launcher.rank} and {launcher.size} say together which "
            "process this is, of how many; set both, or unset both to run alone"
        )
    rank = _number(launcher.rank, environment[launcher.rank])
    size = _number(launcher.size, environment[launcher.size])
    if rank >= size:
        raise ValueError(
            f"{launcher.rank}={rank} and {launcher.size}={size}: ranks count from 0, so the last "
            f"of {size} processes is {size - 1}; set them as the program that starts them does, or "
            "unset both to run alone"
        )
    return Place(rank=rank, size=size)


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{name}={text!r} must be a whole number, 0 or more; set it or unset it")
    return int(text)
