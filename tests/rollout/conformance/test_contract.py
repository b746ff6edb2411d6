"""What every rollout engine promises. Run for rollout=hf always, for rollout=vllm where it is."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from rlcredit.policy.causal_lm import CausalLM
from rlcredit.rollout.base import Rollout
from rlcredit.rollout.sampled import Sampled
from rlcredit.types import Prompt, Randomness, Rollouts
from tests.rollout.conformance.engines import (
    BLOCK,
    CAP,
    ENGINES,
    MAKERS,
    OVER_BLOCKS,
    PROMPTS,
    SHORT,
    fresh_policy,
    prompt,
    update,
)

RANDOMNESS = Randomness(seed=3, step=7)
TOLERANCE = 5e-5


@pytest.fixture(params=ENGINES, ids=lambda cls: cls.__name__)
def maker(request):
    return MAKERS[request.param]


@pytest.fixture(scope="module")
def policy() -> CausalLM:
    return fresh_policy()


@pytest.fixture(scope="module")
def ragged() -> CausalLM:
    """Many tokens end a response of this one."""
    return fresh_policy(extra_ends=60)


def sample(
    engine: Rollout,
    policy: CausalLM,
    prompts: Sequence[Prompt] = PROMPTS,
    *,
    group_size: int = 4,
    offset: int = 0,
    greedy: bool = False,
    randomness: Randomness = RANDOMNESS,
) -> Rollouts:
    return engine(
        policy,
        prompts,
        group_size=1 if greedy else group_size,
        randomness=randomness,
        offset=offset,
        greedy=greedy,
    )


def responses(rollouts: Rollouts) -> list[list[int]]:
    ids, mask = rollouts.response_ids.flatten(0, 1), rollouts.response_mask.flatten(0, 1)
    return [row[kept].tolist() for row, kept in zip(ids, mask, strict=True)]


def generated(policy: CausalLM, prompts: Sequence[Prompt] = PROMPTS) -> list[list[int]]:
    """Greedy responses by transformers' own generate, one prompt at a time."""
    found = []
    for one in prompts:
        ids, mask = policy.encode([one])
        row = policy.model.generate(
            input_ids=ids,
            attention_mask=mask.long(),
            do_sample=False,
            max_new_tokens=CAP,
            eos_token_id=sorted(policy.eos_ids),
        )[0, ids.shape[1] :]
        found.append(row.tolist())
    return found


def mismatch(policy: CausalLM, rollouts: Rollouts) -> float:
    """Largest difference between the engine's log-probs and the trainer's."""
    with torch.no_grad():
        again = policy.logprobs(rollouts).logprobs.view_as(rollouts.rollout_logprobs)
    return float((again - rollouts.rollout_logprobs).abs().max())


def test_it_is_a_rollout_and_the_prompts_fill_cache_blocks(maker, policy):
    assert isinstance(maker(), Rollout)
    lengths = policy.encode(PROMPTS)[1].sum(1)
    assert int(lengths[: len(SHORT)].max()) < BLOCK
    assert int(lengths[len(SHORT) :].min()) > 2 * BLOCK


def test_greedy_responses_are_those_of_generate(maker, policy, ragged):
    for made in (policy, ragged):
        assert responses(sample(maker(), made, greedy=True)) == generated(made)


def test_sampler_and_trainer_agree_on_log_probs(maker, policy, ragged):
    for temperature in (1.0, 0.7):
        for made in (policy, ragged):
            engine = maker(temperature=temperature)
            assert mismatch(made, sample(engine, made)) < TOLERANCE
            assert mismatch(made, sample(engine, made, greedy=True)) < TOLERANCE


def test_a_temperature_is_applied_once(maker, policy):
    """The log-probs are those at 0.7, and the tokens are drawn from that very distribution."""
    num_rows, engine = 2000, maker(temperature=0.7, max_new_tokens=1)
    rollouts = sample(engine, policy, SHORT[:1], group_size=num_rows)
    assert rollouts.temperature == 0.7
    logits = policy.model(input_ids=policy.encode(SHORT[:1])[0]).logits[0, -1].detach().double()
    expected = (logits / 0.7).softmax(-1)
    observed = torch.bincount(rollouts.response_ids.flatten(), minlength=len(expected)) / num_rows
    deviation = (expected * (1 - expected) / num_rows).sqrt() + 1 / num_rows
    assert float(((observed - expected).abs() / deviation).max()) < 4.5
    plain = logits.softmax(-1)
    assert float(((observed - plain).abs() / deviation).max()) > 6
    assert float(expected.max()) < 0.9


def test_weights_are_fresh_after_each_update(maker):
    """The prompts are the same each time, so that a cache of old keys and values would be hit."""
    made, seen = fresh_policy(), []
    for number in range(3):  # two updates
        greedy = responses(sample(maker(), made, OVER_BLOCKS, greedy=True))
        assert greedy == generated(made, OVER_BLOCKS)
        assert mismatch(made, sample(maker(), made, OVER_BLOCKS)) < TOLERANCE
        seen.append(greedy)
        update(made, number)
    assert seen[0] != seen[1] != seen[2]


