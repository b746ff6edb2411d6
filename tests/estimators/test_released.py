"""OSPO as its code was released: its arithmetic, and the defects it is known for by name."""

from dataclasses import replace

import pytest
import torch

from rlcredit.estimators import GRPO, OSPO, Proportional, Rank, Released
from rlcredit.estimators.base import TokenCredit
from rlcredit.types import Signals
from tests.composing import built
from tests.strategies import DOUBLE, make_game, make_layout, make_segments

GOOD = [[0.3, 0.5, 0.1, 0.6]]


def signals_of(values, lengths=None, rewards=None):
    """Responses of segments that are worth what they are worth, wherever they stand."""
    lengths = lengths or [[1] * len(row) for row in values]
    ids, mask = make_layout(lengths)
    segments = make_segments(ids, max(len(row) for row in values))
    game = make_game(
        Released().plan, segments.mask, lambda p, g, chosen: sum(values[g][m] for m in chosen)
    )
    earned = game.rewards[:, :, 1] if rewards is None else torch.tensor([rewards], dtype=DOUBLE)
    return Signals(rewards=earned, response_mask=mask, segments=segments, game=game)


def test_the_arithmetic_step_by_step():
    signals = signals_of([[0.6, 0.1, 0.2], [0.3, 0.3, 0.2]], lengths=[[2, 1, 1], [1, 1, 1]])
    free = replace(built("estimator", "ospo_released"), clip=None)
    result = free(signals)
    # Step 5, additive game, n = 3, all windows: weights 1/3, 1/6, 1/3 for sizes 0, 1, 2. An end
    # player joins coalitions of 0, 1 and 2, the middle one of 0, 1 and 1.
    shares = [1 / 3 + 1 / 6 + 1 / 3, 1 / 3 + 1 / 6 + 1 / 6, 1 / 3 + 1 / 6 + 1 / 3]
    phi = [s * v for s, v in zip(shares, [0.6, 0.1, 0.2], strict=True)]
    assert result.credit is not None
    tokens = [phi[0], phi[0], 0, phi[1], 0, phi[2], 0]
    assert result.credit[0, 0].tolist() == pytest.approx(tokens)
    # Steps 6-7: min-max over the scored text, separators 0, end of sequence left out.
    scaled = [t / phi[0] for t in tokens[:6]]
    # Step 9: A T b / sum b, with T all seven tokens.
    advantage = GRPO()(signals).values[0, 0, 0].item()
    expected = [advantage * 7 * s / sum(scaled) for s in scaled] + [0]
    assert result.values[0, 0].tolist() == pytest.approx(expected)
    assert result.values[0, 0].mean().item() == pytest.approx(advantage)
    # Step 10: clipped at two standard deviations of the batch's advantages.
    clipped = built("estimator", "ospo_released")(signals).values
    limit = 2 * GRPO()(signals).values[0, :, 0].std().item()
    assert clipped.max().item() == pytest.approx(limit)
    assert torch.equal(clipped, result.values.clamp(-limit, limit))


def test_equal_credit_everywhere_is_one_half_everywhere():
    signals = signals_of([[0.4], [0.1]], lengths=[[3], [2]])
    values = replace(built("estimator", "ospo_released"), clip=None)(signals).values[0]
    advantage = GRPO()(signals).values[0, :, 0]
    assert values[0, :4].tolist() == pytest.approx([advantage[0].item() * 4 / 3] * 3 + [0])


def test_f2_a_response_of_reward_zero_gets_no_gradient():
    signals = signals_of([GOOD[0], [0.2, -0.2, 0.1, -0.1]], rewards=[1.5, 0.0])
    assert GRPO()(signals).values[0, 1, 0] < -0.7
    assert built("estimator", "ospo_released")(signals).values[0, 1].abs().max() == 0
    # The weights of mean 1 do push it down.
    assert built("estimator", "ospo")(signals).values[0, 1].min() < -0.5


