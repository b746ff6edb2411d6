"""Responses with their credit: by token for trackers, by segment on disk."""

import json
from dataclasses import replace

import torch

from rlcredit.run.responses import (
    COLUMNS,
    CompletionsFile,
    credited_text,
    response_rows,
)
from rlcredit.scoring.samples import Completion, SegmentCredit
from rlcredit.types import Advantages, Prompt, Rollouts


def rollouts_of(text, spans) -> Rollouts:
    num_tokens = len(spans)
    return Rollouts(
        prompts=(Prompt(prompt_id="q", text="find", query="find", relevance={"d": 3}),),
        texts=((text,),),
        prompt_ids=torch.zeros(1, 1, dtype=torch.long),
        prompt_mask=torch.ones(1, 1, dtype=torch.bool),
        response_ids=torch.zeros(1, 1, num_tokens, dtype=torch.long),
        response_mask=torch.ones(1, 1, num_tokens, dtype=torch.bool),
        char_spans=torch.tensor([[spans]]),
        rollout_logprobs=torch.zeros(1, 1, num_tokens),
        finished=torch.ones(1, 1, dtype=torch.bool),
        temperature=1.0,
    )


def test_pieces_are_the_tokens_and_join_to_the_text():
    rollouts = rollouts_of("red tent ", [(0, 3), (3, 8), (0, 0)])
    credit = torch.tensor([[[0.5, -0.25, 0.0]]])
    text = credited_text(rollouts, Advantages(values=torch.zeros(1, 1, 3), credit=credit), 0, 0)
    assert text.pieces == (("red", 0.5), (" tent", -0.25), (" ", None))
    assert text.text == "red tent "


def test_bytes_of_one_character_are_one_piece_and_gaps_have_no_credit():
    rollouts = rollouts_of("aé b", [(0, 1), (1, 2), (1, 2), (3, 4)])
    values = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    text = credited_text(rollouts, Advantages(values=values), 0, 0)
    assert text.pieces == (("a", 1.0), ("é", 2.0), (" ", None), ("b", 4.0))


def test_rows_of_the_table_have_the_columns_that_are_named():
    rollouts = rollouts_of("red", [(0, 3)])
    advantages = Advantages(values=torch.tensor([[[0.5]]]))
    (row,) = response_rows(7, rollouts, [[0.25]], advantages)
    assert dict(zip(COLUMNS, row, strict=True)) == {
        "step": 7,
        "prompt": "find",
        "response": credited_text(rollouts, advantages, 0, 0),
        "reward": 0.25,
    }


def test_completions_are_lines_and_a_resumed_run_repeats_none(tmp_path):
    completion = Completion(
        prompt_id="q",
        prompt="find",
        response="red, red",
        reward=0.5,
        segments=(
            SegmentCredit(text="red", credit=0.25, counts=True),
            SegmentCredit(text="red", credit=None, counts=False),
        ),
    )
    whole = CompletionsFile(tmp_path, last_step=None)
    for step in (1, 2, 3):
        whole.write(step, [completion, completion])
    text = (tmp_path / "completions.jsonl").read_text()
    assert len(text.splitlines()) == 6
    assert json.loads(text.splitlines()[0]) == {
        "step": 1,
        "prompt_id": "q",
        "prompt": "find",
        "response": "red, red",
        "reward": 0.5,
        "segments": [
            {"text": "red", "credit": 0.25, "counts": True},
            {"text": "red", "credit": None, "counts": False},
        ],
    }
    resumed = CompletionsFile(tmp_path, last_step=2)
    resumed.write(3, [completion, completion])
    resumed.sync()
    assert (tmp_path / "completions.jsonl").read_text() == text


def test_a_response_whose_tokens_nobody_looked_at_is_one_piece():
    rollouts = replace(rollouts_of("red tent", [(0, 3), (3, 8)]), char_spans=None)
    text = credited_text(rollouts, Advantages(values=torch.full((1, 1, 2), -0.5)), 0, 0)
    assert text.pieces == (("red tent", -0.5),)
