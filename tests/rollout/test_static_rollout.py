"""Buffers of fixed shape: the same samples, steps that can be recorded, other number formats."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config, GPT2LMHeadModel

from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.hf import Dtype
from rlcredit.policy.packing import Packing
from rlcredit.rollout.hf import Decoding, HFRollout, draw
from rlcredit.rollout.static import StaticDecoder, draw_by_blocks, step_size
from rlcredit.types import Prompt, Randomness, Rollouts
from tests.policy.toy import toy_policy

RANDOMNESS = Randomness(seed=3, step=7)
RAGGED = tuple(
    Prompt(prompt_id=text, text=text, query=text, relevance={})
    for text in ("tent", "lamp for a long winter hike", "boots for two", "chair for small children")
)


@pytest.fixture(scope="module")
def exact() -> CausalLM:
    """In float64, at its initial weights: flat, so responses of all lengths."""
    made = toy_policy(steps=0, dtype=torch.float64, extra_ends=10)
    return made.packed(Packing.shared_prefix, say=print)


def sampled(engine: HFRollout, policy: CausalLM, *, prompts=RAGGED, group_size=6, greedy=False):
    return engine(policy, prompts, group_size=group_size, randomness=RANDOMNESS, greedy=greedy)


def responses(rollouts: Rollouts) -> list[list[int]]:
    ids, mask = rollouts.response_ids.flatten(0, 1), rollouts.response_mask.flatten(0, 1)
    return [row[kept].tolist() for row, kept in zip(ids, mask, strict=True)]


def assert_same(one: Rollouts, other: Rollouts) -> None:
    assert responses(one) == responses(other)
    assert torch.equal(one.finished, other.finished)
    torch.testing.assert_close(one.rollout_logprobs, other.rollout_logprobs, rtol=0, atol=1e-9)


def test_buffers_give_the_samples_of_tensors_that_grow(exact):
    plain = HFRollout(max_new_tokens=80)
    static = replace(plain, decoding=Decoding.static)
    expected = sampled(plain, exact)
    lengths = {len(row) for row in responses(expected)}
    assert max(lengths) > 64  # more than the least width that is read
    assert len(lengths) > 8
    for max_rows in (256, 12, 5):
        assert_same(sampled(replace(static, max_rows=max_rows), exact), expected)
    assert_same(
        sampled(static, exact, group_size=1, greedy=True),
        sampled(plain, exact, group_size=1, greedy=True),
    )


def test_buffers_are_used_again_by_other_batches_and_by_weights_that_have_moved(exact):
    plain, policy = HFRollout(max_new_tokens=20), toy_policy(steps=0, dtype=torch.float64)
    static = replace(plain, decoding=Decoding.static)
    for prompts, group_size in ((RAGGED, 6), (RAGGED[:1], 2), (RAGGED, 9), (RAGGED[2:], 6)):
        settings = {"prompts": prompts, "group_size": group_size}
        assert_same(sampled(static, policy, **settings), sampled(plain, policy, **settings))
        decoder = static._slot.decoder
        with torch.no_grad():
            policy.model.lm_head.weight.mul_(1.5)
    assert_same(sampled(static, policy), sampled(plain, policy))
    assert static._slot.decoder is decoder
    assert_same(sampled(static, exact), sampled(plain, exact))  # another model
    assert static._slot.decoder is not decoder


def test_rows_that_ended_leave_in_steps(exact):
    static = HFRollout(max_new_tokens=80, decoding=Decoding.static)
    sampled(static, exact)
    decoder = static._slot.decoder
    assert decoder is not None
    rows = [shape.rows for shape in decoder.recorded]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] == 24
    assert len(set(rows)) > 3
    assert {shape.width for shape in decoder.recorded} == {64, 80}


def test_sizes_of_steps_leave_a_third_idle_at_most():
    assert [step_size(n) for n in (1, 2, 3, 4, 5, 6, 7, 9, 13, 64, 65, 97, 512)] == [
        *(1, 2, 3, 4, 6, 6, 8, 12, 16, 64, 96, 128, 512)
    ]
    assert all(n <= step_size(n) < 1.5 * n for n in range(1, 2000))


class Replayed:
    """What a CUDA graph does, on the CPU: the step's operations again, on the same tensors."""

    def __init__(self) -> None:
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        if self.replays > 1:  # tracing runs a step, which recording on a GPU does not
            self.traced()

    def pool(self) -> None:
        return None


@pytest.fixture
def emulated(monkeypatch):
    """Graphs of torch.cuda, emulated; every graph that was made."""
    made: list[Replayed] = []

    def graph() -> Replayed:
        made.append(Replayed())
        return made[-1]

    @contextmanager
    def recording(graph, pool):
        del graph, pool
        yield

    step = StaticDecoder._step

    def traced_step(self, shape):
        if self.recorded.get(shape, 0) is not None or self.warm:
            self.warm = False
            return step(self, shape)
        made[-1].traced = make_fx(lambda: step(self, shape))()
        return None

    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(StaticDecoder, "_step", traced_step)
    monkeypatch.setattr(StaticDecoder, "warm", False, raising=False)
    monkeypatch.setattr("rlcredit.rollout.static.refuse_moving", lambda model, graphs: None)
    return made


