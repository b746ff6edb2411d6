"""Part b: how fast is a step on a GPU? Beside TRL, beside the hardware, and OSPO beside GRPO."""

import gc
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from rlcredit.commands.schema import register
from rlcredit.policy.draws import global_stream
from rlcredit.policy.footprint import Footprint
from rlcredit.policy.hf import Dtype
from rlcredit.rollout.hf import Decoding, HFRollout
from rlcredit.trainer.loop import StepResult, Trainer
from rlcredit.trainer.plan import GIB, memory_plan
from rlcredit.types import Randomness, Rollouts
from scripts.bench_credit import loaded
from scripts.bench_timing import Timing
from scripts.bench_work import own_trainer
from scripts.gpu_models import QWEN2, QWEN3, SizedWork, Sizes, small
from scripts.gpu_record import NOT_RUN, Check, Finding, Record, Status, judged

PEAK_FLOPS = 989e12
"""Dense bfloat16 products of an H200 (H100's), a second, by its datasheet."""
BANDWIDTH = 4.8e12
"""Bytes that its memory moves in a second, by its datasheet."""
SAMPLES_PER_S, TOKENS_PER_S, DECODE_SHARE, OSPO_RATIO, TRL_RATIO = 12.0, 25_000.0, 0.3, 1.3, 3.0
"""Goals: a step, an update at 0.6 billion parameters, decoding, credit, and against TRL."""
BATCHES = ((64, 8), (32, 16))
MEAN_TOKENS = 256
"""Ends are as frequent as that, before the cap of 512."""
TOKENS_PER_MICROBATCH = 16384
"""83 GiB in all at the larger shape, by the plan."""


def checks(record: Record, *, tiny: bool, bundles: Path) -> list[Check]:
    """Most important first."""
    del bundles
    device = record.device
    works = [
        _work(sizes, device, prompts, group, tiny=tiny)
        for prompts, group in BATCHES
        for sizes in (QWEN3, QWEN2)
    ]
    own = [Check(name=own_name(w), look=partial(own_steps, w), estimate_s=50) for w in works]
    rival = [
        Check(
            name=f"TRL with generate: {w.name}",
            look=partial(against_trl, record, w),
            estimate_s=110,
        )
        for w in works[:2]
    ]
    ways = Check(
        name=f"decoding three ways: {works[0].name}",
        look=partial(decoding_ways, replace(works[0], mean_tokens=None)),
        estimate_s=45,
    )
    credit = Check(
        name="OSPO beside GRPO, an encoder of MiniLM's shape",
        look=partial(credit_steps, record, works, tiny=tiny),
        estimate_s=50,
    )
    return [own[0], rival[0], credit, own[1], ways, rival[1], *own[2:]]


def own_name(work: SizedWork) -> str:
    """Name of the check that times a step."""
    return f"a step: {work.name}"


def _work(sizes: Sizes, device: torch.device, prompts: int, group: int, *, tiny: bool) -> SizedWork:
    if tiny:
        return SizedWork.of(
            small(sizes, tiny=True),
            device,
            prompt_tokens=6,
            prompts_per_step=prompts // 32,
            group_size=group // 4,
            max_new_tokens=8,
            mean_tokens=6,
        )
    return SizedWork.of(
        sizes,
        device,
        prompt_tokens=128,
        prompts_per_step=prompts,
        group_size=group,
        max_new_tokens=512,
        mean_tokens=MEAN_TOKENS,
    )


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """Operations and bytes that a step cannot do without."""

    model: Footprint
    num_layers: int
    num_heads: int
    head_dim: int
    head_numbers: int
    """Parameters of the head, which is the embedding too."""

    @classmethod
    def of(cls, work: SizedWork, model: Any) -> "Arithmetic":
        """Count a model."""
        sizes = work.sizes
        return cls(
            model=Footprint.of(model),
            num_layers=sizes.num_layers,
            num_heads=sizes.num_heads,
            head_dim=sizes.head_dim,
            head_numbers=sizes.vocab_size * sizes.hidden_size,
        )

    def update_flops(self, rollouts: Rollouts) -> float:
        """Forward and backward of an update whose prompts are computed once; nothing recomputed."""
        prompts = rollouts.prompt_mask.sum(1).double()
        lengths = rollouts.response_mask.sum(2).double()
        tokens = float(prompts.sum() + (lengths - 1).sum())
        scored = float(lengths.sum())
        body = 2 * (self.model.numbers - self.head_numbers) * tokens
        head = 2 * self.head_numbers * scored
        # a query of place t sees t keys: two products of head_dim with each, in every head
        seen = float((prompts * prompts / 2).sum())
        seen += float((lengths * prompts[:, None] + lengths * lengths / 2).sum())
        attention = 4 * self.num_layers * self.num_heads * self.head_dim * seen
        return 3 * (body + head + attention)

    def decode_bytes(self, rollouts: Rollouts, *, itemsize: int) -> float:
        """Weights at each step, keys and values of prompts once a group, and of responses."""
        prompts = rollouts.prompt_mask.sum(1).double()
        lengths = rollouts.response_mask.sum(2)
        total = 0.0
        for place in range(int(lengths.max()) - 1):
            growing = lengths > place + 1
            context = float(prompts[growing.any(1)].sum()) + float(growing.sum()) * (place + 1)
            total += self.model.numbers + self.model.cache_numbers * context
        return total * itemsize


