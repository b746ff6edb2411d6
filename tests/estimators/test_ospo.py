import math
from dataclasses import replace

import pytest
import torch

from rlcredit.estimators import (
    GRPO,
    OSPO,
    Additive,
    LeaveOneOut,
    Myerson,
    Owen,
    Random,
    SelfNormalised,
    Shapley,
    Shuffled,
    Weighted,
)
from rlcredit.estimators.ospo import Duplicates
from rlcredit.types import Randomness, Signals
from tests.credit.oracles import owen
from tests.strategies import DOUBLE, make_game, make_layout, make_segments, random_value

OWN = {(0, 0): 0.6, (0, 1): 0.1, (0, 2): 0.2, (1, 0): 0.3, (1, 1): 0.3}


def additive_game(p, g, chosen):
    return sum(OWN[g, m] for m in chosen)


def signals_of(plan, *, lengths=((1, 2, 1), (2, 2)), value=additive_game, first=None):
    """One prompt, two responses; the reward is the value of all players."""
    ids, mask = make_layout(lengths)
    segments = make_segments(ids, 3)
    if first is not None:
        segments = replace(segments, first=first & segments.mask)
    players = segments.first
    game = make_game(plan, players, value)
    return Signals(
        rewards=game.rewards[:, :, 1],
        response_mask=mask,
        segments=segments,
        game=game,
        randomness=Randomness(seed=1, step=0),
    )


def test_additions_by_hand_are_standardised_over_tokens_and_separators_keep_the_advantage():
    estimator = OSPO(value=LeaveOneOut(), construction=Additive(strength=2.0))
    signals = signals_of(estimator.needs.coalitions)
    assert signals.rewards.tolist() == [[pytest.approx(0.9), pytest.approx(0.6)]]
    result = estimator(signals)
    plain = GRPO()(signals).values[0, 0, 0].item()
    # Tokens: 0.6 | sep | 0.1 0.1 | sep | 0.2 | eos. Mean 0.25, population variance 0.0425.
    std = 0.0425**0.5 + 1e-6
    z = [(c - 0.25) / std for c in (0.6, 0.1, 0.1, 0.2)]
    expected = [2 * z[0], 0, 2 * z[1], 2 * z[2], 0, 2 * z[3], 0]
    found = (result.values[0, 0] - plain).tolist()
    assert found == pytest.approx(expected, abs=1e-9)
    assert sum(found) == pytest.approx(0, abs=1e-9)
    assert result.credit is not None
    assert result.credit[0, 0].tolist() == pytest.approx([0.6, 0, 0.1, 0.1, 0, 0.2, 0])


def test_weights_by_hand_have_mean_one_a_floor_and_turn_for_bad_responses():
    estimator = OSPO(value=LeaveOneOut(), construction=Weighted(strength=2.0, floor=0.1))
    signals = signals_of(estimator.needs.coalitions)
    values = estimator(signals).values[0]
    plain = GRPO()(signals).values[0, :, 0]
    std = 0.0425**0.5 + 1e-6
    raw = [max(0.1, 1 + 2 * (c - 0.25) / std) for c in (0.6, 0.1, 0.1, 0.2)]
    mean = sum(raw) / 4
    expected = [raw[0] / mean, 1, raw[1] / mean, raw[2] / mean, 1, raw[3] / mean, 1]
    assert (values[0] / plain[0]).tolist() == pytest.approx(expected, abs=1e-9)
    assert raw[1] == 0.1
    # The second response is the worse one, and its two segments are worth the same.
    assert plain[1] < 0
    assert (values[1][:6] / plain[1]).tolist() == pytest.approx([1.0] * 6)


def test_the_worst_segment_of_a_bad_response_is_blamed_most_if_flipped():
    better_second = {(0, 0): 0.2, (0, 1): 0.1, (0, 2): 0.1, (1, 0): 0.9, (1, 1): 0.3}

    def value(p, g, chosen):
        return sum(better_second[g, m] for m in chosen)

    for flip, order in ((True, [0.1, 0.1, 0.2]), (False, [0.2, 0.1, 0.1])):
        estimator = OSPO(
            value=Myerson(), construction=Weighted(flip_on_negative=flip), duplicates=Duplicates.all
        )
        signals = signals_of(estimator.needs.coalitions, value=value)
        values = estimator(signals).values[0, 0]
        assert values[0] < 0
        # Tokens 0, 2 and 5 belong to the segments worth 0.2, 0.1, 0.1.
        blamed = -values[torch.tensor([0, 2, 5])]
        worth = torch.tensor([0.2, 0.1, 0.1])
        assert worth[blamed.argsort(descending=True, stable=True)].tolist() == pytest.approx(order)


