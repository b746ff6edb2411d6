"""TRL's own loop with our credit: three steps of each estimator, equal to our own advantages."""

from dataclasses import replace
from datetime import datetime
from functools import partial
from importlib.util import find_spec

import pyarrow.parquet as pq
import pytest
import torch

from rlcredit import Credit, FunctionReward
from rlcredit.credit.group import group_relative
from rlcredit.credit.simplex import Divergence
from rlcredit.integrations.contract import TRL
from rlcredit.losses.lpo import lpo_advantages
from rlcredit.text import Sentences, TextRules, Windows
from tests.integrations.trl_world import started
from tests.integrations.world import FITTING
from tests.policy.toy import toy_policy, toy_prompts

ROWS = [{"prompt": p.text, "wanted": ["red", "steel", "soft"]} for p in toy_prompts()[:6]]
CUT = {"segmenter": Windows(num_words=2)}

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(find_spec("trl") is None, reason="TRL is not installed"),
]


def wanted(texts, rows):
    """How many of a row's words a text has, and a little for each of its letters."""
    return [
        sum(word in text for word in row["wanted"]) + len(set(text)) / 100
        for text, row in zip(texts, rows, strict=True)
    ]


@pytest.fixture(scope="module")
def policy():
    return toy_policy()


@pytest.fixture
def make(policy, tmp_path):
    """A trainer that makes three updates, and keeps every batch that it trained on."""

    from tests.integrations.trl_kept import trainer  # TRL: seconds of every collection

    return partial(trainer, policy, tmp_path / "trl", rows=ROWS)