def test_f4_equal_players_earn_more_or_less_by_where_they_stand():
    signals = signals_of([[1.0] * 8, [0.5] * 8])
    found = Released()(signals.game, randomness=None)[0, 0]
    expected = [0.305, 0.198, 0.186, 0.183, 0.183, 0.186, 0.198, 0.305]
    assert found.tolist() == pytest.approx(expected, abs=5e-4)
    scaled = (found - found.min()) / (found.max() - found.min())
    bias = [1, 0.12, 0.02, 0, 0, 0.02, 0.12, 1]
    assert scaled.tolist() == pytest.approx(bias, abs=6e-3)
    narrow = Released(max_width=4)(signals.game, randomness=None)[0, 0]
    assert narrow[0] < narrow[3]
    flat = built("estimator", "ospo").value(signals.game, randomness=None)[0, 0]
    assert flat.tolist() == pytest.approx([1.0] * 8)


def test_f5_the_credits_do_not_sum_to_the_reward():
    signals = signals_of([[1.0] * 8, [0.5] * 8])
    found = Released()(signals.game, randomness=None)[0, 0]
    assert found.sum().item() == pytest.approx(1.743, abs=5e-4)
    assert signals.rewards[0, 0].item() == pytest.approx(8.0)


def test_f8_the_least_credited_segment_gets_nothing_though_it_helps():
    signals = signals_of([GOOD[0], [0.1] * 4])
    # No separators count here: each segment's one token.
    only = replace(
        signals,
        segments=replace(signals.segments, ids=torch.tensor([[[0, 1, 2, 3, -1, -1, -1, -1]] * 2])),
        response_mask=torch.arange(8).expand(1, 2, 8) < 4,
    )
    values = built("estimator", "ospo_released")(only).values[0, 0, :4]
    assert values.argmin() == 2
    assert values[2] == 0
    assert built("estimator", "ospo")(only).values[0, 0, :4].min() > 0.05


def test_sampled_pairs_are_dropped_and_not_made_up_for():
    own = [0.5] * 9
    full = signals_of([own, own], rewards=[1.0, 2.0])
    segments = full.segments
    small = Released(max_width=8, budget=12)
    game = make_game(small.plan, segments.mask, lambda p, g, chosen: 0.5 * len(chosen))
    found = small(game, randomness=None)
    complete = Released()(full.game, randomness=None)
    assert found.sum() < complete.sum() / 2


def test_ranks_grow_with_credit_ties_share_and_the_mean_weight_is_one():
    rank = Rank()
    credit = torch.tensor([[[0.1, 0.9, 0.5, 0.5, 7.0], [0.1, 0.9, 0.5, 0.5, 7.0]]]).double()
    scored = torch.tensor([[[True] * 4 + [False]] * 2])
    advantages = torch.tensor([[1.0, -1.0]]).double()
    weights = rank(
        TokenCredit(
            credit=credit,
            advantages=advantages,
            rewards=advantages,
            scored=scored,
            response_mask=torch.ones_like(scored),
        )
    )
    up, down = weights[0]
    assert up.tolist() == pytest.approx([0.4, 1.6, 1.0, 1.0, 1.0])
    assert down.tolist() == pytest.approx([-1.6, -0.4, -1.0, -1.0, -1.0])
    flat = OSPO(value=Released(), construction=Rank(flip_on_negative=False))
    signals = signals_of([GOOD[0], [0.1] * 4])
    unflipped = flat(signals).values[0, 0]
    assert unflipped.sum() == pytest.approx(GRPO()(signals).values[0, 0].sum())


def test_proportional_weights_average_to_the_advantage():
    signals = signals_of([GOOD[0], [0.1, 0.3, 0.2]], lengths=[[2, 1, 3, 1], [1, 2, 2]])
    values = OSPO(value=Released(), construction=Proportional())(signals).values
    mean = values.sum(-1) / signals.response_mask.sum(-1)
    torch.testing.assert_close(mean, GRPO()(signals).values[:, :, 0])
