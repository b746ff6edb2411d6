"""A process learns its rank from whoever started it, and no process takes itself for another."""

import socket

import pytest

from rlcredit.distributed.board import RankError
from rlcredit.distributed.environment import Place, join_started, meeting_point, place

BATCH_SCRIPT = {
    "SLURM_JOB_ID": "7",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "8",
    "SLURM_TASKS_PER_NODE": "4(x2)",
}
STEP = BATCH_SCRIPT | {
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_STEP_NUM_TASKS": "6",
}
TORCH = {"RANK": "1", "WORLD_SIZE": "2"}


@pytest.mark.parametrize(
    ("environment", "rank", "size"),
    [
        (TORCH, 1, 2),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3"}, 2, 3),
        ({"PMI_RANK": "0", "PMI_SIZE": "4"}, 0, 4),
        (STEP, 5, 6),
    ],
)
def test_every_launcher_says_rank_and_size_in_its_own_words(environment, rank, size):
    assert place(environment) == Place(rank=rank, size=size)


def test_the_launcher_that_started_the_process_last_counts():
    mpi = {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4"}
    assert place(STEP | mpi) == Place(rank=3, size=4)
    assert place(STEP | mpi | TORCH) == Place(rank=1, size=2)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        BATCH_SCRIPT,
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"},  # a shell of salloc
        STEP | {"SLURM_STEP_ID": "4294967290", "SLURM_PROCID": "0"},  # the same, in its own step
        STEP | {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},  # srun --ntasks=1
    ],
)
def test_a_process_that_nobody_multiplied_is_alone(environment):
    assert place(environment) == Place(rank=0, size=1)
    assert join_started(environment, device="cpu", timeout_s=1.0).size == 1


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"RANK": "1"}, "WORLD_SIZE is not set: RANK and WORLD_SIZE say together"),
        ({"WORLD_SIZE": "2"}, "RANK is not set: .* unset both to run alone"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_RANK is not set"),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "1"}, "SLURM_STEP_NUM_TASKS is not set"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 and WORLD_SIZE=2: .* the last of 2 .* is 1"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "RANK=0 and WORLD_SIZE=0"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK='-1' must be a whole number"),
        ({"RANK": "0", "WORLD_SIZE": "two"}, "WORLD_SIZE='two' must be a whole number"),
        ({"RANK": "", "WORLD_SIZE": "2"}, "RANK='' must be a whole number"),
    ],
)
def test_variables_that_contradict_each_other_are_refused(environment, sentence):
    with pytest.raises(ValueError, match=sentence):
        place(environment)


def test_processes_that_do_not_know_where_to_meet_are_told_what_to_export():
    for known in ({}, {"MASTER_PORT": "29400"}, {"MASTER_ADDR": "host0"}):
        with pytest.raises(
            ValueError, match=r"(?s)2 proc.*export MASTER_ADDR=.*export MASTER_PORT"
        ):
            join_started(TORCH | known, device="cpu", timeout_s=1.0)
    for port in ("http", "0", "65536"):
        with pytest.raises(ValueError, match=f"MASTER_PORT='?{port}"):
            meeting_point({"MASTER_ADDR": "host0", "MASTER_PORT": port}, size=2)
    assert meeting_point({"MASTER_ADDR": "::1", "MASTER_PORT": "80"}, size=2) == "tcp://[::1]:80"


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_that_meets_nobody_says_where_it_waited(rank):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with pytest.raises(RankError, match=rf"rank {rank} of 2 .*127.0.0.1:{port} in .*_s=1 seconds"):
        join_started(TORCH | {"RANK": rank} | where, device="cpu", timeout_s=1.0)
