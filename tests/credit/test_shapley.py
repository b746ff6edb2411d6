import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlcredit.credit.shapley import (
    shapley_of_any,
    shapley_of_coverage,
    shapley_of_max,
    shapley_of_top,
    shapley_value,
)
from tests.credit.oracles import shapley
from tests.strategies import DOUBLE, reals, tables

players = st.lists(reals(), min_size=1, max_size=5).map(lambda r: torch.tensor(r, dtype=DOUBLE))
masks = st.lists(st.booleans(), min_size=5, max_size=5)


def close(found, expected, atol=1e-9):
    expected = torch.as_tensor(expected, dtype=DOUBLE)
    torch.testing.assert_close(found, expected, rtol=0, atol=atol, check_dtype=False)


def table_of(utility, n):
    """The table of a game given by a function of the list of members."""
    sets = ([i for i in range(n) if s >> i & 1] for s in range(2**n))
    return torch.tensor([utility(members) if members else 0.0 for members in sets], dtype=DOUBLE)


@given(tables())
def test_the_value_from_the_table_is_the_mean_over_all_orders(game):
    values, n = game
    close(shapley_value(values), shapley(values, n))


@given(tables(smallest=1), tables(smallest=1))
def test_it_is_efficient_and_additive(game, other):
    values, n = game
    assert shapley_value(values).sum().item() == pytest.approx(values[-1].item(), abs=1e-9)
    more = other[0][: 2**n] if other[1] >= n else None
    if more is not None:
        together = shapley_value(values + more)
        close(together, shapley_value(values) + shapley_value(more.contiguous()))


@given(tables(smallest=1, largest=4), st.permutations(range(4)))
def test_it_is_symmetric(game, shuffled):
    values, n = game
    order = [player for player in shuffled if player < n]
    moved = torch.empty_like(values)
    for s in range(2**n):
        moved[sum(1 << order[i] for i in range(n) if s >> i & 1)] = values[s]
    close(shapley_value(moved)[torch.tensor(order)], shapley_value(values))


@given(tables(largest=4), st.integers(0, 4))
def test_a_null_player_gets_nothing_and_changes_nothing(game, place):
    values, n = game
    place = min(place, n)
    low = (1 << place) - 1
    index = torch.arange(2 ** (n + 1))
    without = (index & low) | (index >> 1 & ~low)
    credit = shapley_value(values[without])
    assert credit[place].item() == pytest.approx(0, abs=1e-12)
    others = [i for i in range(n + 1) if i != place]
    close(credit[others], shapley_value(values))


@given(tables(smallest=1), st.integers(0, 2))
def test_padding_players_change_no_value(game, extra):
    values, n = game
    wide = torch.full((2 ** (n + extra),), torch.nan, dtype=DOUBLE)
    wide[: 2**n] = values
    found = shapley_value(wide, num_players=torch.tensor(n))
    close(found[:n], shapley_value(values))
    assert (found[n:] == 0).all()


