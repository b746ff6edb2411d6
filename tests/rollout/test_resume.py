"""Responses that go on from given tokens: the policy's own, in every split, within the cap."""

import pytest
import torch

from rlcredit.estimators import Vine
from rlcredit.policy.packing import Packing
from rlcredit.rollout.hf import HFRollout
from rlcredit.rollout.observe import continuations, observe
from rlcredit.scoring.scorer import Scorer
from rlcredit.text import Phrases, TextRules
from rlcredit.types import Prompt, Randomness
from tests.policy.toy import toy_policy
from tests.rollout.toy import Letters

RANDOMNESS = Randomness(seed=3, step=7)
CAP = 14
PROMPTS = tuple(
    Prompt(prompt_id=text, text=text, query=text, relevance={})
    for text in ("tent", "lamp for a long winter hike", "boots for two")
)


@pytest.fixture(scope="module", params=list(Packing))
def exact(request):
    """In float64, at its initial weights: flat, so that responses of all lengths come."""
    made = toy_policy(steps=0, dtype=torch.float64, extra_ends=50)
    return made.packed(request.param, say=print)


def engine(**settings):
    return HFRollout(**({"max_new_tokens": CAP, "temperature": 1.3} | settings))


@pytest.fixture(scope="module")
def sampled(exact):
    return engine()(exact, PROMPTS, group_size=3, randomness=RANDOMNESS)


def begun(sampled):
    """A prompt, what a response to it begins with, and a number, for some prefixes of each."""
    found = []
    for p, prompt in enumerate(PROMPTS):
        for g in range(3):
            length = int(sampled.response_mask[p, g].sum())
            for cut in sorted({0, 1, length - 1}):
                prefix = sampled.response_ids[p, g, :cut].tolist()
                found.append((prompt, prefix, (p * 3 + g) * CAP + cut))
    return found


def go_on(policy, cases, *, count=2, **settings):
    prompts, prefixes, numbers = zip(*cases, strict=True)
    return engine(**settings).resume(
        policy, prompts, prefixes, count=count, randomness=RANDOMNESS, indices=numbers
    )


def test_responses_begin_with_what_is_given_and_are_the_policy_s_own(exact, sampled):
    cases = begun(sampled)
    found = go_on(exact, cases)
    scored = exact.logprobs(found).logprobs.view_as(found.rollout_logprobs)
    for row, (prompt, prefix, _) in enumerate(cases):
        ids, mask = exact.encode([prompt])
        own = found.prompt_ids[row][found.prompt_mask[row]]
        assert own.tolist() == ids[0][mask[0]].tolist()
        for n in range(2):
            there = found.response_mask[row, n]
            length, cut = int(there.sum()), len(prefix)
            assert cut < length <= CAP
            assert found.response_ids[row, n, :cut].tolist() == prefix
            assert (found.rollout_logprobs[row, n, :cut] == 0).all()
            drawn = slice(cut, length)
            torch.testing.assert_close(
                found.rollout_logprobs[row, n, drawn], scored[row, n, drawn], rtol=0, atol=1e-9
            )
            last = int(found.response_ids[row, n, length - 1])
            assert bool(found.finished[row, n]) == (last in exact.eos_ids)
            assert last in exact.eos_ids or length == CAP
            text = exact.tokenizer.decode(
                found.response_ids[row, n, :length], skip_special_tokens=True
            )
            assert found.texts[row][n] == text
    lengths = found.response_mask.sum(-1)
    assert (lengths == CAP).any()
    assert (lengths < CAP).any()


def test_every_split_gives_the_same_responses_and_numbers_give_others(exact, sampled):
    cases = begun(sampled)
    whole = go_on(exact, cases)
    for settings in ({"max_rows": 1}, {"max_rows": 5}):
        assert go_on(exact, cases, **settings).texts == whole.texts
    for part in (slice(0, 4), slice(4, 5), slice(5, None)):
        assert go_on(exact, cases[part]).texts == whole.texts[part]
    elsewhere = [(prompt, prefix, number + 1000) for prompt, prefix, number in cases]
    assert go_on(exact, elsewhere).texts != whole.texts
    assert any(len(set(texts)) == 2 for texts in whole.texts)


def test_from_nothing_on_it_samples_what_a_rollout_does(exact):
    """Mean length of many responses from either, within four standard errors of the difference."""
    count = 200
    fresh = engine()(exact, PROMPTS[:1], group_size=count, randomness=RANDOMNESS)
    found = go_on(exact, [(PROMPTS[0], [], 0)], count=count)
    lengths = [r.response_mask.sum(-1).double().flatten() for r in (fresh, found)]
    error = sum(x.var() / count for x in lengths) ** 0.5
    assert abs(lengths[0].mean() - lengths[1].mean()) < 4 * error


def test_a_prefix_without_room_and_an_empty_request_are_refused(exact, sampled):
    with pytest.raises(ValueError, match=r"rollout\.max_new_tokens=14 leaves no room"):
        go_on(exact, [(PROMPTS[0], [5] * CAP, 0)])
    with pytest.raises(ValueError, match="at least one"):
        engine().resume(exact, [], [], count=1, randomness=RANDOMNESS, indices=[])


SCORER = Scorer(reward=Letters(), rules=TextRules(), segmenter=Phrases())


def continued(policy, rollouts, *, offset=0):
    return continuations(
        policy,
        rollouts,
        SCORER.segments(rollouts),
        rollout=engine(),
        count=2,
        randomness=RANDOMNESS,
        offset=offset,
    )


def test_texts_go_on_before_each_segment_and_draw_by_their_global_place(exact):
    rollouts = engine()(exact, PROMPTS, group_size=8, randomness=RANDOMNESS)
    found = continued(exact, rollouts)
    segments = SCORER.segments(rollouts)
    assert found.states
    for (p, g, k), texts in zip(found.states, found.texts, strict=True):
        assert k >= 1
        before = rollouts.texts[p][g][: int(segments.spans[p, g, k - 1, 1])]
        before = before.partition("\ufffd")[0]  # half a character may become a whole one
        assert all(text.startswith(before) for text in texts)
    own = engine()(exact, PROMPTS[1:], group_size=8, randomness=RANDOMNESS, offset=1)
    assert own.texts == rollouts.texts[1:]
    part = continued(exact, own, offset=1)
    later = [(s, t) for s, t in zip(found.states, found.texts, strict=True) if s[0] >= 1]
    assert [((p + 1, g, k), t) for (p, g, k), t in zip(part.states, part.texts, strict=True)] == (
        later
    )


def test_values_are_mean_rewards_and_everything_is_counted(exact):
    rollouts = engine()(exact, PROMPTS, group_size=8, randomness=RANDOMNESS)
    needs = Vine(samples=2).needs
    seen = observe(
        exact,
        rollouts,
        needs,
        rollout=engine(),
        scorer=SCORER,
        randomness=RANDOMNESS,
        offset=0,
        chunks=[],
    )
    signals = SCORER(rollouts, needs, randomness=RANDOMNESS, seen=seen)
    states = seen.continuations.states
    for state, texts in zip(states, seen.continuations.texts, strict=True):
        rewards = Letters()([PROMPTS[state[0]]] * 2, list(texts))
        torch.testing.assert_close(signals.state_values[state], rewards.mean())
    elsewhere = torch.ones_like(signals.state_values, dtype=torch.bool)
    elsewhere[tuple(torch.tensor(states).T)] = False
    assert (signals.state_values[elsewhere] == 0).all()
    assert signals.num_evaluations == 24 + 2 * len(states)
    assert signals.num_extra_tokens == seen.continuations.num_tokens >= 2 * len(states)
