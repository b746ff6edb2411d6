"""Shapley values equal to those of shapiq's exact computer."""

import numpy as np
import pytest
import torch

from rlcredit.credit.coalitions import Subsets
from rlcredit.credit.games import subset_table
from rlcredit.credit.shapley import shapley_of_max, shapley_value


def by_shapiq(game, num_players):
    import shapiq  # numba and networkx come with it: only the worker that runs this file pays

    computer = shapiq.ExactComputer(game=game, n_players=num_players)
    values = computer("SV")
    return [values[(i,)] for i in range(num_players)]


@pytest.mark.parametrize("num_players", [1, 2, 5, 8])
def test_values_of_random_games(num_players):
    generator = torch.Generator().manual_seed(num_players)
    table = torch.rand(2**num_players, generator=generator, dtype=torch.float64)
    table[0] = 0

    def game(coalitions):
        bits = coalitions.astype(int) @ (2 ** np.arange(num_players))
        return table.numpy()[bits]

    expected = by_shapiq(game, num_players)
    assert shapley_value(table).tolist() == pytest.approx(expected, abs=1e-9)
    # And by way of a plan's coalitions, as a response's game is given.
    members = Subsets()(num_players, generator)
    values = torch.from_numpy(game(members.numpy()))
    evaluated = torch.ones(len(members), dtype=torch.bool)
    found = shapley_value(subset_table(members, values, evaluated))
    assert found.tolist() == pytest.approx(expected, abs=1e-9)


def test_the_value_of_the_maximum():
    rewards = np.array([0.3, -0.2, 0.9, 0.9, 0.0, 0.4])

    def game(coalitions):
        alone = np.where(coalitions, rewards, -np.inf).max(axis=1)
        return np.where(coalitions.any(axis=1), alone, 0.0)

    found = shapley_of_max(torch.from_numpy(rewards))
    assert found.tolist() == pytest.approx(by_shapiq(game, 6), abs=1e-9)
