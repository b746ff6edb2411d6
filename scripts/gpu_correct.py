"""Part a: is what a GPU computes right?

Each check compares with a way that computes the same and shares as little as possible with it.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.distributed import HashStore  # pyright: ignore[reportPrivateImportUsage]
from torch.multiprocessing.spawn import spawn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from rlcredit.distributed.world import World
from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.draws import global_stream
from rlcredit.policy.hf import Dtype
from rlcredit.policy.packing import Packing
from rlcredit.rollout.hf import Decoding, HFRollout
from rlcredit.types import Prompt, Randomness, Rollouts
from scripts.bench_work import own_trainer, policy_of
from scripts.gpu_models import QWEN2, QWEN3, SizedWork, Sizes, small
from scripts.gpu_record import Check, Finding, Record, SkippedError, judged

MANY_ENDS = 24
"""Mean length of responses, in tokens, that checks of correctness draw."""
LARGE = 4096
"""Numbers of a tensor that is worth a line."""


def checks(record: Record, *, tiny: bool, bundles: Path) -> list[Check]:
    """Most important first."""
    del bundles
    device = record.device
    made = []
    for sizes in (QWEN3, QWEN2):
        work = _work(sizes, device, tiny=tiny)
        for half in (False, True):
            kind = "bf16" if half else "fp32"
            name = f"packed = padded = reference, {kind}, {sizes.name}"
            made.append(Check(name=name, look=partial(layouts_agree, work, half=half)))
    work = _work(QWEN3, device, tiny=tiny)
    made += [
        Check(
            name=f"decoding {name}",
            look=partial(decodings_agree, replace(work, dtype=dtype), sampler),
        )
        for name, dtype, sampler in (
            ("fp64: graphs = static = dynamic", torch.float64, None),
            ("bf16: graphs = static", torch.float32, Dtype.bfloat16),
        )
    ]
    return [
        *made,
        Check(name="a gradient twice, deterministic kernels", look=partial(same_gradient, work)),
        Check(name="resume, deterministic kernels", look=partial(resumes, work)),
        Check(name="no tensor on the CPU by accident", look=partial(stays_there, work)),
        Check(name="LoRA: packed = padded, graphs = dynamic", look=partial(adapters, work)),
        Check(name="a world of one", look=partial(world_of_one, device)),
        Check(name="two processes under gloo", look=partial(two_processes, device), estimate_s=60),
    ]


def _work(sizes: Sizes, device: torch.device, *, tiny: bool) -> SizedWork:
    few = small(sizes, tiny=tiny)
    return SizedWork.of(
        few,
        device,
        prompt_tokens=6 if tiny else 96,
        prompts_per_step=3 if tiny else 8,
        group_size=3 if tiny else 8,
        max_new_tokens=10 if tiny else 96,
        mean_tokens=MANY_ENDS,
    )


def ragged_prompts(work: SizedWork) -> list[Prompt]:
    """Prompts of different lengths."""
    rows = [text.split() for text in work.texts()[: work.prompts_per_step]]
    texts = [" ".join(row[: len(row) - index % 5]) for index, row in enumerate(rows)]
    return [Prompt(prompt_id=t, text=t, query=t, relevance={}) for t in texts]


def sampled(work: SizedWork, policy: CausalLM, engine: HFRollout | None = None) -> Rollouts:
    """Responses to them."""
    engine = engine or HFRollout(max_new_tokens=work.max_new_tokens)
    return engine(
        policy,
        ragged_prompts(work),
        group_size=work.group_size,
        randomness=Randomness(seed=0, step=1),
    )


def scored(policy: CausalLM, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
    """Log-probs, and the gradient of a weighted sum of them as one vector, on the CPU."""
    found = policy.logprobs(rollouts).logprobs
    weights = torch.linspace(-1, 1, found.numel(), device=found.device).view_as(found)
    policy.model.zero_grad(set_to_none=True)
    (found * weights).sum().backward()
    grads = [p.grad.flatten().cpu() for p in policy.model.parameters() if p.grad is not None]
    return found.detach().cpu(), torch.cat(grads)


def reference_logprobs(model: PreTrainedModel, rollouts: Rollouts) -> Tensor:
    """One unpadded row at a time, through the model as transformers has it, eager attention."""
    plain = deepcopy(model)
    plain.set_attn_implementation("eager")
    group = rollouts.response_ids.shape[1]
    rows = rollouts.response_ids.flatten(0, 1)
    mask = rollouts.response_mask.flatten(0, 1)
    found = torch.zeros(rows.shape)
    with torch.no_grad():
        for row in range(len(rows)):
            response = rows[row][mask[row]]
            prompt = rollouts.prompt_ids[row // group][rollouts.prompt_mask[row // group]]
            logits: Any = plain(input_ids=torch.cat([prompt, response])[None]).logits
            logprobs = logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
            chosen = logprobs.gather(1, response[:, None]).squeeze(1)
            found[row, : len(response)] = chosen.cpu()
    return found


def layouts_agree(work: SizedWork, *, half: bool) -> Finding:
    """A prompt computed once, a row per response, and a row alone: log-probs and gradients."""
    model = work.model()
    packed, padded = (
        policy_of(work, deepcopy(model), packing=packing, autocast=half)
        for packing in (Packing.shared_prefix, Packing.padded)
    )
    rollouts = sampled(work, padded)
    mask = rollouts.response_mask.flatten(0, 1).cpu()
    (one, grad), (other, other_grad) = scored(packed, rollouts), scored(padded, rollouts)
    plain = reference_logprobs(model, rollouts)
    cosine = float(torch.cosine_similarity(grad.double(), other_grad.double(), dim=0))
    gap = float((grad - other_grad).double().norm() / other_grad.double().norm())
    apart = [float((x - plain)[mask].abs().max()) for x in (one, other)]
    most, least = (0.2, 0.999) if half else (1e-3, 0.999999)
    return judged(
        max(apart) < most and cosine > least,
        packed_to_reference=apart[0],
        padded_to_reference=apart[1],
        mean_packed_to_reference=float((one - plain)[mask].abs().mean()),
        gradient_cosine=cosine,
        gradient_gap=gap,
        bars=f"log-probs {most}, cosine {least}",
    )


def decodings_agree(work: SizedWork, sampler: Dtype | None) -> Finding:
    """The same tokens whether keys and values grow, lie in buffers, or a graph replays the step."""
    policy = policy_of(work, work.model(), packing=Packing.shared_prefix)
    ways = [Decoding.static]
    ways += [Decoding.cuda_graphs] if work.device.type == "cuda" else []
    ways += [Decoding.dynamic] if sampler is None else []
    found: dict[Decoding, Rollouts] = {}
    values: dict[str, Any] = {}
    for way in ways:
        engine = HFRollout(
            max_new_tokens=work.max_new_tokens, decoding=way, dtype=sampler, max_rows=256
        )
        sampled(work, policy, engine)  # records
        found[way] = sampled(work, policy, engine)
    first = found[Decoding.static]
    for way, other in found.items():
        same = _same_tokens(first, other)
        values[f"{way}: equal responses"] = same
    note = "" if work.device.type == "cuda" else "the processor has no graphs"
    values["mean length"] = float(first.response_mask.sum(2).double().mean())
    return judged(all(v == 1.0 for k, v in values.items() if "equal" in k), note, **values)


def _same_tokens(one: Rollouts, other: Rollouts) -> float:
    """Share of equal responses."""
    rows = [
        [row[kept].tolist() for row, kept in zip(ids, mask, strict=True)]
        for ids, mask in (
            (each.response_ids.flatten(0, 1), each.response_mask.flatten(0, 1))
            for each in (one, other)
        )
    ]
    return sum(a == b for a, b in zip(*rows, strict=True)) / len(rows[0])


@contextmanager
def deterministic() -> Iterator[None]:
    """Kernels whose sums have one order."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def same_gradient(work: SizedWork) -> Finding:
    """Two backward passes of the same update, bit for bit."""
    policy = policy_of(
        work,
        work.model(),
        packing=Packing.shared_prefix,
        autocast=True,
    )
    rollouts = sampled(work, policy)
    with deterministic():
        (one, grad), (other, again) = scored(policy, rollouts), scored(policy, rollouts)
    apart = float((grad - again).abs().max())
    return judged(bool(torch.equal(one, other)) and apart == 0, largest_difference=apart)