@pytest.mark.parametrize("value", [Myerson(), SelfNormalised(), LeaveOneOut(), Random()])
@pytest.mark.parametrize("construction", [Weighted(), Additive()])
def test_equal_credit_is_grpo_and_one_segment_is_grpo(value, construction):
    estimator = OSPO(value=value, construction=construction)
    one = signals_of(value.plan, lengths=((3,), (2,)))
    assert torch.equal(estimator(one).values, GRPO()(one).values)
    if not isinstance(value, Random):
        equal = signals_of(value.plan, value=lambda p, g, chosen: len(chosen) * (0.2 + 0.1 * g))
        torch.testing.assert_close(
            estimator(equal).values, GRPO()(equal).values, rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("value", [Myerson(), SelfNormalised(), LeaveOneOut()])
def test_a_repeated_segment_is_a_null_player_with_credit_zero(value):
    first = torch.tensor([[[True, False, True], [True, True, False]]])
    signals = signals_of(value.plan, first=first)
    credit = OSPO(value=value, construction=Additive())(signals).credit
    assert credit is not None
    # Tokens: 0 | sep | 1 1 | sep | 2 | eos, where segment 1 repeats segment 0.
    assert credit[0, 0].tolist() == pytest.approx([0.6, 0, 0, 0, 0, 0.2, 0], abs=1e-12)


def test_needs_say_who_plays_and_that_equal_groups_may_be_skipped():
    first = OSPO(value=Myerson(), construction=Weighted())
    every = replace(first, duplicates=Duplicates.all)
    assert first.needs.first_copies
    assert not every.needs.first_copies
    assert first.needs.skips_equal_groups
    assert first.needs.coalitions == Myerson().plan


def test_skipping_the_coalitions_of_equal_groups_changes_nothing():
    estimator = OSPO(value=LeaveOneOut(), construction=Additive())
    signals = signals_of(estimator.needs.coalitions)
    signals = replace(signals, rewards=torch.full_like(signals.rewards, 0.4))
    assert signals.game is not None
    evaluated = signals.game.evaluated.clone()
    evaluated[:, :, 2:] = False
    skipped = replace(signals, game=replace(signals.game, evaluated=evaluated))
    assert torch.equal(estimator(skipped).values, estimator(signals).values)
    assert estimator(skipped).values.abs().max() == 0


def test_myerson_falls_back_to_self_normalised_windows_where_it_was_sampled():
    lengths = ([1] * 6, [1] * 3)
    value = random_value(4)
    small = Myerson(budget=12)
    ids, mask = make_layout(lengths)
    segments = make_segments(ids, 6)
    game = make_game(small.plan, segments.mask, value)
    signals = Signals(
        rewards=game.rewards[:, :, 1], response_mask=mask, segments=segments, game=game
    )
    assert game.sampled.tolist() == [[True, False]]
    result = OSPO(value=small, construction=Additive())(signals)
    assert result.metrics["credit/sampled_share"] == 0.5
    assert result.credit is not None
    estimate = OSPO(value=SelfNormalised(max_width=6), construction=Additive())(signals).credit
    exact = OSPO(value=Myerson(), construction=Additive())(
        replace(signals, game=make_game(Myerson().plan, segments.mask, value))
    ).credit
    assert estimate is not None
    assert exact is not None
    assert torch.equal(result.credit[0, 0], estimate[0, 0])
    torch.testing.assert_close(result.credit[0, 1], exact[0, 1])
    assert (result.credit[0, 0] - exact[0, 0]).abs().max() > 1e-3


def test_random_credit_is_the_seeds_alone_and_standard_normal():
    estimator = OSPO(value=Random(), construction=Additive())
    signals = signals_of(estimator.needs.coalitions)
    assert torch.equal(estimator(signals).values, estimator(signals).values)
    next_step = replace(signals, randomness=Randomness(seed=1, step=1))
    assert not torch.equal(estimator(signals).values, estimator(next_step).values)
    with pytest.raises(ValueError, match="randomness"):
        estimator(replace(signals, randomness=None))
    players = torch.ones(50, 20, 4, dtype=torch.bool)
    game = make_game(Random().plan, players[:1, :1], lambda p, g, chosen: 1.0)
    wide = replace(
        game,
        players=players,
        members=game.members.expand(50, 20, 2, 4),
        rewards=game.rewards.expand(50, 20, 2),
        evaluated=game.evaluated.expand(50, 20, 2),
        sampled=torch.zeros(50, 20, dtype=torch.bool),
    )
    drawn = Random()(wide, randomness=Randomness(seed=0, step=0))
    assert abs(drawn.mean().item()) < 0.05
    assert abs(drawn.std().item() - 1) < 0.05


def test_shuffled_credit_is_the_same_amounts_in_other_places():
    base, shuffled = LeaveOneOut(), Shuffled(base=LeaveOneOut())
    assert shuffled.plan == base.plan
    signals = signals_of(base.plan, value=lambda p, g, chosen: sum(2.0**i for i in chosen))
    game = signals.game
    assert game is not None
    own = base(game, randomness=None)
    seen = set()
    for step in range(40):
        dealt = shuffled(game, randomness=Randomness(seed=0, step=step))
        assert torch.equal(dealt.sort(dim=-1).values, own.sort(dim=-1).values)
        assert not dealt[~game.players].any()
        seen.add(tuple(dealt[0, 0].tolist()))
    assert len(seen) == math.factorial(int(game.players[0, 0].sum()))
    again = shuffled(game, randomness=Randomness(seed=0, step=0))
    assert torch.equal(again, shuffled(game, randomness=Randomness(seed=0, step=0)))
    estimator = OSPO(value=shuffled, construction=Weighted())
    with pytest.raises(ValueError, match="randomness"):
        estimator(replace(signals, randomness=None))
    mean = estimator(signals).values.sum(-1) / signals.response_mask.sum(-1)
    plain = GRPO()(signals).values[..., 0]
    assert torch.equal(mean.sign(), plain.sign())


def test_the_clip_cuts_at_standard_deviations_of_the_batch_and_is_counted():
    estimator = OSPO(value=LeaveOneOut(), construction=Additive(strength=5.0), clip=1.5)
    signals = signals_of(estimator.needs.coalitions)
    result = estimator(signals)
    std = GRPO()(signals).values[0, :, 0].std().item()
    assert result.values.abs().max().item() == pytest.approx(1.5 * std)
    free = replace(estimator, clip=None)(signals).values
    beyond = (free.abs() > 1.5 * std).sum() / signals.response_mask.sum()
    assert result.metrics["credit/clipped_share"] == pytest.approx(beyond.item())
    assert 0 < beyond < 1


def test_the_reward_of_a_coalition_must_be_a_number():
    estimator = OSPO(value=LeaveOneOut(), construction=Additive())
    signals = signals_of(estimator.needs.coalitions)
    assert signals.game is not None
    rewards = signals.game.rewards.clone()
    rewards[0, 0, 2] = torch.nan
    with pytest.raises(ValueError, match="coalition is nan"):
        estimator(replace(signals, game=replace(signals.game, rewards=rewards)))


def test_settings_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match="clip is 0"):
        OSPO(value=Myerson(), construction=Weighted(), clip=0.0)
    with pytest.raises(ValueError, match="floor is 0"):
        Weighted(floor=0.0)


