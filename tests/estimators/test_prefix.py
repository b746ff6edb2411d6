from dataclasses import replace

import pytest
import torch

from rlcredit.credit.group import Scale
from rlcredit.credit.prefix import judged_segment, prefix_table
from rlcredit.estimators import Prefix
from rlcredit.types import Signals
from tests.strategies import DOUBLE, make_game, make_layout, make_segments

VALUES = {
    (0, ()): 0.0,
    (0, (0,)): 0.2,
    (0, (0, 1)): 0.5,
    (0, (0, 1, 2)): 0.9,
    (1, (0,)): 0.4,
    (1, (0, 1)): 0.6,
    (2, (0,)): 0.3,
}


def signals_of():
    ids, mask = make_layout([[1, 2, 1], [2, 1], [1]])
    segments = make_segments(ids, 3)
    game = make_game(Prefix().needs.coalitions, segments.mask, lambda p, g, s: VALUES[g, s])
    rewards = game.rewards[:, :, 1].clone()
    return Signals(rewards=rewards, response_mask=mask, segments=segments, game=game)


def test_prefixes_land_by_their_size_and_other_coalitions_nowhere():
    members = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 0, 0]])
    rewards = torch.tensor([6.0, 1, 50, 40, torch.nan, 0])
    evaluated = torch.tensor([True, True, True, True, False, True])
    assert prefix_table(members.bool(), rewards, evaluated).tolist() == [0, 1, 0, 6]


def test_a_token_is_judged_by_the_state_it_was_chosen_in():
    ids = torch.tensor([[-1, 0, 0, -1, 1, -1, -1, -1], [-1] * 8, [0, 0, 1, 1, 2, -1, -1, -1]])
    mask = torch.tensor([[True] * 7 + [False], [True] + [False] * 7, [True] * 6 + [False] * 2])
    # A separator right behind a segment is judged as part of it; what follows the separator, the
    # end of the sequence too, as the next segment; without separators the next begins unseen.
    assert judged_segment(ids, mask).tolist() == [
        [0, 0, 0, 0, 1, 1, 2, 0],
        [0] * 8,
        [0, 0, 0, 1, 1, 2, 0, 0],
    ]


def test_return_to_go_by_hand():
    result = Prefix(scale=Scale.none)(signals_of())
    assert result.credit is not None
    # Tokens of response 0: 0 | sep | 1 1 | sep | 2 | eos; to go 0.9, 0.7, 0.4.
    expected = [0.9, 0.9, 0.7, 0.7, 0.7, 0.4, 0.4]
    assert result.credit[0, 0].tolist() == pytest.approx(expected)
    assert result.credit[0, 1, :5].tolist() == pytest.approx([0.6, 0.6, 0.6, 0.2, 0.2])
    assert result.credit[0, 2, :2].tolist() == pytest.approx([0.3, 0.3])


def test_the_siblings_mean_at_the_same_segment_is_taken_off():
    result = Prefix(scale=Scale.none)(signals_of())
    # Segment 0: siblings 0.6, 0.3. Segment 1: the one sibling that has it, 0.2.
    # Segment 2: none has it, so their last ones, 0.2 and 0.3.
    first, second, third = 0.9 - 0.45, 0.7 - 0.2, 0.4 - 0.25
    expected = [first, first, second, second, second, third, third]
    assert result.values[0, 0].tolist() == pytest.approx(expected)
    assert result.values[0, 2, :2].tolist() == pytest.approx([0.3 - 0.75] * 2)


def test_the_scale_is_the_groups_std_of_rewards():
    signals = signals_of()
    plain = Prefix(scale=Scale.none)(signals).values
    scaled = Prefix()(signals).values
    std = torch.tensor([0.9, 0.6, 0.3], dtype=DOUBLE).std() + 1e-4
    torch.testing.assert_close(scaled, plain / std)
    with pytest.raises(ValueError, match="std or none"):
        Prefix(scale=Scale.mean)


def test_groups_of_equal_rewards_keep_their_credit():
    signals = signals_of()
    equal = replace(signals, rewards=torch.full_like(signals.rewards, 0.9))
    values = Prefix()(equal).values
    assert torch.isfinite(values).all()
    assert not Prefix().needs.skips_equal_groups
    # Rewards are equal, and what was earned after the first segment is not.
    assert values[0, 0, 0].item() == pytest.approx(0)
    assert values[0, 0, 2].item() == pytest.approx(0.7 - 0.5)


def test_rewards_that_differ_by_rounding_do_not_become_a_divisor():
    signals = signals_of()
    equal = replace(signals, rewards=torch.full_like(signals.rewards, 0.9))
    noisy = equal.rewards.clone()
    noisy[0, 1] = noisy[0, 1].nextafter(torch.ones((), dtype=DOUBLE))
    expected = Prefix()(equal).values
    found = Prefix()(replace(signals, rewards=noisy)).values
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_response_without_segments_is_judged_by_its_reward():
    ids, mask = make_layout([[1], [2]])
    ids[0, 1] = -1
    segments = make_segments(ids, 1)
    game = make_game(Prefix().needs.coalitions, segments.mask, lambda p, g, s: 0.5)
    signals = Signals(
        rewards=torch.tensor([[0.5, 0.0]], dtype=DOUBLE),
        response_mask=mask,
        segments=segments,
        game=game,
    )
    values = Prefix(scale=Scale.none)(signals).values
    assert values[0, 0, :2].tolist() == [0.5, 0.5]
    assert values[0, 1].tolist() == [-0.5] * 3


def test_invalid_segments_add_nothing_to_a_prefix():
    signals = signals_of()
    players = signals.segments.mask.clone()
    players[0, 0, 1] = False
    game = make_game(Prefix().needs.coalitions, players, lambda p, g, s: 0.3 * len(s))
    result = Prefix(scale=Scale.none)(replace(signals, game=game))
    assert result.credit is not None
    # Before segments 0, 1, 2 stand 0, 1, 1 players.
    found = result.credit[0, 0, torch.tensor([0, 2, 5])]
    assert found.tolist() == pytest.approx([0.9, 0.6, 0.6])
