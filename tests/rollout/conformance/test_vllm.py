"""Settings of rollout=vllm, and the traps of vLLM that its engine steps around, one test each."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.hf import Dtype
from rlcredit.rollout.sampled import Sampled
from rlcredit.rollout.vllm import StaleWeightsError, VLLMRollout
from rlcredit.types import Randomness
from tests.distributed.worlds import start
from tests.e2e.running import metrics, run
from tests.rollout.conformance import ranks
from tests.rollout.conformance.engines import (
    CAP,
    CONTEXT,
    HAS_VLLM,
    OVER_BLOCKS,
    PROMPTS,
    SHORT,
    fresh_policy,
    kept,
    update,
    vllm,
)
from tests.rollout.conformance.test_contract import (
    RANDOMNESS,
    TOLERANCE,
    generated,
    mismatch,
    responses,
    sample,
)

needs_vllm = pytest.mark.skipif(not HAS_VLLM, reason="vLLM is not installed; make test-vllm")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"temperature": 0.0}, "greedy"),
        ({"max_rows": 0}, "max_rows=0"),
        ({"dtype": Dtype.float64}, "dtype=float64.*float32"),
        ({"max_model_len": 32}, "max_model_len=32 leaves no room"),
        ({"kv_cache_gib": 0.0}, "kv_cache_gib=0.0 must be positive"),
        ({"check_every": 0}, "check_every=0"),
        ({"tolerance": 0.0}, "tolerance=0.0 must be positive"),
    ],
)
def test_settings_out_of_range_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        VLLMRollout(**settings)


@pytest.mark.skipif(HAS_VLLM, reason="vLLM is installed")
def test_without_vllm_the_error_says_how_to_get_it():
    with pytest.raises(ValueError, match=r"not installed.*make test-vllm.*rlcredit\[vllm\]"):
        VLLMRollout()


@needs_vllm
def test_starting_an_engine_leaves_the_process_as_it_was():
    set_threads, before = torch.set_num_threads, torch.get_num_threads()
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(2), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    sample(kept(max_new_tokens=2), fresh_policy(), SHORT)
    assert torch.set_num_threads is set_threads
    assert torch.get_num_threads() == before
    torch.set_num_threads(before + 1)
    assert torch.get_num_threads() == before + 1
    torch.set_num_threads(before)
    assert torch.equal(torch.rand(2), expected[0])
    assert np.random.rand() == expected[1]


@needs_vllm
@pytest.mark.parametrize("forgotten", ["weights", "prefix cache", "tied head"])
def test_what_is_stale_is_noticed(forgotten):
    """Each of the three steps of a push, left out."""
    engine, made = vllm(), fresh_policy()
    sample(engine, made, SHORT)
    inner = engine._slot.engine
    engine._slot.checked.clear()
    engine._assert_fresh(inner, made, 1000)  # caches the probe's blocks
    update(made, 1)
    if forgotten != "weights":
        weights = {"weights_iterator": iter(made.model.named_parameters())}
        inner.llm.collective_rpc("reload_weights", kwargs=weights)
    if forgotten == "prefix cache":
        from rlcredit.rollout.vllm_engine import _repack_tied_head

        inner.llm.apply_model(_repack_tied_head)
    else:
        assert inner.llm.reset_prefix_cache()
    with pytest.raises(StaleWeightsError, match=r"step 2000: .* stale"):
        engine._assert_fresh(inner, made, 2000)
    inner.push(made.model)
    engine._assert_fresh(inner, made, 3000)


@needs_vllm
def test_the_check_runs_at_the_first_call_and_every_k_steps():
    engine, made = kept(max_new_tokens=2, check_every=4), fresh_policy()
    for step in (1, 2, 3, 4, 4, 5, 8):
        engine(made, SHORT, group_size=1, randomness=Randomness(seed=0, step=step))
    assert engine._slot.checked == {1, 4, 8}


@needs_vllm
def test_many_seeded_requests_with_long_prompts_are_not_read_in_parts():
    """64 prompts of 270 tokens are more than the engine reads in one go."""
    made = fresh_policy()
    rollouts = sample(vllm(), made, OVER_BLOCKS, group_size=32)
    length = made.encode(OVER_BLOCKS)[0].shape[1]
    scheduler = vllm()._slot.engine.llm.llm_engine.vllm_config.scheduler_config
    assert 64 * length > scheduler.max_num_batched_tokens
    assert mismatch(made, rollouts) < TOLERANCE


@needs_vllm
def test_a_missing_or_foreign_response_raises():
    from rlcredit.rollout.vllm_engine import fill

    made = fresh_policy()
    sample(vllm(), made, SHORT)
    from vllm import SamplingParams

    prompts = [[5, 6, 7], [8, 9]]
    asked = [{"prompt_token_ids": prompt} for prompt in prompts]
    settings = SamplingParams(max_tokens=CAP, logprobs=0, detokenize=False)
    outputs = vllm()._slot.engine.llm.generate(asked, settings, use_tqdm=False)
    record = Sampled.empty(2, CAP, made, torch.device("cpu"))
    with pytest.raises(RuntimeError, match="1 responses to 2 requests"):
        fill(record, outputs[:-1], prompts)
    with pytest.raises(RuntimeError, match="to another prompt"):
        fill(record, outputs[::-1], prompts)
    fill(record, outputs, prompts)
    assert record.mask.any(1).all()


@needs_vllm
def test_adapters_are_merged_and_an_untied_head_is_pushed_too():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=285,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        initializer_range=0.2,
    )
    tokenizer = fresh_policy().tokenizer
    model = LlamaForCausalLM(config)
    adapters = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    policy = CausalLM(model=model, tokenizer=tokenizer, origin="test", adapters=adapters)
    engine = kept()
    for number in range(2):
        update(policy, number)  # the second matrix of an adapter starts at zero, and stays there
        with torch.no_grad():
            for name, p in model.named_parameters():
                if "lora_B" in name:
                    p.normal_(std=0.1, generator=torch.Generator().manual_seed(number))
        assert responses(sample(engine, policy, greedy=True)) == generated(policy)
        assert mismatch(policy, sample(engine, policy)) < TOLERANCE
    with pytest.raises(ValueError, match="started for another model"):
        sample(engine, fresh_policy())


@needs_vllm
def test_a_coarser_sampler_is_within_its_tolerance_and_not_exact():
    made = fresh_policy()
    engine = kept(dtype=Dtype.bfloat16)
    assert 1e-3 < mismatch(made, sample(engine, made)) < 0.5
    strict = kept(dtype=Dtype.bfloat16, tolerance=1e-5)
    with pytest.raises(StaleWeightsError, match=r"number format is coarser"):
        sample(strict, made)


@needs_vllm
def test_a_prompt_beyond_the_engine_s_length_is_named():
    engine = kept(max_model_len=64)
    with pytest.raises(ValueError, match=r"rollout.max_model_len=64; raise it"):
        engine(fresh_policy(), PROMPTS, group_size=1, randomness=RANDOMNESS)
    assert sample(engine, fresh_policy(), SHORT).texts


@needs_vllm
def test_an_engine_in_each_process_gives_the_responses_that_one_engine_gives(tmp_path):
    """Before and after an update, checked for freshness in each process."""
    fresh_policy().export(tmp_path / "policy")
    for processes in (1, 2):
        (tmp_path / str(processes)).mkdir()
        places = (tmp_path / "policy", tmp_path / str(processes))
        start(ranks.write, *places, processes=processes, timeout_s=240.0)
    for step in ranks.STEPS:
        one, first, second = (
            load_file(tmp_path / name) for name in (f"1/{step}-0", f"2/{step}-0", f"2/{step}-1")
        )
        both = {name: torch.cat([first[name], second[name]]) for name in one}
        assert both["mask"].sum() > len(PROMPTS) * ranks.GROUP
        assert torch.equal(both["mask"], one["mask"])
        assert torch.equal(both["ids"], one["ids"])
        torch.testing.assert_close(both["logprobs"], one["logprobs"], rtol=0, atol=TOLERANCE)


@needs_vllm
@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_a_run_of_two_processes_samples_with_an_engine_in_each(tmp_path, trainer):
    """Of weights in parts too: the test split is scored by the first process alone."""
    words = ("rollout=vllm", "rollout.kv_cache_gib=0.05", f"trainer={trainer}")
    few = ("trainer.processes=2", "trainer.steps=2", "policy.warm_start.steps=20")
    run(tmp_path, f"cache={tmp_path / 'cache'}", *words, *few, "evaluation.every=1")
    lines = metrics(tmp_path)[1:]
    assert len(lines) == 2
    for line in lines:
        assert line["mismatch/max_abs_logprob"] < 1e-3
        assert line["train/grad_norm"] > 0