def test_doubles_are_credited_as_doubles():
    estimator = OSPO(value=Myerson(), construction=Weighted())
    assert estimator(signals_of(estimator.needs.coalitions)).values.dtype == DOUBLE


def test_owen_reads_the_unions_and_is_the_shapley_value_without_them():
    plan = Owen().plan
    ids, mask = make_layout(([1] * 4, [1] * 2))
    segments = make_segments(ids, 4)
    # Segment 2 of the first response repeats another and is no player.
    players = segments.mask.clone()
    players[0, 0, 2] = False
    game = make_game(plan, players, random_value(5))
    signals = Signals(
        rewards=game.rewards[:, :, 1], response_mask=mask, segments=segments, game=game
    )

    def credit(value, **fields):
        played = replace(signals, game=replace(game, **fields))
        found = OSPO(value=value, construction=Additive(), duplicates=Duplicates.all)(played)
        assert found.credit is not None
        return found.credit[0, 0, [0, 2, 4, 6]]

    shapley = credit(Shapley())
    torch.testing.assert_close(credit(Owen()), shapley)
    unions = torch.tensor([[[0, 1, 1, 0], [0, 0, 0, 0]]])
    found = credit(Owen(), unions=unions)
    value = random_value(5)
    table = [value(0, 0, tuple((0, 1, 3)[i] for i in range(3) if s >> i & 1)) for s in range(8)]
    expected = owen([0.0, *table[1:]], [0, 1, 0])
    assert found.tolist() == pytest.approx([expected[0], expected[1], 0.0, expected[2]])
    assert shapley.sum().item() == pytest.approx(found.sum().item())