def resumes(work: SizedWork) -> Finding:
    """Four steps, and two steps twice with weights and moments carried over, bit for bit."""
    engine = partial(HFRollout, max_new_tokens=work.max_new_tokens, decoding=_fastest(work.device))

    def trainer(model: Any) -> Any:
        return own_trainer(work, model, autocast=True, rollout=engine(dtype=Dtype.bfloat16))

    model = work.model()
    with deterministic():
        straight, first = trainer(model), trainer(model)
        for number in range(1, 5):
            straight.step(number)
        for number in (1, 2):
            first.step(number)
        second = trainer(model)
        second.policy.model.load_state_dict(deepcopy(first.policy.model.state_dict()))
        second.optimizer.load_state_dict(deepcopy(first.optimizer.state_dict()))
        for number in (3, 4):
            second.step(number)
    pairs = zip(straight.policy.model.parameters(), second.policy.model.parameters(), strict=True)
    apart = max(float((a - b).detach().abs().max()) for a, b in pairs)
    return judged(apart == 0, largest_difference=apart)


def _fastest(device: torch.device) -> Decoding:
    return Decoding.cuda_graphs if device.type == "cuda" else Decoding.static


class Watch(TorchDispatchMode):
    """Counts tensors that are made on the CPU, copies between devices, and waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.made: Counter[str] = Counter()
        self.copied: Counter[str] = Counter()
        self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and note what it did."""
        out = func(*args, **(kwargs or {}))
        name = func._schema.name
        if name == "aten::_local_scalar_dense":
            self.waits += 1
        given = _tensors([*args, *(kwargs or {}).values()])
        before = {tensor.device.type for tensor in given}
        for tensor in _tensors([out]):
            if tensor.device.type == "cpu" and tensor.numel() > LARGE and before != {"cpu"}:
                what = self.copied if before else self.made
                what[f"{name} {tuple(tensor.shape)} {tensor.dtype}"] += 1
        return out


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    """The tensors among values, and in lists of them."""
    flat = [x for value in values for x in (value if isinstance(value, list | tuple) else [value])]
    return [x for x in flat if isinstance(x, Tensor)]


