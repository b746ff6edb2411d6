import pytest
import torch

from rlcredit.credit.spread import spread_rollout, spread_segment

IDS = torch.tensor([[0, 0, -1, 1, -1], [-1, -1, -1, -1, -1]])


def test_each_token_gets_its_parts_credit_and_the_others_nothing():
    credit = torch.tensor([[0.5, -2.0], [1.0, 1.0]])
    assert spread_segment(credit, IDS).tolist() == [[0.5, 0.5, 0, -2.0, 0], [0, 0, 0, 0, 0]]


def test_each_response_token_gets_its_rollouts_credit():
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert spread_rollout(torch.tensor([2.0, torch.nan]), mask).tolist() == [[2, 2, 0], [0, 0, 0]]


def test_responses_without_any_part_get_nothing():
    assert spread_segment(torch.zeros(2, 0), torch.full((2, 3), -1)).tolist() == [[0] * 3] * 2


def test_a_token_of_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match=r"part 1.*1 parts"):
        spread_segment(torch.zeros(2, 1), IDS)
