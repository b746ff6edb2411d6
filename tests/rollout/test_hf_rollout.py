"""Sampling: the right distribution, the same samples whatever the split, the right masks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.packing import Packing
from rlcredit.policy.vocabulary import Alphabet
from rlcredit.rollout.base import Rollout
from rlcredit.rollout.hf import HFRollout, draw
from rlcredit.types import Prompt, Randomness, Rollouts
from tests.policy.toy import toy_policy, toy_prompts, toy_task

RANDOMNESS = Randomness(seed=3, step=7)
RAGGED = tuple(
    Prompt(prompt_id=text, text=text, query=text, relevance={})
    for text in ("tent", "lamp for a long winter hike", "boots for two", "chair for small children")
)
"""Prompts of 2 to 7 tokens."""


@pytest.fixture(scope="module", params=list(Packing))
def policy(request: pytest.FixtureRequest) -> CausalLM:
    return toy_policy().packed(request.param, say=print)


@pytest.fixture(scope="module", params=list(Packing))
def exact(request: pytest.FixtureRequest) -> CausalLM:
    """The same in float64, sampled at its initial weights: flat, so responses of all lengths."""
    made = toy_policy(steps=0, dtype=torch.float64, extra_ends=50)
    return made.packed(request.param, say=print)


def sample(
    policy: CausalLM,
    prompts: Sequence[Prompt],
    *,
    group_size: int = 4,
    offset: int = 0,
    greedy: bool = False,
    max_new_tokens: int = 12,
    temperature: float = 1.0,
    max_rows: int = 256,
) -> Rollouts:
    engine = HFRollout(max_new_tokens=max_new_tokens, temperature=temperature, max_rows=max_rows)
    return engine(
        policy,
        prompts,
        group_size=group_size,
        randomness=RANDOMNESS,
        offset=offset,
        greedy=greedy,
    )


def responses(rollouts: Rollouts) -> list[list[int]]:
    ids, mask = rollouts.response_ids.flatten(0, 1), rollouts.response_mask.flatten(0, 1)
    return [row[kept].tolist() for row, kept in zip(ids, mask, strict=True)]


def direct_logprobs(
    policy: CausalLM, prompt: str, response: list[int], temperature: float
) -> Tensor:
    """From one unpadded forward pass over one row."""
    ids = [*policy.tokenizer(prompt)["input_ids"], *response]
    logits = policy.model(input_ids=torch.tensor([ids])).logits[0]
    logprobs = (logits / temperature).log_softmax(-1)[len(ids) - len(response) - 1 : -1]
    return logprobs.gather(1, torch.tensor(response)[:, None]).squeeze(1).detach()


def test_the_engine_is_a_rollout():
    assert isinstance(HFRollout(), Rollout)


def test_greedy_responses_are_those_of_generate(policy: CausalLM):
    rollouts = sample(policy, RAGGED, group_size=1, greedy=True)
    ids, mask = policy.encode(RAGGED)
    theirs = policy.model.generate(
        input_ids=ids, attention_mask=mask.long(), do_sample=False, max_new_tokens=12
    )[:, ids.shape[1] :]
    for ours, row in zip(responses(rollouts), theirs.tolist(), strict=True):
        assert row[: len(ours)] == ours
        assert set(row[len(ours) :]) <= {policy.tokenizer.pad_token_id}
    assert len({len(row) for row in responses(rollouts)}) > 1


def test_sampler_and_trainer_agree_on_log_probs_in_float64(exact: CausalLM):
    for temperature in (1.0, 0.6):
        rollouts = sample(exact, RAGGED, temperature=temperature)
        again = exact.logprobs(rollouts).logprobs.view_as(rollouts.rollout_logprobs)
        assert rollouts.rollout_logprobs.dtype == torch.float64
        torch.testing.assert_close(again, rollouts.rollout_logprobs, rtol=0, atol=1e-9)


def test_sampler_and_trainer_agree_on_log_probs_in_float32(policy: CausalLM):
    rollouts = sample(policy, RAGGED)
    again = policy.logprobs(rollouts).logprobs.view_as(rollouts.rollout_logprobs)
    # rounding of float32, 6e-8, times the 32 terms of a sum, times logits of up to 5
    torch.testing.assert_close(again, rollouts.rollout_logprobs, rtol=0, atol=1e-5)


def test_log_probs_are_those_of_one_unpadded_row_at_the_temperature(exact: CausalLM):
    rollouts = sample(exact, RAGGED, temperature=0.6, group_size=2)
    flat = rollouts.rollout_logprobs.flatten(0, 1)
    for row, response in enumerate(responses(rollouts)):
        expected = direct_logprobs(exact, RAGGED[row // 2].text, response, 0.6)
        torch.testing.assert_close(flat[row, : len(response)], expected, rtol=0, atol=1e-9)


def test_each_token_is_the_inverse_distribution_at_its_own_uniform_number(exact: CausalLM):
    rollouts = sample(exact, RAGGED, group_size=2, offset=5, temperature=0.8)
    for row, response in enumerate(responses(rollouts)):
        generator = RANDOMNESS.generator("rollout", 5 * 2 + row)
        uniforms = torch.rand(12, generator=generator, dtype=torch.float64).tolist()
        ids = list(exact.tokenizer(RAGGED[row // 2].text)["input_ids"])
        for token, uniform in zip(response, uniforms, strict=False):
            logits = exact.model(input_ids=torch.tensor([ids])).logits[0, -1]
            below = (logits / 0.8).softmax(-1).cumsum(-1)
            assert int((below <= uniform).sum()) == token
            ids.append(token)


def test_every_split_of_the_batch_gives_the_same_samples(exact: CausalLM):
    whole = sample(exact, RAGGED, group_size=6)
    lengths = {len(row) for row in responses(whole)}
    assert len(lengths) > 4, "rows must leave the batch at different times"
    assert not bool(whole.finished.all())
    assert bool(whole.finished.any())
    for max_rows in (1, 4, 7, 12):
        chunked = sample(exact, RAGGED, group_size=6, max_rows=max_rows)
        assert responses(chunked) == responses(whole)
        torch.testing.assert_close(chunked.rollout_logprobs, whole.rollout_logprobs)
    split = [sample(exact, [prompt], group_size=6, offset=p) for p, prompt in enumerate(RAGGED)]
    assert [row for part in split for row in responses(part)] == responses(whole)
    assert [part.texts[0] for part in split] == list(whole.texts)


def test_samples_depend_on_seed_step_and_place_and_on_nothing_else(exact: CausalLM):
    torch.manual_seed(0)
    first = sample(exact, RAGGED)
    torch.manual_seed(1)
    assert responses(sample(exact, RAGGED)) == responses(first)
    assert responses(sample(exact, RAGGED, offset=1)) != responses(first)
    assert len({tuple(row) for row in responses(first)[:4]}) == 4
    engine = HFRollout(max_new_tokens=12)
    for other in (Randomness(seed=3, step=8), Randomness(seed=4, step=7)):
        assert responses(engine(exact, RAGGED, group_size=4, randomness=other)) != responses(first)


def test_samples_follow_the_model_s_distribution(policy: CausalLM):
    prompts, num_rows = toy_prompts()[:1], 4000
    rollouts = sample(policy, prompts, group_size=num_rows, max_new_tokens=1, temperature=2.0)
    ids, mask = policy.encode(prompts)
    expected = (policy.model(input_ids=ids).logits[0, -1].detach() / 2).softmax(-1).double()
    observed = torch.bincount(rollouts.response_ids.flatten(), minlength=len(expected)) / num_rows
    error = (expected * (1 - expected) / num_rows).sqrt()
    assert bool(mask.all())
    assert float(expected.max()) < 0.9
    assert float(((observed - expected).abs() / (error + 1 / num_rows)).max()) < 4.5


def test_a_response_ends_with_its_first_end_token_and_no_sooner(exact: CausalLM):
    rollouts = sample(exact, RAGGED, group_size=6)
    for response, finished in zip(
        responses(rollouts), rollouts.finished.flatten().tolist(), strict=True
    ):
        ends = [token in exact.eos_ids for token in response]
        assert ends.index(True) == len(ends) - 1 if finished else not any(ends)
        assert finished or len(response) == 12
    outside = ~rollouts.response_mask
    assert set(rollouts.response_ids[outside].tolist()) == {exact.tokenizer.pad_token_id}
    assert float(rollouts.rollout_logprobs[outside].abs().max()) == 0.0
    assert rollouts.response_mask.shape[2] == max(len(row) for row in responses(rollouts))


def test_an_empty_response_is_one_end_token_and_no_text():
    made = toy_policy(steps=0)
    with torch.no_grad():
        # hidden states of a constant sign, and an end token whose logit they make the largest
        made.model.model.norm.weight.zero_()
        made.model.model.norm.weight[0] = 1e4
        made.model.lm_head.weight[:, 0] = 1.0
        made.model.lm_head.weight[made.tokenizer.eos_token_id, 0] = 2.0
    prompts = [replace(RAGGED[0], text="tent")]
    sign = made.model.model(input_ids=made.encode(prompts)[0]).last_hidden_state[0, -1, 0].item()
    with torch.no_grad():
        made.model.model.norm.weight[0] *= 1 if sign > 0 else -1
    rollouts = sample(made, prompts)
    assert rollouts.texts == (("", "", "", ""),)
    assert responses(rollouts) == [[made.tokenizer.eos_token_id]] * 4
    assert rollouts.char_spans.tolist() == [[[[0, 0]]] * 4]
    assert bool(rollouts.finished.all())


def test_the_character_spans_of_the_tokens_tile_the_text(policy: CausalLM):
    rollouts = sample(policy, RAGGED)
    for p, group in enumerate(rollouts.texts):
        for g, text in enumerate(group):
            spans = rollouts.char_spans[p, g].tolist()
            assert "".join(text[start:end] for start, end in spans) == text
            assert "<" not in text


@pytest.mark.parametrize("alphabet", Alphabet)
def test_spans_tile_what_an_untaught_policy_of_either_alphabet_writes(alphabet: Alphabet):
    rollouts = sample(toy_policy(steps=0, alphabet=alphabet), RAGGED, group_size=16)
    mixed = [text for group in rollouts.texts for text in group if " " in text and "," in text]
    assert len(mixed) > 1
    for p, group in enumerate(rollouts.texts):
        for g, text in enumerate(group):
            spans = rollouts.spans[p, g][rollouts.response_mask[p, g]].tolist()
            reached = 0
            for start, end in spans:
                assert start in (reached, reached - 1)  # bytes of one character share it
                assert end >= start
                reached = end
            assert reached == len(text)


def test_train_mode_is_left_as_it_was_and_dropout_is_off_while_sampling():
    policy = toy_policy(steps=0)
    policy.model.train()
    for layer in policy.model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    policy.model.model.norm.eval()
    noisy = sample(policy, RAGGED)
    assert policy.model.training
    assert not policy.model.model.norm.training
    policy.model.eval()
    again = sample(policy, RAGGED)
    assert responses(noisy) == responses(again)
    assert not policy.model.training


def test_what_was_sampled_can_enter_a_gradient(policy: CausalLM):
    rollouts = sample(policy, RAGGED)
    scored = policy.logprobs(rollouts).logprobs.view_as(rollouts.rollout_logprobs)
    ratio = (scored - rollouts.rollout_logprobs).exp() * rollouts.response_mask
    ratio.sum().backward()
    grads = [p.grad for p in policy.model.parameters()]
    assert all(grad is not None and bool(torch.isfinite(grad).all()) for grad in grads)
    policy.model.zero_grad()


def test_drawing_takes_the_token_whose_stretch_of_the_unit_interval_holds_the_number():
    logits = torch.tensor([[0.2, 0.5, 0.0, 0.3]]).log().repeat(6, 1)
    uniforms = torch.tensor([0.0, 0.1999, 0.2, 0.6999, 0.7001, 1 - 2**-53], dtype=torch.float64)
    tokens, logprobs = draw(logits, uniforms, temperature=1.0)
    assert tokens.tolist() == [0, 0, 1, 1, 3, 3]
    expected = torch.tensor([0.2, 0.2, 0.5, 0.5, 0.3, 0.3], dtype=torch.float64).log()
    torch.testing.assert_close(logprobs, expected, rtol=0, atol=1e-6)


def test_a_temperature_sharpens_the_distribution_that_is_drawn_from():
    logits = torch.tensor([[0.2, 0.8]], dtype=torch.float64).log()
    cold = torch.tensor([0.2**2, 0.8**2]) / (0.2**2 + 0.8**2)
    for uniform, expected in ((float(cold[0]) - 1e-3, 0), (float(cold[0]) + 1e-3, 1)):
        tokens, logprobs = draw(
            logits, torch.tensor([uniform], dtype=torch.float64), temperature=0.5
        )
        assert tokens.tolist() == [expected]
        assert float(logprobs.exp()) == pytest.approx(float(cold[expected]))


def test_logits_that_are_no_numbers_stop_the_run():
    bad = torch.tensor([[0.0, float("nan")]])
    for uniforms in (None, torch.zeros(1, dtype=torch.float64)):
        with pytest.raises(FloatingPointError, match="not finite"):
            draw(bad, uniforms, temperature=1.0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"temperature": 0.0}, "greedy"),
        ({"temperature": float("inf")}, "temperature=inf"),
        ({"max_rows": 0}, "max_rows=0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, said: str):
    with pytest.raises(ValueError, match=said):
        HFRollout(**settings)


def test_greedy_siblings_and_empty_batches_are_refused(policy: CausalLM):
    with pytest.raises(ValueError, match="group_size=1"):
        sample(policy, RAGGED, group_size=2, greedy=True)
    with pytest.raises(ValueError, match="at least one prompt"):
        sample(policy, [])


def test_a_prompt_that_leaves_no_room_for_a_response_is_named(policy: CausalLM):
    long = replace(RAGGED[0], prompt_id="endless", text="tent" + " tent" * 499)
    with pytest.raises(ValueError, match=r"'endless' has 501 tokens.*500 of the model's 512"):
        sample(policy, [RAGGED[1], long])
    assert sample(policy, [long], max_new_tokens=11).texts


def test_a_pretrained_model_samples_and_agrees_with_the_trainer(stories: CausalLM):
    prompts = [replace(RAGGED[0], text=text) for text in ("Once upon a time", "The big dog said")]
    rollouts = sample(stories, prompts, group_size=3, max_new_tokens=20)
    again = stories.logprobs(rollouts).logprobs.view_as(rollouts.rollout_logprobs)
    torch.testing.assert_close(again, rollouts.rollout_logprobs, rtol=0, atol=1e-9)
    greedy = sample(stories, prompts, group_size=1, greedy=True, max_new_tokens=20)
    ids, mask = stories.encode(prompts)
    theirs = stories.model.generate(
        input_ids=ids, attention_mask=mask.long(), do_sample=False, max_new_tokens=20
    )
    assert greedy.response_ids.flatten(0, 1).tolist() == theirs[:, ids.shape[1] :].tolist()
    assert "there was a little" in greedy.texts[0][0]


def test_the_characters_of_tokens_are_found_where_they_are_asked_for(policy: CausalLM):
    found = HFRollout(max_new_tokens=6)(
        policy, RAGGED, group_size=2, randomness=RANDOMNESS, spans=False
    )
    assert found.char_spans is None
    assert found.texts == sample(policy, RAGGED, group_size=2, max_new_tokens=6).texts
    with pytest.raises(ValueError, match="sampled for their texts alone"):
        _ = found.spans


@pytest.fixture(scope="module")
def stories() -> CausalLM:
    from rlcredit.policy.hf import HF, Dtype

    folder = Path(__file__).parents[2] / "../shared/data/stories260k"
    if not folder.exists():
        pytest.skip(f"the pretrained model is not at {folder}")
    return HF(name=str(folder), dtype=Dtype.float64).load(
        toy_task(), seed=0, cache=Path(), device=torch.device("cpu"), say=lambda line: None
    )


def test_both_ways_of_remembering_give_the_same_samples():
    policy = toy_policy(steps=0, dtype=torch.float64, extra_ends=50)
    found = [
        sample(policy.packed(packing, say=print), RAGGED, group_size=6, max_rows=rows)
        for packing in Packing
        for rows in (256, 4)
    ]
    for other in found[1:]:
        assert responses(other) == responses(found[0])
        torch.testing.assert_close(other.rollout_logprobs, found[0].rollout_logprobs)