def stays_there(work: SizedWork) -> Finding:
    """An update makes and copies nothing large on the CPU; what a whole step does is listed.

    Random numbers are drawn there and texts are read there, in every step.
    """
    engine = HFRollout(max_new_tokens=work.max_new_tokens, decoding=Decoding.static)
    trainer = own_trainer(work, work.model(), autocast=True, rollout=engine)
    result = trainer.step(1)
    batch = trainer.update_batch(result.rollouts, result.advantages)
    with Watch() as update:
        trainer.update(result.rollouts, batch, 2)
    with Watch() as step:
        trainer.step(3)
    tensors = list(trainer.policy.model.parameters())
    tensors += [
        value
        for state in trainer.optimizer.state.values()
        for name, value in state.items()
        if name != "step"
    ]
    kinds = {tensor.device.type for tensor in tensors}
    at_home = work.device.type == "cpu" or not (update.made or update.copied)
    return judged(
        kinds == {work.device.type} and at_home,
        "" if work.device.type == "cuda" else "of a step on the processor it says nothing",
        update_made=dict(update.made),
        update_copied=dict(update.copied),
        update_waits=update.waits,
        step_made=dict(step.made),
        step_copied=dict(step.copied),
        step_waits=step.waits,
        weights_and_moments=sorted(kinds),
    )


