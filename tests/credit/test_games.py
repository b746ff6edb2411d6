import torch

from rlcredit.credit.coalitions import leave_one_out, subsets, windows
from rlcredit.credit.games import player_order, subset_table, window_table, without_each


def test_players_come_first_and_keep_their_order():
    players = torch.tensor([[False, True, False, True], [True, True, False, False]])
    assert player_order(players).tolist() == [[1, 3, 0, 2], [0, 1, 2, 3]]


def test_windows_land_in_their_cells_and_other_coalitions_in_none():
    members = subsets(3)
    rewards = torch.tensor([0.0, 7, 1, 2, 12, 3, 13, 23])
    evaluated = torch.ones(8, dtype=torch.bool)
    evaluated[5] = False
    table, known = window_table(members, torch.where(evaluated, rewards, torch.nan), evaluated)
    assert table.tolist() == [[1, 12, 7], [0, 2, 23], [0, 0, 0]]
    assert known.int().tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 0]]


def test_a_game_narrower_than_its_padding_keeps_its_cells():
    members = torch.zeros(1, 5, 4, dtype=torch.bool)
    members[0, :4, :2] = windows(2)
    evaluated = torch.tensor([[True, True, True, True, False]])
    table, known = window_table(members, torch.tensor([[0.0, 5, 1, 2, 9]]), evaluated)
    assert table[0, :2, :2].tolist() == [[1, 5], [0, 2]]
    assert known.sum() == 3
    assert table.sum() == 8


def test_subsets_are_ordered_by_their_bits():
    members = subsets(2)
    table = subset_table(members, torch.tensor([0.0, 3, 1, 2]), torch.ones(4, dtype=torch.bool))
    assert table.tolist() == [0, 1, 2, 3]


def test_everyone_but_one_is_found_for_each_player():
    members = torch.zeros(2, 5, 3, dtype=torch.bool)
    members[0] = leave_one_out(3)
    members[1, :2, :1] = leave_one_out(1)
    rewards = torch.tensor([[0.0, 9, 1, 2, 3], [0.0, 4, 8, 8, 8]])
    evaluated = torch.tensor([[True] * 5, [True, True, False, False, False]])
    found = without_each(members, rewards, evaluated, torch.tensor([3, 1]))
    assert found.tolist() == [[1, 2, 3], [0, 0, 0]]


def test_a_game_without_players_has_empty_tables():
    members = torch.zeros(2, 1, 0, dtype=torch.bool)
    evaluated = torch.ones(2, 1, dtype=torch.bool)
    table, known = window_table(members, torch.zeros(2, 1), evaluated)
    assert table.shape == known.shape == (2, 0, 0)