def test_a_step_that_is_replayed_operation_by_operation_draws_the_same(exact, emulated):
    plain = HFRollout(max_new_tokens=24)
    graphs = replace(plain, decoding=Decoding.cuda_graphs)
    for group_size in (6, 2, 6):
        settings = {"group_size": group_size}
        assert_same(sampled(graphs, exact, **settings), sampled(plain, exact, **settings))
    assert sum(graph.replays > 1 for graph in emulated) > 3


class AsksTheDevice(TorchDispatchMode):
    """Refuses what makes the host wait for a result, which cannot be recorded."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        assert name not in {
            "aten::_local_scalar_dense",
            "aten::nonzero",
            "aten::masked_select",
            "aten::unique_consecutive",
            "aten::equal",
        }, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


def test_a_step_does_not_wait_for_the_device(exact, monkeypatch):
    static, step = HFRollout(max_new_tokens=20, decoding=Decoding.static), StaticDecoder._step
    watched = []

    def watched_step(self, shape):
        watched.append(shape)
        with AsksTheDevice():
            step(self, shape)

    monkeypatch.setattr(StaticDecoder, "_step", watched_step)
    sampled(static, exact)
    sampled(static, exact, group_size=1, greedy=True)
    assert {shape.greedy for shape in watched} == {False, True}
    with pytest.raises(AssertionError, match="waits"), AsksTheDevice():
        torch.ones(1).item()


@pytest.mark.parametrize("size", [7, 1024, 2500])
def test_drawing_by_blocks_is_drawing(size):
    generator = torch.Generator().manual_seed(size)
    logits = 3 * torch.randn(400, size, generator=generator, dtype=torch.float64)
    logits[:, ::3] = float("-inf")
    uniforms = torch.rand(400, generator=generator, dtype=torch.float64)
    uniforms[:3] = torch.tensor([0.0, 1 - 2**-53, 0.5], dtype=torch.float64)
    for temperature in (1.0, 0.6):
        for numbers in (uniforms, None):
            tokens, logprobs = draw(logits, numbers, temperature=temperature)
            found = draw_by_blocks(logits, numbers, temperature=temperature)
            assert torch.equal(found[0], tokens)
            torch.testing.assert_close(found[1], logprobs, rtol=0, atol=1e-12)
            assert bool(found[2])


def test_the_last_number_of_a_row_takes_a_token_that_can_be_drawn():
    """Sums in another order may end below it; the tail of the vocabulary is impossible."""
    logits = torch.full((300, 3000), float("-inf"))
    logits[:, :2100] = torch.randn(300, 2100, generator=torch.Generator().manual_seed(0))
    uniforms = torch.full((300,), 1 - 2**-53, dtype=torch.float64)
    tokens, logprobs, finite = draw_by_blocks(logits, uniforms, temperature=1.0)
    assert bool(finite)
    assert int(tokens.max()) < 2100
    assert bool(torch.isfinite(logprobs).all())


def test_logits_that_are_no_numbers_stop_the_run_after_the_loop():
    broken = toy_policy(steps=0)
    with torch.no_grad():
        broken.model.lm_head.weight[5, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="not finite"):
        sampled(HFRollout(max_new_tokens=9, decoding=Decoding.static), broken)


@pytest.mark.parametrize("decoding", [Decoding.dynamic, Decoding.static])
def test_a_copy_in_half_precision_follows_the_weights_and_leaves_them(decoding):
    policy = toy_policy().packed(Packing.shared_prefix, say=print)
    half = HFRollout(max_new_tokens=12, decoding=decoding, dtype=Dtype.bfloat16)
    before = [p.clone() for p in policy.model.parameters()]
    apart = []
    for _ in range(2):
        rollouts = sampled(half, policy)
        with torch.no_grad():
            again = policy.logprobs(rollouts).logprobs
        again = again.view_as(rollouts.rollout_logprobs)
        apart.append(float((again - rollouts.rollout_logprobs).abs().max()))
        assert rollouts.rollout_logprobs.dtype == torch.float32
        with torch.no_grad():
            policy.model.lm_head.weight.mul_(3)  # the next call must see it
    assert all(1e-5 < gap < 0.3 for gap in apart)
    copied = half._slot.copy
    assert copied is not None
    assert {p.dtype for p in copied.parameters()} == {torch.bfloat16}
    assert copied.model.rotary_emb.inv_freq.dtype == torch.float32
    kept = zip(policy.model.named_parameters(), before, strict=True)
    for (name, p), old in kept:
        assert p.requires_grad
        assert p.dtype == torch.float32
        assert torch.equal(p, old) or name in ("model.embed_tokens.weight", "lm_head.weight")


def test_what_cannot_be_decoded_so_is_refused_with_the_remedy():
    policy = toy_policy(steps=0)
    with pytest.raises(ValueError, match=r"cuda_graphs replays.*lies on cpu; set trainer\.device"):
        sampled(HFRollout(decoding=Decoding.cuda_graphs), policy)
    other = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(policy.tokenizer), n_embd=8, n_head=2, n_layer=1)
    )
    with pytest.raises(ValueError, match=r"static cannot take .*GPT2.*decoding=dynamic"):
        sampled(HFRollout(decoding=Decoding.static), replace(policy, model=other))
    policy.model.config.rope_parameters["rope_type"] = "dynamic"
    with pytest.raises(ValueError, match=r"rotary embedding \(dynamic\) changes"):
        sampled(HFRollout(decoding=Decoding.static), policy)
