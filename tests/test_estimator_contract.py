"""The promises of every estimator. A new one is found by its YAML file."""

import re
from dataclasses import fields, replace

import pytest
import torch

from rlcredit.estimators.base import AdvantageEstimator, Centring, Grain
from rlcredit.types import CoalitionGame, Signals
from tests.composing import built, names
from tests.strategies import make_signals

ESTIMATORS = names("estimator")
NOT_SHIFT_INVARIANT = {
    "maxrl": "divides by the group's mean reward",
    "otb_released": "has no baseline beyond the second longest response",
    "winner_takes_all": "pays the winner K times its reward and the others nothing",
}
NOT_EQUIVARIANT = {"random_credit": "draws its credit by position in the batch"}
READS_OTHER_PROMPTS = {"ospo_released": "clips at the batch's standard deviation"}


@pytest.fixture(params=ESTIMATORS)
def name(request):
    return request.param


@pytest.fixture
def estimator(name):
    return built("estimator", name)


def signals_of(estimator, **kwargs):
    """A batch with all that the estimator needs, in groups that are large enough for it."""
    return make_signals(estimator.needs, group_size=max(4, estimator.smallest_group), **kwargs)


def apply(signals, change):
    """The signals with every tensor of theirs changed, nested ones included."""
    if isinstance(signals, torch.Tensor):
        return change(signals)
    if not hasattr(signals, "__dataclass_fields__"):
        return signals
    if not isinstance(signals, Signals | CoalitionGame) and not any(
        isinstance(getattr(signals, f.name), torch.Tensor) for f in fields(signals)
    ):
        return signals
    return replace(
        signals, **{f.name: apply(getattr(signals, f.name), change) for f in fields(signals)}
    )


def shifted(signals, by):
    """One constant more in every reward of a rollout, a candidate or a non-empty coalition."""
    changed = replace(signals, rewards=signals.rewards + by)
    if signals.candidates is not None:
        rewards = torch.where(
            signals.candidates.mask, signals.candidates.rewards + by, signals.candidates.rewards
        )
        changed = replace(changed, candidates=replace(signals.candidates, rewards=rewards))
    if signals.state_values is not None:
        changed = replace(changed, state_values=signals.state_values + by)
    return changed


def test_it_is_an_estimator(estimator):
    assert isinstance(estimator, AdvantageEstimator)
    assert isinstance(estimator.grain, Grain)
    assert isinstance(estimator.centring, Centring)


def test_advantages_are_zero_outside_the_response_and_finite_inside(estimator):
    signals = signals_of(estimator)
    values = estimator(signals).values
    assert torch.isfinite(values).all()
    assert (values[~signals.response_mask] == 0).all()
    assert (values[signals.response_mask] != 0).any()


def test_equal_rewards_give_finite_advantages(estimator):
    signals = signals_of(estimator)
    if signals.candidates is not None:
        # Equal rewards of the set, from candidates that differ.
        rewards = signals.candidates.rewards.clone()
        rewards[:, :, 0] = 1.0
        signals = replace(signals, candidates=replace(signals.candidates, rewards=rewards))
    signals = replace(signals, rewards=torch.ones_like(signals.rewards))
    values = estimator(signals).values
    assert torch.isfinite(values).all()
    assert values.abs().max() < 20
    if estimator.needs.skips_equal_groups:
        assert (values == 0).all()


def test_a_constant_added_to_the_rewards_changes_nothing(estimator, name):
    if name in NOT_SHIFT_INVARIANT:
        pytest.skip(NOT_SHIFT_INVARIANT[name])
    signals = signals_of(estimator, dtype=torch.float64)
    if signals.candidates is not None:
        signals = with_all_candidates(signals)
    before, after = estimator(signals).values, estimator(shifted(signals, 0.75)).values
    torch.testing.assert_close(after, before, rtol=0, atol=1e-9)


def with_all_candidates(signals):
    """Every response lists as many candidates as it should, so that none falls back."""
    mask = torch.ones_like(signals.candidates.mask)
    rewards = torch.where(signals.candidates.mask, signals.candidates.rewards, 0.25)
    candidates = replace(signals.candidates, mask=mask, rewards=rewards)
    return replace(signals, candidates=candidates, rewards=rewards.amax(dim=-1))


