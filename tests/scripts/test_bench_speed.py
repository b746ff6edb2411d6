import json
from dataclasses import replace

import pytest
import torch

from rlcredit.distributed.world import World
from rlcredit.policy.packing import Packing
from scripts.bench_ranks import ranks, take_turns
from scripts.bench_speed import SCALING, scaling
from scripts.bench_work import DistinctCharacters, Work, own_trainer

TINY = Work(
    prompt_tokens=6,
    prompts_per_step=2,
    group_size=3,
    max_new_tokens=5,
    vocab_size=256,
    hidden_size=64,
    num_layers=1,
)


def test_prompts_have_the_stated_length():
    tokenizer = TINY.tokenizer()
    assert {len(tokenizer(text)["input_ids"]) for text in TINY.texts()} == {6}


def test_ragged_work_ends_at_128_tokens_and_fixed_work_at_one():
    ragged = replace(TINY, ragged=True).model().generation_config.eos_token_id
    assert len(set(ragged)) == 128
    assert TINY.model().generation_config.eos_token_id == 1
    work = replace(TINY, ragged=True, max_new_tokens=12)
    lengths = own_trainer(work, work.model()).step(1).rollouts.response_mask.sum(2)
    assert len(lengths.unique()) > 1


def test_the_reward_is_the_number_of_distinct_characters():
    assert DistinctCharacters()([], ["w1 w1", "", "abcd"]).tolist() == [3.0, 0.0, 4.0]


def test_both_packings_take_the_same_first_step():
    steps = [own_trainer(TINY, TINY.model(), packing=each).step(1) for each in Packing]
    one, other = steps
    assert torch.equal(one.rollouts.response_ids, other.rollouts.response_ids)
    for name in ("train/grad_norm", "train/entropy_nats", "reward/mean"):
        assert one.metrics[name] == pytest.approx(other.metrics[name], rel=1e-4)


def test_scaling_times_both_packings_at_the_changed_size(capsys):
    rows = scaling([{"group_size": 4}], base=TINY, steps=1)
    assert rows[0]["work"]["group_size"] == 4
    assert all(rows[0][side]["step_s"] > 0 for side in ("shared", "padded"))
    assert set(rows[0]["shared"]["stages_s"]) == {"rollout", "reward", "credit", "update"}
    assert "| group_size 4 |" in capsys.readouterr().out


def test_every_size_is_scaled_and_has_rows_of_its_own():
    assert {key for rows in SCALING.values() for row in rows for key in row} == {
        "prompt_tokens",
        "group_size",
        "max_new_tokens",
        "vocab_size",
    }


def test_the_step_of_one_process_is_the_measure_of_several(tmp_path):
    take_turns(TINY, 2, tmp_path / "found", world=World())
    found = json.loads((tmp_path / "found").read_text())
    assert set(found) == {"alone"}
    assert found["alone"]["steps"] == 2
    assert found["alone"]["peak_mb_of_each"] == [found["alone"]["peak_mb"]]
    with pytest.raises(ValueError, match="3 processes share 2 prompts"):
        ranks(TINY, [3], steps=1)


@pytest.mark.slow
def test_two_processes_take_turns_with_one(capsys):
    found = {row["arm"]: row["measured"] for row in ranks(TINY, [1, 2], steps=1)}
    assert set(found) == {"alone", "ddp", "fsdp"}
    assert len(found["fsdp"]["peak_mb_of_each"]) == 2
    assert "| 2 fsdp |" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")
def test_the_gradient_on_trls_own_step_is_trls():
    from scripts.bench_timing import paired_ratio
    from scripts.bench_trl import Arms, gradient_parity

    assert gradient_parity(replace(TINY, ragged=True)) < 1e-5
    row = Arms(work=TINY, steps=2, compact=True).run()
    assert set(row["ratios"]) == {"rlcredit fp32", "rlcredit bf16"}
    assert row["trl_measured"]["mean_tokens"] > 4
    assert paired_ratio({"every_step_s": [2, 9, 4]}, {"every_step_s": [1, 3, 2]}) == 2