def adapters(work: SizedWork) -> Finding:
    """Low-rank adapters alone are trained; both layouts and both ways of decoding agree."""
    model: Any = work.model()
    with global_stream(Randomness(seed=0, step=0).generator("gpu adapters")):
        settings = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
        wrapped: Any = get_peft_model(model, settings)
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=0.02)
    policies = [
        policy_of(work, deepcopy(model), packing=packing)
        for packing in (Packing.shared_prefix, Packing.padded)
    ]
    rollouts = sampled(work, policies[1])
    (one, grad), (other, again) = (scored(policy, rollouts) for policy in policies)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    engines = [
        HFRollout(max_new_tokens=work.max_new_tokens, decoding=way)
        for way in (_fastest(work.device), Decoding.dynamic)
    ]
    same = _same_tokens(*(sampled(work, policies[0], engine) for engine in engines))
    gap = float((grad - again).double().norm() / again.double().norm())
    apart = float((one - other).abs().max())
    return judged(
        apart < 1e-3 and gap < 1e-2 and same > 0.95 and len(grad) == trained,
        logprobs_apart=apart,
        gradient_gap=gap,
        equal_responses=same,
    )


def world_of_one(device: torch.device) -> Finding:
    """NCCL with one process (gloo on a processor): a sum, a broadcast, and a goodbye."""
    store = HashStore()
    world = World.join(store, rank=0, size=1, device=device.type, timeout_s=60)
    try:
        values = torch.arange(1000.0, device=device)
        dist.all_reduce(values)
        dist.broadcast(values, src=0)
        backend = dist.get_backend_config()
        passed = bool((values.cpu() == torch.arange(1000.0)).all()) and world.leads
    finally:
        dist.destroy_process_group()
    return judged(passed, backend=str(backend))


def two_processes(device: torch.device) -> Finding:
    """Two processes on one device under gloo: sums, broadcasts and gathers of its tensors."""
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "said")
        context = spawn(_one_of_two, args=(place, str(device)), nprocs=2, join=False)
        assert context is not None
        while not context.join(timeout=60):
            pass
        said = [Path(f"{place}.{rank}").read_text() for rank in range(2)]
    if said[0] != said[1]:
        return judged(False, said=said)
    refused = [line for line in said[0].splitlines() if "refused" in line]
    if len(refused) == len(said[0].splitlines()):
        raise SkippedError(f"this gloo takes no tensors of {device}: {said[0]}")
    return judged("wrong" not in said[0], said=said[0].splitlines())


def _one_of_two(rank: int, place: str, name: str) -> None:
    """In each process: what became of each collective, as lines of a file."""
    device = torch.device(name)
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)

    def total() -> bool:
        values = torch.full((1000,), float(rank + 1), device=device)
        dist.all_reduce(values)
        return bool((values.cpu() == 3).all())

    def copied() -> bool:
        values = torch.full((1000,), float(rank + 1), device=device)
        dist.broadcast(values, src=0)
        return bool((values.cpu() == 1).all())

    def gathered() -> bool:
        values = torch.full((10,), float(rank + 1), device=device)
        each = [torch.empty_like(values) for _ in range(2)]
        dist.all_gather(each, values)
        return bool((torch.cat(each).cpu().view(2, 10).mean(1) == torch.tensor([1.0, 2.0])).all())

    lines = [_tried(call) for call in (total, copied, gathered)]
    Path(f"{place}.{rank}").write_text("\n".join(lines))
    dist.destroy_process_group()


def _tried(call: Callable[[], bool]) -> str:
    try:
        return f"{call.__name__}: {'right' if call() else 'wrong'}"
    except RuntimeError as error:
        return f"{call.__name__}: refused ({str(error).splitlines()[0][:120]})"