def engine_of(work: SizedWork, decoding: Decoding | None = None) -> HFRollout:
    """The fastest way to sample on the work's device."""
    fastest = Decoding.cuda_graphs if work.device.type == "cuda" else Decoding.static
    return HFRollout(
        max_new_tokens=work.max_new_tokens,
        max_rows=work.prompts_per_step * work.group_size,
        decoding=decoding or fastest,
        dtype=Dtype.bfloat16,
    )


def waited(device: torch.device) -> float:
    """The time when the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def own_steps(work: SizedWork) -> Finding:
    """Two steps, of which the second counts: the first records graphs."""
    _forget(work.device)
    model = work.model()
    arithmetic = Arithmetic.of(work, model)
    trainer = own_trainer(
        work,
        model,
        autocast=True,
        rollout=engine_of(work),
        tokens_per_microbatch=TOKENS_PER_MICROBATCH,
    )
    trainer.step(1)
    start = waited(work.device)
    result = trainer.step(2)
    seconds = waited(work.device) - start
    values = step_values(work, arithmetic, result, seconds)
    values |= _memory(work, trainer)
    if work.device.type != "cuda":
        return Finding(status=Status.measured, values=values, note=NOT_RUN)
    passed = values["samples/s"] >= SAMPLES_PER_S
    passed &= values["share of the decode roofline"] >= DECODE_SHARE
    passed &= work.sizes is not QWEN3 or values["update tokens/s"] >= TOKENS_PER_S
    goals = f"samples/s {SAMPLES_PER_S}, update {TOKENS_PER_S}, decode {DECODE_SHARE}"
    return judged(passed, **values, goals=goals)


def step_values(
    work: SizedWork, arithmetic: Arithmetic, result: StepResult, seconds: float
) -> dict[str, Any]:
    """Figures of one step."""
    rollouts, metrics = result.rollouts, result.metrics
    samples = work.prompts_per_step * work.group_size
    stages = {name: metrics[f"time/{name}_s"] for name in ("rollout", "reward", "credit", "update")}
    lengths = rollouts.response_mask.sum(2)
    tokens = int(rollouts.prompt_mask.sum()) + int((lengths - 1).sum())
    least = arithmetic.decode_bytes(rollouts, itemsize=2) / BANDWIDTH
    return {
        "step s": seconds,
        "samples/s": samples / seconds,
        **{f"{name} s": value for name, value in stages.items()},
        "mean length": float(lengths.double().mean()),
        "decoded tokens/s": int(lengths.sum()) / stages["rollout"],
        "share of the decode roofline": least / stages["rollout"],
        "update tokens/s": tokens / stages["update"],
        "MFU of the update": arithmetic.update_flops(rollouts) / stages["update"] / PEAK_FLOPS,
        "sampler to trainer, nats": metrics["mismatch/kl_nats"],
    }


def _memory(work: SizedWork, trainer: Trainer) -> dict[str, float]:
    """The peak that the device saw, and the plan's."""
    with torch.device("meta"):
        outline = work.sizes.outline()
    plan = memory_plan(
        outline,
        replace(trainer.settings, device=work.device.type),
        trainer.rollout,
        prompt_tokens=work.prompt_tokens,
        size=1,
        has_reference=False,
    )
    peak = torch.cuda.max_memory_allocated(work.device) if work.device.type == "cuda" else 0
    return {"peak GiB": peak / GIB, "planned GiB": plan.peak / GIB}