def test_every_split_of_the_batch_gives_the_same_samples(maker, ragged):
    whole = sample(maker(), ragged, group_size=6)
    assert len({len(row) for row in responses(whole)}) > 3
    few = sample(maker(max_rows=5), ragged, group_size=6)
    assert responses(few) == responses(whole)
    torch.testing.assert_close(few.rollout_logprobs, whole.rollout_logprobs, rtol=0, atol=TOLERANCE)
    split = [
        sample(maker(), ragged, [one], group_size=6, offset=index)
        for index, one in enumerate(PROMPTS)
    ]
    assert [row for part in split for row in responses(part)] == responses(whole)


def test_samples_depend_on_seed_step_and_place_and_move_no_global_stream(maker, policy):
    torch.manual_seed(0)
    first = responses(sample(maker(), policy))
    following = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3), following)
    assert responses(sample(maker(), policy)) == first
    assert len({tuple(row) for row in first[:4]}) == 4
    others = (Randomness(seed=3, step=8), Randomness(seed=4, step=7))
    for other in others:
        assert responses(sample(maker(), policy, randomness=other)) != first
    assert responses(sample(maker(), policy, offset=1)) != first


def test_responses_go_on_from_given_tokens_with_the_policy_s_probabilities(maker, ragged):
    begun = sample(maker(), ragged)
    cases = [
        (one, begun.response_ids[p, 0, :cut].tolist(), p * CAP + cut)
        for p, one in enumerate(PROMPTS)
        for cut in sorted({0, 1, int(begun.response_mask[p, 0].sum()) - 1})
    ]

    def go_on(part):
        prompts, prefixes, numbers = zip(*cases[part], strict=True)
        return maker().resume(
            ragged, prompts, prefixes, count=3, randomness=RANDOMNESS, indices=numbers
        )

    found = go_on(slice(None))
    with torch.no_grad():
        again = ragged.logprobs(found).logprobs.view_as(found.rollout_logprobs)
    for row, (_, prefix, _) in enumerate(cases):
        for n in range(3):
            own = found.response_ids[row, n][found.response_mask[row, n]].tolist()
            assert own[: len(prefix)] == prefix
            assert len(prefix) < len(own) <= CAP
            assert (own[-1] in ragged.eos_ids) == bool(found.finished[row, n])
            drawn = slice(len(prefix), len(own))
            gap = again[row, n, drawn] - found.rollout_logprobs[row, n, drawn]
            assert gap.abs().max() < TOLERANCE
    parts = [go_on(slice(0, 2)), go_on(slice(2, None))]
    assert responses(found) == [row for part in parts for row in responses(part)]


def test_a_response_ends_with_the_first_of_several_end_tokens_or_at_the_cap(maker, ragged):
    rollouts = sample(maker(), ragged, group_size=8)
    last = set()
    for row, finished in zip(responses(rollouts), rollouts.finished.flatten(), strict=True):
        ends = [token in ragged.eos_ids for token in row]
        assert sum(ends) == int(finished)
        assert ends[-1] if finished else len(row) == CAP
        last.add(row[-1])
    assert len(last & ragged.eos_ids) > 3
    assert not bool(rollouts.finished.all())
    outside = ~rollouts.response_mask
    assert set(rollouts.response_ids[outside].tolist()) == {ragged.tokenizer.pad_token_id}
    assert float(rollouts.rollout_logprobs[outside].abs().max()) == 0.0


def test_train_mode_is_left_as_it_was_and_dropout_is_off(maker):
    made = fresh_policy()
    quiet = responses(sample(maker(), made, SHORT))
    made.model.train()
    for layer in made.model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    made.model.model.norm.eval()
    assert responses(sample(maker(), made, SHORT)) == quiet
    assert made.model.training
    assert not made.model.model.norm.training
    assert all(p.requires_grad for p in made.model.parameters())


def test_texts_are_the_decoded_tokens(maker, policy):
    rollouts = sample(maker(), policy, SHORT)
    decoded = policy.tokenizer.batch_decode(responses(rollouts), skip_special_tokens=True)
    assert [text for group in rollouts.texts for text in group] == decoded


def test_what_cannot_be_sampled_is_refused(maker, policy):
    with pytest.raises(ValueError, match="at least one prompt"):
        sample(maker(), policy, [])
    with pytest.raises(ValueError, match="group_size=1"):
        maker()(policy, SHORT, group_size=2, randomness=RANDOMNESS, greedy=True)
    with pytest.raises(ValueError, match=r"'tent tent.*tokens"):
        sample(maker(), policy, [prompt(" ".join(["tent"] * 600))])


def test_a_short_result_raises(maker, ragged):
    """A response that was cut off, and one that is missing."""
    rollouts = sample(maker(), ragged, SHORT, group_size=2)
    whole = Sampled(
        ids=rollouts.response_ids.flatten(0, 1),
        mask=rollouts.response_mask.flatten(0, 1),
        logprobs=rollouts.rollout_logprobs.flatten(0, 1),
        finished=rollouts.finished.flatten(),
    )
    ids, mask = ragged.encode(SHORT)
    arguments = (ragged, SHORT, ids, mask)
    assert whole.rollouts(*arguments, temperature=1.0).texts == rollouts.texts
    row = int(whole.mask.sum(1).argmax())
    for kept in (0, 1):
        cut = whole.mask.clone()
        cut[row, kept:] = False
        with pytest.raises(RuntimeError, match=rf"1 of 4 .* row {row}, with {kept} tokens"):
            replace(whole, mask=cut).rollouts(*arguments, temperature=1.0)
