import torch

from scripts.bench_credit import CreditShare, credit_table, mathematics, seconds


def test_the_table_marks_what_takes_more_than_its_share_of_a_step():
    rows = [
        CreditShare(name="a GRPO step", milliseconds=200.0, share=1.0),
        CreditShare(name="cheap", milliseconds=2.0, share=0.01),
        CreditShare(name="dear", milliseconds=10.0, share=0.05),
    ]
    lines = credit_table(rows).splitlines()[2:]
    assert [("over the limit" in line) for line in lines] == [False, False, True]
    assert "5.00%" in lines[2]


def test_more_work_takes_more_seconds():
    small, large = torch.rand(8, 8), torch.rand(512, 512)
    assert 0 < seconds(lambda: small @ small) < seconds(lambda: large @ large)


def test_the_heaviest_functions_are_timed_at_their_stated_sizes():
    taken = mathematics()
    assert len(taken) == 3
    assert all(0 < value < 1 for value in taken.values())
