"""The device of a run: is it there, does it know the number format, is it large enough?"""

import os
from collections.abc import Callable

import torch

from rlcredit.distributed.world import World
from rlcredit.policy.footprint import Footprint
from rlcredit.policy.hf import Dtype
from rlcredit.run.job import Job
from rlcredit.tasks.base import Task
from rlcredit.trainer.memory import DoesNotFitError
from rlcredit.trainer.plan import GIB, MemoryPlan, lasting_lines, memory_plan
from rlcredit.types import Prompt

_TEMPLATE_TOKENS = 64
"""What a chat template puts around a prompt."""


class DeviceError(ValueError):
    """The device that was asked for is not there, or cannot do what is asked of it."""


def refuse_absent(name: str) -> torch.device:
    """The device of that name.

    Raises:
        DeviceError: If it is not there.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(
            f"trainer.device={name} is no device of torch; give cpu, cuda, or cuda:0 for the first "
            "of several GPUs"
        ) from error
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        seen = f"{count} CUDA device{'s' if count > 1 else ''}" if count else "no CUDA device"
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible})"
        raise DeviceError(
            f"trainer.device={name}: torch {torch.__version__} sees {seen} here{hidden}; set "
            "trainer.device=cpu (trainer=cpu, size=cpu), or install a build of torch for this "
            "machine's GPU and driver"
        )
    return device


def check_device(job: Job, world: World, *, say: Callable[[str], None]) -> None:
    """Refuse a GPU that is not there, or that cannot hold or compute the policy.

    It must hold weights, gradients and moments at least; batches are not reckoned with.

    Raises:
        DeviceError: If it is not there, or has no bfloat16 where that is asked for.
        DoesNotFitError: With the arithmetic and the remedy, before anything is loaded.
    """
    if refuse_absent(job.trainer.device).type != "cuda":
        return
    device = world.device(job.trainer.device)
    model = Footprint.of(job.policy.skeleton(cache=job.cache, say=say))
    if computes_bfloat16(job, model):
        refuse_without_bfloat16(device)
    lines = lasting_lines(
        model, job.trainer, size=world.size, has_reference=_has_reference(job, model)
    )
    refuse_beyond(MemoryPlan(lines=tuple(lines)), total_memory(device), name=str(device))


def computes_bfloat16(job: Job, model: Footprint) -> bool:
    """Whether a part of a run is computed in bfloat16."""
    formats = (job.trainer.compute_dtype, job.rollout.dtype)
    return job.trainer.autocast or Dtype.bfloat16 in formats or model.dtype is torch.bfloat16


def refuse_without_bfloat16(device: torch.device) -> None:
    """Refuse a GPU that would only emulate it.

    Raises:
        DeviceError: With the remedy.
    """
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        raise DeviceError(
            f"{torch.cuda.get_device_name(device)} computes no bfloat16, and trainer.autocast, "
            "trainer.compute_dtype, rollout.dtype or policy.dtype asks for it; set "
            "trainer.autocast=false and the formats to float32, or take a GPU of compute "
            "capability 8.0 or more"
        )


def refuse_beyond(plan: MemoryPlan, total: int, *, name: str) -> None:
    """Refuse a plan that is larger than a device.

    Raises:
        DoesNotFitError: With the arithmetic and the remedy.
    """
    if plan.peak > total:
        raise DoesNotFitError(
            f"this run needs {plan.peak / GIB:.1f} GiB in each process before the first batch, and "
            f"{name} has {total / GIB:.1f} GiB:\n{plan.text()}\nTrain adapters "
            "(policy.lora.rank=32 with policy.dtype=bfloat16), share the weights among more "
            "processes (trainer=fsdp), or take a smaller policy; trainer.plan=true prints the "
            "whole plan"
        )


def total_memory(device: torch.device) -> int:
    """Bytes of a GPU."""
    return torch.cuda.get_device_properties(device).total_memory


def planned(job: Job, *, size: int, say: Callable[[str], None]) -> MemoryPlan:
    """The plan of a job, of which the data alone are loaded: prompts have a length."""
    task = job.dataset.load()
    model = job.policy.skeleton(cache=job.cache, say=say)
    return memory_plan(
        model,
        job.trainer,
        job.rollout,
        prompt_tokens=longest_prompt(task),
        size=size,
        has_reference=_has_reference(job, Footprint.of(model)),
    )


def print_plan(job: Job, world: World, *, say: Callable[[str], None]) -> None:
    """Say what each process of a run would need, and what this machine's device has."""
    size = max(world.size, job.trainer.processes)
    plan = planned(job, size=size, say=say)
    say(
        f"memory in each of {size} process{'es' if size > 1 else ''}, by arithmetic (sizes of the "
        "caching allocator's gaps and of CUDA itself, about 1 GiB, are not in it):"
    )
    say(plan.text())
    device = torch.device(job.trainer.device)
    if device.type == "cuda" and torch.cuda.is_available():
        total = total_memory(device)
        fits = "fits" if plan.peak <= total else "does not fit"
        say(f"{torch.cuda.get_device_name(device)} has {total / GIB:.2f} GiB: the run {fits}")


def longest_prompt(task: Task) -> int:
    """Tokens of the longest prompt at most: its bytes, and a chat template around it."""
    prompts: tuple[Prompt, ...] = (*task.train, *task.validation, *task.test)
    return max(len(prompt.text.encode()) for prompt in prompts) + _TEMPLATE_TOKENS


def _has_reference(job: Job, model: Footprint) -> bool:
    """A second copy of the weights: not where adapters alone are trained, which can be put off."""
    return job.loss.needs.ref_logprobs and model.trained_numbers == model.numbers