def test_a_ragged_batch_is_valued_game_by_game():
    values = torch.rand(3, 8, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    values[:, 0] = 0
    found = shapley_value(values, num_players=torch.tensor([3, 1, 0]))
    close(found[0], shapley_value(values[0]))
    close(found[1], [values[1, 1].item(), 0, 0])
    close(found[2], [0, 0, 0])


def test_the_largest_table_is_valued_exactly():
    own = torch.rand(16, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    index = torch.arange(2**16)
    inside = (index.unsqueeze(-1) >> torch.arange(16) & 1).to(DOUBLE)
    total = inside @ own
    # v = (sum of own)^2: player i gets own_i times the whole sum.
    close(shapley_value(total.square()), own * own.sum())


def test_tables_that_are_none_are_refused():
    with pytest.raises(ValueError, match="table has 6 values"):
        shapley_value(torch.zeros(6))
    with pytest.raises(ValueError, match="at most 16"):
        shapley_value(torch.zeros(2**17))


@given(players, masks)
def test_the_maximum_is_its_closed_form_for_any_reals_ties_and_masks(rewards, drawn):
    n = len(rewards)
    mask = torch.tensor(drawn[:n])
    chosen = mask.nonzero().flatten().tolist()
    table = table_of(lambda s: max(rewards[chosen[i]].item() for i in s), len(chosen))
    expected = torch.zeros(n, dtype=DOUBLE)
    expected[chosen] = torch.tensor(shapley(table, len(chosen)), dtype=DOUBLE)
    dirty = torch.where(mask, rewards, torch.nan)
    close(shapley_of_max(dirty, mask), expected)


@given(players, st.integers(1, 6), masks)
def test_the_sum_of_the_largest_is_its_closed_form(rewards, m, drawn):
    n = len(rewards)
    mask = torch.tensor(drawn[:n])
    chosen = mask.nonzero().flatten().tolist()

    def utility(members):
        return sum(sorted((rewards[chosen[i]].item() for i in members), reverse=True)[:m])

    expected = torch.zeros(n, dtype=DOUBLE)
    table = table_of(utility, len(chosen))
    expected[chosen] = torch.tensor(shapley(table, len(chosen)), dtype=DOUBLE)
    close(shapley_of_top(rewards, m=m, mask=mask), expected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_the_chance_of_any_success_is_its_closed_form(chances):
    p = torch.tensor(chances, dtype=DOUBLE)
    table = table_of(lambda s: 1 - (1 - p[s]).prod().item(), len(chances))
    close(shapley_of_any(p), shapley(table, len(chances)))


@given(
    st.integers(1, 5).flatmap(
        lambda k: st.lists(st.lists(st.booleans(), min_size=k, max_size=k), min_size=1, max_size=4)
    ),
    st.lists(reals(), min_size=4, max_size=4),
)
def test_coverage_is_its_closed_form(elements, drawn):
    membership = torch.tensor(elements).T.contiguous()
    weights = torch.tensor(drawn[: len(elements)], dtype=DOUBLE)

    def utility(members):
        return (membership[members].any(dim=0) * weights).sum().item()

    n = membership.shape[0]
    close(shapley_of_coverage(membership, weights), shapley(table_of(utility, n), n))
    plain = table_of(lambda s: membership[s].any(dim=0).sum().item(), n)
    close(shapley_of_coverage(membership).double(), shapley(plain, n), atol=1e-5)


def test_the_papers_examples():
    close(shapley_of_max(torch.tensor([5.0, 3, 1])).double(), [10 / 3, 4 / 3, 1 / 3], atol=1e-6)
    close(shapley_of_max(torch.tensor([1.0, 1, 0])).double(), [0.5, 0.5, 0])
    close(shapley_of_max(torch.tensor([1.0, 0, 0])).double(), [1, 0, 0])


@given(players.map(torch.abs))
def test_the_maximum_pays_between_a_share_and_the_own_reward(rewards):
    n = len(rewards)
    credit = shapley_of_max(rewards)
    assert (credit >= rewards / n - 1e-9).all()
    assert (credit <= rewards + 1e-9).all()
    assert credit.sum().item() == pytest.approx(rewards.max().item(), abs=1e-9)


def test_a_better_candidate_moves_only_those_ranked_as_high():
    credit = shapley_of_max(torch.tensor([1.0, 2.0, 3.0, 4.0]).double())
    better = shapley_of_max(torch.tensor([1.0, 2.0, 3.5, 4.0]).double())
    assert torch.equal(credit[:2], better[:2])
    close(better - credit, [0, 0, 0.25, 0.25 - 0.5])


def test_copies_of_the_winner_split_what_it_wins():
    alone = shapley_of_max(torch.tensor([0.2, 1.0]).double())
    copied = shapley_of_max(torch.tensor([0.2, 1.0, 1.0]).double())
    assert copied[1] == copied[2]
    assert copied[1] < alone[1]


def test_the_potential_of_the_game_is_what_the_shapley_value_climbs():
    # Credit times score, over independent candidates, is the gradient of the mixture
    # sum_s E[max of s candidates] / s; leave-one-out is that of E[max of all].
    logits = torch.tensor([[0.3, -0.2, 0.5]] * 3, dtype=DOUBLE) * torch.tensor([[1.0], [2], [3]])
    rewards = torch.tensor([0.1, 0.7, 1.0], dtype=DOUBLE)

    def expectation(of, leaf):
        p = leaf.softmax(dim=-1)
        total = torch.zeros((), dtype=DOUBLE)
        for picks in itertools.product(range(3), repeat=3):
            chance = torch.stack([p[k, pick] for k, pick in enumerate(picks)]).prod()
            total = total + chance * of(rewards[list(picks)])
        return total

    def potential(r):
        return sum(
            sum(max(r[list(s)]) for s in itertools.combinations(range(3), size))
            / len(list(itertools.combinations(range(3), size)))
            / size
            for size in (1, 2, 3)
        )

    def scored(credit):
        leaf = logits.clone().requires_grad_()
        log_p = leaf.log_softmax(dim=-1)
        p = log_p.exp().detach()
        total = torch.zeros((), dtype=DOUBLE)
        for picks in itertools.product(range(3), repeat=3):
            chance = torch.stack([p[k, pick] for k, pick in enumerate(picks)]).prod()
            own = credit(rewards[list(picks)])
            total = total + chance * sum(own[k] * log_p[k, pick] for k, pick in enumerate(picks))
        return torch.autograd.grad(total, leaf)[0]

    def left_out(r):
        return torch.stack([r.max() - torch.cat([r[:k], r[k + 1 :]]).max() for k in range(3)])

    leaf = logits.clone().requires_grad_()
    of_potential = torch.autograd.grad(expectation(potential, leaf), leaf)[0]
    of_best = torch.autograd.grad(expectation(lambda r: r.max(), leaf), leaf)[0]
    close(scored(shapley_of_max), of_potential)
    close(scored(left_out), of_best)
    assert (of_best - of_potential).abs().max() > 0.01


def test_impossible_utilities_are_refused():
    with pytest.raises(ValueError, match="m is 0"):
        shapley_of_top(torch.ones(2), m=0)
    with pytest.raises(ValueError, match=r"probability is 1\.5"):
        shapley_of_any(torch.tensor([0.5, 1.5]))