def test_permuting_the_group_permutes_the_advantages(estimator, name):
    if name in NOT_EQUIVARIANT:
        pytest.skip(NOT_EQUIVARIANT[name])
    signals = signals_of(estimator, dtype=torch.float64)
    order = torch.tensor([2, 0, 3, 1, *range(4, signals.rewards.shape[1])])
    permuted = apply(signals, lambda tensor: tensor[:, order])
    expected = estimator(signals).values[:, order]
    torch.testing.assert_close(estimator(permuted).values, expected, rtol=0, atol=1e-9)


def test_prompts_do_not_leak_into_one_another(estimator, name):
    if name in READS_OTHER_PROMPTS:
        pytest.skip(READS_OTHER_PROMPTS[name])
    signals = signals_of(estimator, dtype=torch.float64)
    alone = apply(signals, lambda tensor: tensor[:1])
    changed = estimator(signals).values[:1]
    if name in NOT_EQUIVARIANT:
        first_prompts = apply(signals, lambda tensor: tensor)
        other = replace(first_prompts, rewards=signals.rewards * torch.tensor([[1.0], [3], [5]]))
        torch.testing.assert_close(estimator(other).values[:1], changed, rtol=0, atol=1e-12)
    else:
        torch.testing.assert_close(estimator(alone).values, changed, rtol=0, atol=1e-12)


def test_metrics_are_scalars_with_a_stage_and_a_name(estimator):
    metrics = estimator(signals_of(estimator)).metrics
    assert metrics
    for key, value in metrics.items():
        assert re.fullmatch(r"[a-z]+/[a-z0-9_]+", key), key
        assert value.shape == ()
        assert torch.isfinite(value)


def test_the_smallest_group_works_and_a_single_rollout_is_refused(estimator):
    smallest = estimator.smallest_group
    signals = make_signals(estimator.needs, group_size=smallest)
    assert torch.isfinite(estimator(signals).values).all()
    for too_small in {1, smallest - 1}:
        with pytest.raises(ValueError, match=r"trainer\.group_size"):
            estimator(make_signals(estimator.needs, group_size=too_small))


def test_an_empty_response_gets_nothing_and_breaks_nothing(estimator):
    signals = signals_of(estimator)
    mask, ids = signals.response_mask.clone(), signals.segments.ids.clone()
    mask[0, 1] = False
    ids[0, 1] = -1
    segments = replace(signals.segments, ids=ids)
    values = estimator(replace(signals, response_mask=mask, segments=segments)).values
    assert torch.isfinite(values).all()
    assert (values[0, 1] == 0).all()
    assert (values[0, 0][mask[0, 0]] != 0).any()


def test_responses_that_all_are_empty_have_finite_figures(estimator):
    signals = signals_of(estimator)
    nothing = torch.zeros_like(signals.response_mask)
    segments = replace(signals.segments, ids=torch.full_like(signals.segments.ids, -1))
    advantages = estimator(replace(signals, response_mask=nothing, segments=segments))
    assert (advantages.values == 0).all()
    assert all(torch.isfinite(value) for value in advantages.metrics.values())


