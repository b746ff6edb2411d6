import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlcredit.credit.owen import owen_value, path_myerson_value, window_value
from rlcredit.credit.shapley import shapley_value
from tests.credit.oracles import owen, path_restricted, released_window, shapley
from tests.strategies import DOUBLE, reals, tables, windows_of


def close(found, expected, atol=1e-9):
    torch.testing.assert_close(
        found, torch.as_tensor(expected, dtype=DOUBLE), rtol=0, atol=atol, check_dtype=False
    )


@given(tables())
def test_myerson_is_the_shapley_value_of_the_game_of_connected_runs(game):
    values, n = game
    windows = windows_of(values, n)
    close(path_myerson_value(windows), shapley(path_restricted(windows, n), n))


@given(tables(smallest=1))
def test_myerson_is_efficient(game):
    values, n = game
    assert path_myerson_value(windows_of(values, n)).sum().item() == pytest.approx(
        values[-1].item(), abs=1e-9
    )


@given(tables(smallest=2))
def test_myerson_is_fair_a_cut_link_costs_both_its_ends_the_same(game):
    values, n = game
    windows = windows_of(values, n)
    whole = path_myerson_value(windows)
    for left in range(n - 1):
        # Without the link between left and left + 1 the path is two paths.
        parts = torch.cat(
            [
                path_myerson_value(windows[: left + 1, : left + 1].contiguous()),
                path_myerson_value(windows[left + 1 :, left + 1 :].contiguous()),
            ]
        )
        change = whole - parts
        assert change[left].item() == pytest.approx(change[left + 1].item(), abs=1e-9)


@given(tables(smallest=1), st.integers(0, 3))
def test_padding_and_what_stands_below_the_diagonal_change_no_value(game, extra):
    values, n = game
    windows = windows_of(values, n)
    wide = torch.full((n + extra, n + extra), torch.nan, dtype=DOUBLE)
    upper = torch.ones(n, n).triu().bool()
    wide[:n, :n] = torch.where(upper, windows, torch.nan)
    count = torch.tensor(n)
    close(path_myerson_value(wide, num_players=count)[:n], path_myerson_value(windows))
    assert (path_myerson_value(wide, num_players=count)[n:] == 0).all()
    for normalise in (False, True):
        for width in (1, 2, n):
            padded = window_value(wide, max_width=width, normalise=normalise, num_players=count)
            close(padded[:n], window_value(windows, max_width=width, normalise=normalise))
            assert (padded[n:] == 0).all()


@given(
    tables(smallest=1), st.integers(1, 6), st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4)))
)
def test_the_released_estimator_is_the_sum_over_pairs_of_evaluated_coalitions(game, width, missing):
    values, n = game
    windows = windows_of(values, n)
    known = torch.tensor([[(a, b) not in missing for b in range(n)] for a in range(n)])
    known[0, n - 1] = True

    def evaluated(a, b):
        return bool(known[a, b]) and (b - a < width or b - a == n - 1)

    credit, weights = released_window(windows, n, evaluated)
    wrong = torch.where(known, windows, torch.nan)
    found = window_value(wrong, max_width=width, normalise=False, evaluated=known)
    close(found, credit)
    normalised = window_value(wrong, max_width=width, normalise=True, evaluated=known)
    close(normalised, [c / w if w else 0.0 for c, w in zip(credit, weights, strict=True)])


additive = st.lists(reals(), min_size=1, max_size=9)


@given(additive, st.integers(1, 9), st.integers(0, 2**20))
def test_additive_games_pay_everyone_their_own_for_every_width_and_sample(own, width, seed):
    n = len(own)
    total = torch.tensor([0.0, *own], dtype=DOUBLE).cumsum(0)
    windows = (total[1:].unsqueeze(0) - total[:-1].unsqueeze(1)).triu()
    close(path_myerson_value(windows), own)
    close(window_value(windows, max_width=width, normalise=True), own)
    drawn = torch.rand(n, n, generator=torch.Generator().manual_seed(seed)) < 0.6
    sampled = drawn | torch.eye(n).bool()
    close(window_value(windows, max_width=n, normalise=True, evaluated=sampled), own)


def test_reflecting_the_text_reflects_the_credit():
    windows = torch.rand(6, 6, generator=torch.Generator().manual_seed(1), dtype=DOUBLE).triu()
    mirrored = windows.flip(0, 1).T.contiguous()
    close(path_myerson_value(mirrored), path_myerson_value(windows).flip(0))
    for width in (1, 3, 6):
        there = window_value(windows, max_width=width, normalise=False)
        back = window_value(mirrored, max_width=width, normalise=False)
        close(back, there.flip(0))