def own(credit, trainer, batch):
    """Our advantages of a batch that TRL trained on, from its padded tensors and its rows."""
    step, rows, output = batch
    size = trainer.num_generations
    groups = (len(rows) // size, size)
    return credit.of_tokens(
        rows[::size],
        output["completion_ids"].unflatten(0, groups),
        output["completion_mask"].bool().unflatten(0, groups),
        trainer.processing_class,
        step=step,
    )


@pytest.mark.parametrize("name", FITTING)
def test_three_steps_have_the_advantages_of_our_own_loop(name, make, policy):
    credit = Credit(reward=wanted, estimator=name, seed=4, **CUT)
    trainer = make(credit)
    trainer.train()
    assert len(trainer.batches) == 3
    for batch in trainer.batches:
        found = own(credit, trainer, batch)
        given = batch[2]["advantages"]
        assert torch.equal(given, found.advantages.flatten(0, 1).float())
        assert bool(given.any())
    moved = [
        float((a - b).abs().max())
        for a, b in zip(policy.model.parameters(), trainer.model.parameters(), strict=True)
    ]
    assert max(moved) > 1e-5
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert logged[-1]["rlcredit/reward_evaluations"] >= 8
    assert len(logged) == 3


def test_candidates_of_sets_are_credited(make):
    rules = TextRules(num_candidates=2)
    credit = Credit(reward=wanted, estimator="shape", rules=rules)
    trainer = make(credit, max_steps=1)
    trainer.train()
    (batch,) = trainer.batches
    assert torch.equal(
        batch[2]["advantages"], own(credit, trainer, batch).advantages.flatten(0, 1).float()
    )


def test_other_reward_functions_enter_the_total(make):
    credit = Credit(reward=wanted, estimator="loo", **CUT)

    def short(completions, **columns):
        return [-len(text) / 50 for text in completions]

    trainer = make(credit, reward_funcs=short, reward_weights=[0.5, 2.0], max_steps=1)
    trainer.train()
    ((step, rows, output),) = trainer.batches
    found = own(credit, trainer, (step, rows, output))
    groups = found.rewards.shape
    texts = [text for group in found.responses.texts for text in group]
    length = torch.tensor(short(texts), dtype=torch.float32).view(groups)
    rewards = 0.5 * found.rewards + 2 * length
    game = replace(found.signals.game, rewards=0.5 * found.signals.game.rewards)
    expected = credit.estimator(replace(found.signals, rewards=rewards, game=game)).values
    torch.testing.assert_close(
        output["advantages"], expected.flatten(0, 1).float(), rtol=0, atol=1e-5
    )
    relative = group_relative(rewards).flatten()
    mean = output["advantages"].sum(1) / output["completion_mask"].sum(1)
    torch.testing.assert_close(mean, relative.float(), rtol=0, atol=0.2)


@pytest.mark.parametrize("kind", list(Divergence))
def test_lpo_is_a_plain_loss_on_its_advantages(kind, make):
    credit = Credit(reward=wanted, estimator="grpo", **CUT)
    trainer = make(credit, lpo=kind, loss_type="grpo", max_steps=1)
    trainer.train()
    (batch,) = trainer.batches
    found = own(credit, trainer, batch)
    projected = lpo_advantages(group_relative(found.rewards), divergence=kind)
    mask = found.responses.response_mask
    expected = torch.where(mask, projected.unsqueeze(-1), 0)
    torch.testing.assert_close(
        batch[2]["advantages"], expected.flatten(0, 1).float(), rtol=0, atol=1e-5
    )


def test_prompts_of_this_package_are_found_by_their_id(make):
    prompts = toy_prompts()[:6]
    rows = [{"prompt": p.text, "prompt_id": p.prompt_id} for p in prompts]
    seen = []

    def graded(texts, rows):
        seen.extend(row["relevance"] for row in rows)
        return [float(len(text)) for text in texts]

    trainer = make(Credit(reward=graded, estimator="grpo"), rows=rows, prompts=prompts, max_steps=1)
    trainer.train()
    assert seen
    assert all(seen)
    trainer = make(Credit(reward=graded, estimator="grpo"), rows=ROWS, prompts=prompts, max_steps=1)
    with pytest.raises(ValueError, match="knows no such prompt"):
        trainer.train()


def test_a_conversation_is_a_prompt_and_segments_stand_in_the_completions(make, tmp_path, capsys):
    rows = [
        {"prompt": [{"role": "user", "content": row["prompt"]}], "wanted": row["wanted"]}
        for row in ROWS
    ]
    trainer = make(
        Credit(reward=wanted, estimator="loo", **CUT), rows=rows, max_steps=1, log_completions=True
    )
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    trainer.processing_class.chat_template = template
    try:
        trainer.train()
    finally:
        trainer.processing_class.chat_template = None
    (table,) = (tmp_path / "trl" / "completions").glob("*.parquet")
    shown = pq.read_table(table)["rlcredit/segments"].to_pylist()
    assert len(shown) == 8
    assert any("+" in cell for cell in shown)


@pytest.mark.parametrize(
    ("estimator", "settings", "said"),
    [
        ("ospo", {"loss_type": "vespo"}, r"loss_type='vespo' reads one advantage"),
        ("loo", {"importance_sampling_level": "sequence"}, "level='sequence' reads one"),
        ("prefix", {"off_policy_mask_threshold": 0.5}, "off_policy_mask_threshold reads one"),
        ("ospo", {"lpo": Divergence.forward_kl, "loss_type": "grpo"}, "one weight per response"),
        ("grpo", {"lpo": Divergence.forward_kl}, "set loss_type='grpo'"),
        (
            "grpo",
            {"lpo": Divergence.forward_kl, "loss_type": "grpo", "num_iterations": 2},
            "num_iterations=2.*first update",
        ),
        (
            "grpo",
            {"lpo": Divergence.forward_kl, "loss_type": "grpo", "steps_per_generation": 2},
            "steps_per_generation=2",
        ),
    ],
)
def test_settings_that_would_change_what_the_credit_means_are_refused(
    estimator, settings, said, make
):
    with pytest.raises(ValueError, match=said):
        make(Credit(reward=wanted, estimator=estimator, **CUT), **settings)


def test_other_rewards_beside_shares_of_sets_are_refused(make):
    credit = Credit(reward=wanted, estimator="shape", rules=TextRules(num_candidates=2))
    with pytest.raises(ValueError, match="reads no other reward"):
        make(credit, reward_funcs=lambda completions, **_: [0.0] * len(completions))


def test_a_reward_that_fails_stops_the_step(make):
    trainer = make(Credit(reward=lambda texts, rows: [float("nan")] * len(texts)))
    with pytest.raises(RuntimeError, match="gave nan"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_columns_that_no_row_can_be_known_by_are_named(make):
    rows = [row | {"when": datetime(2026, 1, 1)} for row in ROWS]
    trainer = make(Credit(reward=wanted), rows=rows)
    with pytest.raises(ValueError, match=r"column when holds a datetime"):
        trainer.train()


def test_an_evaluation_has_figures_of_its_own(make):
    trainer = make(Credit(reward=wanted, estimator="ospo", **CUT), max_steps=1)
    trainer.eval_dataset = trainer.train_dataset.select(range(2))
    found = trainer.evaluate()
    assert found["eval_reward"] > 0
    assert found["eval_rlcredit/reward_evaluations"] >= 8


@pytest.mark.parametrize(
    ("contract", "said"),
    [
        (replace(TRL, parameters={"_compute_loss": ("self",)}), r"takes \['self', 'model'"),
        (replace(TRL, parameters={"_scores": ("self",)}), "has no _scores"),
        (replace(TRL, lines={"_compute_loss": ("no such line",)}), "no longer says"),
    ],
)
def test_what_moved_in_trl_is_named(contract, said):
    from trl import GRPOTrainer

    with pytest.raises(ImportError, match=rf"{said}.*Install one of these versions"):
        contract.check(GRPOTrainer, "1.16.0")


def test_a_group_that_lies_across_two_processes_is_credited_as_one():
    found = started(2)
    batches = [batch for _, batch in sorted(found.items())]
    assert {len(batch) for batch in batches} == {2}
    for step in range(2):
        parts = [batch[step] for batch in batches]
        assert {part.rows for part in parts} == {2}  # of groups of four
        whole = parts[0].everything
        assert [row for part in parts for row in part.advantages] == whole
        assert parts[1].everything == whole
        assert any(map(any, whole))


def test_a_part_means_nothing_to_this_reward():
    with pytest.raises(ValueError, match="a part means nothing"):
        Credit(reward=FunctionReward.at_hand(wanted, parts=False), segmenter=Sentences())