def _forget(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def against_trl(record: Record, work: SizedWork) -> Finding:
    """TRL's second step with ``generate``, in bf16, on the same work."""
    from scripts.bench_trl import Rival, rival_of  # TRL is imported where it is measured

    _forget(work.device)
    rows = 1 if work.max_new_tokens < 100 else 16
    with tempfile.TemporaryDirectory() as folder:
        rival: Rival = rival_of(work, work.model(), steps=2, bf16=True, folder=folder, rows=rows)
        seconds = _step_seconds(rival, work.device)
    samples = work.prompts_per_step * work.group_size
    values: dict[str, Any] = {
        "step s": seconds[-1],
        "samples/s": samples / seconds[-1],
        "mean length": rival.timing.tokens[-1],
        "rollout and reward s": rival.timing.stages["rollout and reward"][-1],
        "responses a backward pass": rows,
    }
    own = record.value(own_name(work), "step s")
    if own is None:
        return Finding(status=Status.measured, values=values, note="no own step was measured yet")
    ratio = seconds[-1] / own
    values["own is faster by"] = ratio
    if work.device.type != "cuda":
        return Finding(status=Status.measured, values=values, note=NOT_RUN)
    return judged(ratio >= TRL_RATIO, **values)


def _step_seconds(rival: Any, device: torch.device) -> list[float]:
    """Seconds of each of TRL's steps."""
    from transformers import TrainerCallback

    marks: list[float] = []

    class Marks(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            marks.append(waited(device))

        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(waited(device))

    rival.add_callback(Marks())
    rival.train()
    return [end - start for start, end in zip(marks[::2], marks[1::2], strict=True)]


def decoding_ways(work: SizedWork) -> Finding:
    """Seconds of sampling one batch to the cap: tensors that grow, buffers, graphs."""
    _forget(work.device)
    short = replace(work, max_new_tokens=min(128, work.max_new_tokens))
    model = short.model()
    trainer = own_trainer(short, model, autocast=True)
    arithmetic = Arithmetic.of(short, model)
    ways = [Decoding.dynamic, Decoding.static]
    ways += [Decoding.cuda_graphs] if work.device.type == "cuda" else []
    values: dict[str, Any] = {}
    for way in ways:
        engine = engine_of(short, way)
        for number in (1, 2):
            start = waited(work.device)
            rollouts = engine(
                trainer.policy,
                trainer.batch_prompts(number),
                group_size=short.group_size,
                randomness=Randomness(seed=0, step=number),
                spans=False,
            )
            seconds = waited(work.device) - start
        values[f"{way} s"] = seconds
        least = arithmetic.decode_bytes(rollouts, itemsize=2) / BANDWIDTH
        values[f"{way}, share of the roofline"] = least / seconds
    return Finding(status=Status.measured, values=values)


def credit_steps(record: Record, works: Sequence[SizedWork], *, tiny: bool) -> Finding:
    """Steps of OSPO and GRPO on the generated task, its reward by an encoder on the device.

    The policy is small, so the reward's share is larger than a language model's step would have;
    where such a step was measured, its seconds stand in for sampling and update.
    """
    register()
    with tempfile.TemporaryDirectory() as folder:
        save_encoder(Path(folder) / "encoder", tiny=tiny)
        stages = {
            name: _credit_stages(name, Path(folder), record.device, tiny=tiny)
            for name in ("grpo", "ospo")
        }
    whole = {name: sum(each.values()) for name, each in stages.items()}
    extra = sum(stages["ospo"][n] - stages["grpo"][n] for n in ("reward", "credit"))
    values: dict[str, Any] = {
        f"{name}, {stage} s": value
        for name, each in stages.items()
        for stage, value in each.items()
    }
    values["OSPO / GRPO, small policy"] = whole["ospo"] / whole["grpo"]
    for work in works:
        if (seconds := record.value(own_name(work), "step s")) is not None:
            values[f"OSPO / GRPO beside a step of {work.name}"] = 1 + extra / seconds
    beside = [value for name, value in values.items() if "beside a step" in name]
    if not beside or record.device.type != "cuda":
        note = "no language model's step was measured yet" if not beside else NOT_RUN
        return Finding(status=Status.measured, values=values, note=note)
    return judged(max(beside) <= OSPO_RATIO, **values)


def _credit_stages(
    estimator: str, folder: Path, device: torch.device, *, tiny: bool
) -> Mapping[str, float]:
    sizes = ["trainer.prompts_per_step=64", "trainer.group_size=8"]
    words = [
        f"estimator={estimator}",
        "retriever=sentence",
        f"retriever.name={folder / 'encoder'}",
        "evaluation.retrievers=[]",
        f"trainer.device={device}",
        *(["size=smoke"] if tiny else sizes),
    ]
    trainer = loaded(words, cache=folder / "cache", say=lambda line: None)[1].trainer
    timing = Timing()
    for number in (1, 2, 3):
        result = trainer.step(number)
        for stage in ("rollout", "reward", "credit", "update"):
            timing.add(stage, result.metrics[f"time/{stage}_s"])
    return {stage: sorted(seconds[1:])[0] for stage, seconds in timing.stages.items()}


def save_encoder(folder: Path, *, tiny: bool) -> None:
    """A sentence encoder of MiniLM's shape with random weights, and a word a token."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [*letters, *(f"##{letter}" for letter in letters)]
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *pieces]
    made = Tokenizer(models.WordPiece({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]"}
    tokens = {f"{name}_token": text for name, text in special.items()}
    trunk = folder / "trunk"
    PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=256, **tokens).save_pretrained(
        trunk
    )
    config = BertConfig(
        vocab_size=30522,
        hidden_size=32 if tiny else 384,
        num_hidden_layers=1 if tiny else 6,
        num_attention_heads=2 if tiny else 12,
        intermediate_size=64 if tiny else 1536,
        max_position_embeddings=512,
    )
    with global_stream(Randomness(seed=0, step=0).generator("gpu encoder")):
        BertModel(config).save_pretrained(trunk)
    part = Transformer(str(trunk), max_seq_length=256)
    size = part.get_embedding_dimension()
    SentenceTransformer(modules=[part, Pooling(size, pooling_mode="mean"), Normalize()]).save(
        str(folder)
    )