def test_a_phrase_whose_insertion_never_changes_anything_gets_nothing():
    own = torch.tensor([0.3, 0.0, 0.4, 0.2], dtype=DOUBLE)
    # v = 1 - prod(1 - own): segment 1 adds nothing to any window.
    windows = torch.zeros(4, 4, dtype=DOUBLE)
    for a in range(4):
        for b in range(a, 4):
            windows[a, b] = 1 - (1 - own[a : b + 1]).prod()
    for normalise in (False, True):
        assert abs(window_value(windows, max_width=4, normalise=normalise)[1].item()) < 1e-12


def test_myerson_pays_a_phrase_for_the_bridge_it_is():
    # The outer segments earn 1 together, the middle one nothing by itself: without it they
    # are no neighbours, so it shares.
    windows = torch.zeros(3, 3, dtype=DOUBLE)
    windows[0, 2] = 1.0
    close(path_myerson_value(windows), [1 / 3, 1 / 3, 1 / 3])


def test_no_player_and_one_player():
    assert path_myerson_value(torch.zeros(2, 0, 0)).shape == (2, 0)
    assert window_value(torch.zeros(2, 0, 0), max_width=1, normalise=True).shape == (2, 0)
    assert path_myerson_value(torch.tensor([[0.7]])).tolist() == [pytest.approx(0.7)]
    one = torch.tensor([[0.7]])
    assert window_value(one, max_width=3, normalise=False).tolist() == [pytest.approx(0.7)]


def test_a_batch_of_groups_is_valued_game_by_game():
    windows = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(5), dtype=DOUBLE)
    found = window_value(windows, max_width=2, normalise=True)
    for p, g in ((0, 0), (0, 2), (1, 1)):
        close(found[p, g], window_value(windows[p, g], max_width=2, normalise=True))


def test_a_width_below_one_is_refused():
    with pytest.raises(ValueError, match="max_width is 0"):
        window_value(torch.zeros(2, 2), max_width=0, normalise=True)


def test_float32_games_are_valued_to_float32_precision():
    windows = torch.rand(12, 12, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    assert path_myerson_value(windows.float()).dtype == torch.float32
    close(path_myerson_value(windows.float()).double(), path_myerson_value(windows), atol=1e-5)


@given(tables(), st.lists(st.integers(-2, 2), min_size=5, max_size=5))
def test_owen_is_the_mean_over_orders_that_interrupt_no_union(game, drawn):
    values, n = game
    unions = drawn[:n]
    close(owen_value(values, unions=torch.tensor(unions, dtype=torch.long)), owen(values, unions))


@given(tables(smallest=1), st.lists(st.integers(0, 2), min_size=5, max_size=5))
def test_owen_is_efficient_and_its_unions_earn_the_shapley_value_between_them(game, drawn):
    values, n = game
    unions = drawn[:n]
    credit = owen_value(values, unions=torch.tensor(unions))
    assert credit.sum().item() == pytest.approx(values[-1].item(), abs=1e-9)
    names = sorted(set(unions))
    quotient = torch.tensor(
        [
            values[sum(1 << i for i in range(n) if s >> names.index(unions[i]) & 1)].item()
            for s in range(2 ** len(names))
        ],
        dtype=DOUBLE,
    )
    totals = [sum(credit[i].item() for i in range(n) if unions[i] == name) for name in names]
    close(shapley_value(quotient), totals)


@given(tables(smallest=1))
def test_singleton_unions_and_one_union_give_the_shapley_value(game):
    values, n = game
    expected = shapley_value(values)
    close(owen_value(values, unions=torch.arange(n)), expected)
    close(owen_value(values, unions=torch.full((n,), 7)), expected)


@given(tables(smallest=1, largest=4), st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_padding_players_change_no_owen_value(game, drawn):
    values, n = game
    wide = torch.full((2 ** (n + 2),), torch.nan, dtype=DOUBLE)
    wide[: 2**n] = values
    found = owen_value(wide, unions=torch.tensor(drawn[: n + 2]), num_players=torch.tensor(n))
    close(found[:n], owen_value(values, unions=torch.tensor(drawn[:n])))
    assert (found[n:] == 0).all()


def test_each_game_of_a_batch_may_have_its_own_unions():
    values = torch.rand(2, 16, generator=torch.Generator().manual_seed(3), dtype=DOUBLE)
    unions = torch.tensor([[0, 0, 1, 1], [5, 2, 5, 5]])
    found = owen_value(values, unions=unions)
    for row in range(2):
        close(found[row], owen_value(values[row], unions=unions[row]))
    assert (found - shapley_value(values)).abs().max() > 1e-3


def test_unions_that_do_not_match_the_game_are_refused():
    with pytest.raises(ValueError, match="3 union labels for a game of 2 players"):
        owen_value(torch.zeros(4), unions=torch.zeros(3, dtype=torch.long))