def test_the_same_signals_give_the_same_advantages_and_stay_as_they_were(estimator):
    signals = signals_of(estimator)
    copy = apply(signals, torch.clone)
    first, second = estimator(signals).values, estimator(signals).values
    assert torch.equal(first, second)
    tensors = []
    apply(signals, lambda tensor: tensors.append(tensor) or tensor)
    copies = []
    apply(copy, lambda tensor: copies.append(tensor) or tensor)
    assert all(torch.equal(a, b) for a, b in zip(tensors, copies, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_is_kept(estimator, dtype):
    signals = signals_of(estimator, dtype=dtype)
    assert estimator(signals).values.dtype == dtype


def test_half_precision_rewards_are_credited_in_float32(estimator):
    signals = signals_of(estimator)
    half = replace(signals, rewards=signals.rewards.bfloat16())
    assert estimator(half).values.dtype == torch.float32


def test_a_signal_that_was_declared_is_read(estimator):
    needs = estimator.needs
    signals = signals_of(estimator)
    declared = {
        "game": needs.coalitions is not None,
        "candidates": needs.candidates,
        "embeddings": needs.embeddings,
        "state_values": needs.continuations > 0,
        "sum_pi_squared": needs.sum_pi_squared,
    }
    for signal in (field for field, asked in declared.items() if asked):
        with pytest.raises(ValueError, match=signal):
            estimator(replace(signals, **{signal: None}))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_is_refused(estimator, bad):
    signals = signals_of(estimator)
    if signals.candidates is not None:
        rewards = signals.candidates.rewards.clone()
        rewards[1, 2, 0] = bad
        wrong = replace(signals, candidates=replace(signals.candidates, rewards=rewards))
    else:
        rewards = signals.rewards.clone()
        rewards[1, 2] = bad
        wrong = replace(signals, rewards=rewards)
    with pytest.raises(ValueError, match="finite"):
        estimator(wrong)


def test_what_was_not_evaluated_is_not_read(estimator):
    signals = signals_of(estimator)
    if signals.game is None:
        pytest.skip("asks for no coalitions")
    game = signals.game
    poisoned = torch.where(game.evaluated, game.rewards, torch.nan)
    other = replace(signals, game=replace(game, rewards=poisoned))
    assert torch.equal(estimator(other).values, estimator(signals).values)


def test_credit_is_centred_as_the_estimator_declares(estimator):
    signals = signals_of(estimator, dtype=torch.float64)
    if hasattr(estimator, "clip"):
        estimator = replace(estimator, clip=None)
    values = estimator(signals).values
    advantages = built("estimator", "grpo")(signals).values
    if estimator.centring == Centring.response:
        # Weights of mean 1 and additions of sum 0 both keep the response's total.
        torch.testing.assert_close(values.sum(-1), advantages.sum(-1), rtol=0, atol=1e-9)
    if estimator.centring == Centring.group and estimator.grain == Grain.rollout:
        per_rollout = values.sum(-1) / signals.response_mask.sum(-1)
        torch.testing.assert_close(per_rollout.sum(-1), torch.zeros(3).double(), rtol=0, atol=1e-9)


def test_a_rollout_grained_estimator_gives_one_number_per_rollout(estimator):
    signals = signals_of(estimator)
    values = estimator(signals).values
    mask = signals.response_mask
    highest = torch.where(mask, values, -torch.inf).amax(-1)
    lowest = torch.where(mask, values, torch.inf).amin(-1)
    varies = bool((highest > lowest + 1e-6).any())
    assert varies == (estimator.grain != Grain.rollout)


def test_responses_without_any_segment_or_candidate_are_credited_as_wholes(estimator):
    if estimator.grain == Grain.token:
        pytest.skip("credits tokens, whatever they are part of")
    signals = signals_of(estimator)
    none = torch.zeros_like(signals.segments.mask)
    ids = torch.full_like(signals.segments.ids, -1)
    segments = replace(signals.segments, ids=ids, mask=none, valid=none, first=none)
    changed = replace(signals, segments=segments)
    if signals.game is not None:
        game = signals.game
        only_empty = torch.arange(game.evaluated.shape[-1]).expand_as(game.evaluated) == 0
        game = replace(
            game,
            players=none,
            members=torch.zeros_like(game.members),
            rewards=torch.zeros_like(game.rewards),
            evaluated=only_empty,
        )
        changed = replace(changed, game=game)
    if signals.candidates is not None:
        candidates = signals.candidates
        candidates = replace(candidates, mask=torch.zeros_like(candidates.mask), candidate_ids=ids)
        changed = replace(changed, candidates=candidates)
    result = estimator(changed)
    values, mask = result.values, signals.response_mask
    highest = torch.where(mask, values, -torch.inf).amax(-1)
    lowest = torch.where(mask, values, torch.inf).amin(-1)
    assert torch.isfinite(values).all()
    assert torch.equal(highest, lowest)
    assert all(torch.isfinite(value) for value in result.metrics.values())


@pytest.mark.gpu
def test_signals_of_a_gpu_give_the_same_advantages_on_it(estimator):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    signals = signals_of(estimator)
    found = estimator(apply(signals, lambda tensor: tensor.cuda())).values
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), estimator(signals).values, rtol=0, atol=1e-4)
