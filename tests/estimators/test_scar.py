"""SCAR: redistributed rewards to go."""

from dataclasses import dataclass, replace

import pytest
import torch

from rlcredit.credit.coalitions import Prefixes
from rlcredit.credit.group import Scale, group_relative
from rlcredit.credit.prefix import judged_segment, prefix_table
from rlcredit.estimators import OSPO, SCAR, Additive, Myerson, Owen, Prefix, Shapley
from rlcredit.estimators.base import SegmentValue
from rlcredit.types import Needs
from tests.strategies import DOUBLE, make_game, make_layout, make_segments, make_signals


@dataclass(frozen=True, kw_only=True)
class Steps(SegmentValue):
    """What each segment adds to the value of the text before it."""

    @property
    def plan(self):
        return Prefixes()

    def __call__(self, game, *, randomness):
        table = prefix_table(game.members, game.rewards, game.evaluated)
        return torch.where(game.players, table.diff(dim=-1), 0)


def dyadic(signals):
    """The signals with rewards in 64ths, whose sums and differences are exact."""
    game = signals.game
    return replace(
        signals,
        rewards=(signals.rewards * 64).round() / 64,
        game=replace(game, rewards=(game.rewards * 64).round() / 64),
    )


@pytest.mark.parametrize("scale", [Scale.std, Scale.none])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_the_steps_between_prefixes_it_is_prefix_credit_bit_for_bit(scale, dtype):
    for seed in range(3):
        signals = dyadic(make_signals(Prefix().needs, seed=seed, dtype=dtype))
        expected, found = Prefix(scale=scale)(signals), SCAR(value=Steps(), scale=scale)(signals)
        assert torch.equal(found.values, expected.values)
        assert torch.equal(found.credit, expected.credit)


@pytest.mark.parametrize("value", [Myerson(), Owen(), Shapley()])
def test_what_an_efficient_value_pays_from_each_segment_on_is_earned_there(value):
    estimator = SCAR(value=value, scale=Scale.none)
    signals = make_signals(estimator.needs, dtype=DOUBLE)
    shares = value(signals.game, randomness=None)  # every segment plays: the game is compact
    torch.testing.assert_close(shares.sum(-1), signals.rewards)
    own = shares.flip(-1).cumsum(-1).flip(-1)
    to_go = torch.cat([own, torch.zeros_like(own[..., :1])], dim=-1)
    place = judged_segment(signals.segments.ids, signals.response_mask)
    expected = torch.where(signals.response_mask, to_go.gather(-1, place), 0)
    found = estimator(signals).credit
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(found[..., 0], signals.rewards, rtol=0, atol=1e-12)


def test_of_one_segment_it_is_grpo_beside_the_siblings_until_the_end():
    ids, mask = make_layout([[3], [2], [4], [1]])
    segments = make_segments(ids, 1)
    rewards = torch.tensor([[0.1, 0.9, 0.4, 0.3]], dtype=DOUBLE)
    game = make_game(Myerson().plan, segments.mask, lambda p, g, chosen: rewards[0, g].item())
    signals = replace(
        make_signals(Needs(), num_prompts=1),
        rewards=rewards,
        response_mask=mask,
        segments=segments,
        game=game,
    )
    found = SCAR(value=Myerson())(signals).values
    expected = group_relative(rewards) * 4 / 3
    for g in range(4):
        words = ids[0, g] == 0
        torch.testing.assert_close(
            found[0, g][words], expected[0, g].expand(int(words.sum())), rtol=0, atol=1e-9
        )


def gradient_of(advantages, chances):
    """E[sum_t A_t grad log pi(y_t)] of two independent coins, in their logits."""
    p, q = chances
    total = torch.zeros(2, dtype=DOUBLE)
    for (a, b), (first, second) in advantages.items():
        chance = (p if a else 1 - p) * (q if b else 1 - q)
        total += chance * torch.tensor([first * (a - p), second * (b - q)], dtype=DOUBLE)
    return total


def test_credit_to_go_turns_no_sign_where_the_own_share_does_and_is_not_exact():
    """Two words, each there or not: the second is harmful without the first."""
    p, q = 0.4, 0.6

    def value(words):
        return {(): 0.0, (0,): 0.5, (1,): -0.4, (0, 1): 1.0}[words]

    there = {(a, b): tuple(i for i, x in enumerate((a, b)) if x) for a in (0, 1) for b in (0, 1)}
    rewards = {pair: value(words) for pair, words in there.items()}
    true = gradient_of({pair: (r, r) for pair, r in rewards.items()}, (p, q))
    shares = {}
    for pair, words in there.items():
        shares[pair] = tuple(
            sum(
                weight * (value(tuple(sorted({*rest, i}))) - value(rest))
                for rest, weight in (
                    (((), 0.5), (tuple(w for w in words if w != i), 0.5))
                    if len(words) == 2
                    else (((), 1.0),)
                )
            )
            if i in words
            else 0.0
            for i in (0, 1)
        )
    own = gradient_of(shares, (p, q))
    to_go = gradient_of({pair: (sum(s), s[1]) for pair, s in shares.items()}, (p, q))
    assert to_go[0] == pytest.approx(true[0].item(), abs=1e-12)  # what it earns is all of R
    assert to_go[1] != pytest.approx(true[1].item(), abs=1e-3)
    assert (own - true).abs().max() > (to_go - true).abs().max()


def test_its_cost_is_that_of_the_value_in_groups_of_equal_rewards_too():
    needs = SCAR(value=Myerson()).needs
    assert needs.coalitions == OSPO(value=Myerson(), construction=Additive()).needs.coalitions
    assert not needs.skips_equal_groups


def test_a_mean_to_divide_by_is_refused():
    with pytest.raises(ValueError, match="std or none"):
        SCAR(value=Myerson(), scale=Scale.mean)
