"""SkyRL's batches, as its source at a956457 has them, with our advantages."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from rlcredit import Credit
from rlcredit.integrations.contract import SKYRL
from rlcredit.integrations.skyrl import credit_trainer, handed_over, register
from rlcredit.scoring.named import ESTIMATORS
from rlcredit.text import Windows
from tests.integrations import skyrl_world as world
from tests.integrations.world import FITTING, ROWS, SIZES, TEXTS, fails, ours_of_all, tokens, wanted
from tests.policy.toy import toy_policy

STEP = 5
COUNT = sum(SIZES)


@pytest.fixture(scope="module")
def tokenizer():
    return toy_policy().tokenizer


def asked(messages, columns):
    return {"prompt": messages[-1]["content"], **columns}


def trainer_of(tokenizer, *, reward=wanted, registry=None, base=world.RayPPOTrainer, **changed):
    """A trainer of rows behind one that is not trained on."""
    rows = [{"prompt": "never asked", "wanted": []}, *ROWS]
    if registry is None:
        registry = world.AdvantageEstimatorRegistry()
        register(registry)
    made = credit_trainer(base)(
        world.config(**changed),
        tokenizer,
        world.PromptDataset(
            [row | {"prompt": [{"role": "user", "content": row["prompt"]}]} for row in rows]
        ),
        registry,
        credit=lambda name: Credit(
            reward=reward, estimator=name, seed=3, segmenter=Windows(num_words=2)
        ),
        prompt=asked,
    )
    made.global_step = STEP
    return made


def output_of(tokenizer):
    """What SkyRL's generator gives for ragged groups, and the uids."""
    output = {"prompt_token_ids": [], "response_ids": [], "rewards": [], "loss_masks": []}
    uids = []
    for number, (row, texts, size) in enumerate(zip(ROWS, TEXTS, SIZES, strict=True)):
        for text in texts[:size]:
            own = tokens(tokenizer, text)
            output["prompt_token_ids"].append(tokens(tokenizer, row["prompt"])[:-1])
            output["response_ids"].append(own)
            output["rewards"].append([0.0] * (len(own) - 1) + wanted([text], [row]))
            output["loss_masks"].append([1] * len(own))
            uids.append(str(number + 1))
    return output, uids


def trained(trainer, output, uids):
    return trainer.compute_advantages_and_returns(trainer.convert_to_training_input(output, uids))


@pytest.mark.parametrize("name", FITTING)
def test_the_batch_has_our_advantages_and_padding_rows_have_none(name, tokenizer):
    trainer = trainer_of(tokenizer, advantage_estimator=f"rlcredit_{name}")
    output, uids = output_of(tokenizer)
    data = trained(trainer, output, uids)
    expected = ours_of_all(trainer.credit, tokenizer, step=STEP)
    kept = data["response_mask"].bool()
    found = [row[mask] for row, mask in zip(data["advantages"], kept, strict=True)]
    assert all(map(torch.equal, found[:COUNT], expected))
    assert any(bool(row.any()) for row in expected)
    assert len(found) == COUNT + data.metadata["pad_size"] > COUNT
    assert not data["advantages"][COUNT:].any()
    assert not data["advantages"][~kept].any()
    assert torch.equal(data["advantages"], data["returns"])
    assert data["advantages"] is not data["returns"]
    rewards = [sum(row) for row in output["rewards"]]
    assert trainer.all_metrics["loss/avg_final_rewards"] == pytest.approx(sum(rewards) / COUNT)


def test_groups_that_train_nothing_and_end_tokens_that_skyrl_adds_are_read(tokenizer):
    trainer = trainer_of(tokenizer, advantage_estimator="rlcredit_loo")
    output, uids = output_of(tokenizer)
    output["loss_masks"][0] = [0] * len(output["loss_masks"][0])
    output["loss_masks"][1][-1] = 0
    data = trained(trainer, output, uids)
    kept = data["response_mask"].bool()
    found = [row[mask] for row, mask in zip(data["advantages"], kept, strict=True)]
    expected = ours_of_all(trainer.credit, tokenizer, step=STEP)
    assert all(map(torch.equal, found[:COUNT], expected))


@pytest.mark.parametrize("masked", [slice(0, 1), slice(2, 4), slice(-3, None)])
def test_what_the_environment_wrote_into_a_response_is_refused(masked, tokenizer):
    output, uids = output_of(tokenizer)
    mask = output["loss_masks"][3]
    mask[masked] = [0] * len(mask[masked])
    with pytest.raises(ValueError, match=r"response 3 to prompt 1 trains on \d+ of \d+ tokens"):
        trained(trainer_of(tokenizer), output, uids)


def test_a_group_of_one_is_refused(tokenizer):
    output, uids = output_of(tokenizer)
    uids[-1] = "0"
    with pytest.raises(ValueError, match="group '0' has one response"):
        trained(trainer_of(tokenizer), output, uids)


def test_a_reward_that_fails_stops_the_step(tokenizer):
    trainer = trainer_of(tokenizer, reward=fails)
    with pytest.raises(RuntimeError, match="the judge is away"):
        trained(trainer, *output_of(tokenizer))
    assert trainer.all_metrics == {}


def test_a_reward_that_is_not_the_environment_s_is_refused(tokenizer):
    output, uids = output_of(tokenizer)
    output["rewards"][0][-1] += 1
    with pytest.raises(ValueError, match=r"earned 3.*, and the reward of the credit says 2"):
        trained(trainer_of(tokenizer), output, uids)


def test_another_trainer_is_told_that_it_has_no_texts(tokenizer):
    registry = world.AdvantageEstimatorRegistry()
    register(registry)
    plain = world.RayPPOTrainer(world.config(), tokenizer, None, registry)
    with pytest.raises(ValueError, match=r"no texts, .*credit_trainer\(RayPPOTrainer\)"):
        trained(plain, *output_of(tokenizer))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"step_wise_trajectories": True}, "step_wise_trajectories gives all steps one number"),
        ({"use_kl_in_reward": True}, "use_kl_in_reward changes the rewards"),
        ({"advantage_batch_normalize": True}, "advantage_batch_normalize moves"),
        ({"policy_loss_type": "gspo"}, "gspo has one ratio a response, and OSPO credits each"),
        ({"advantage_estimator": "grpo"}, "advantage_estimator=grpo is none of this trainer's"),
        ({"advantage_estimator": "ospo"}, "advantage_estimator=ospo is none of this trainer's"),
        ({"advantage_estimator": "rlcredit_gae"}, "rlcredit_gae is none"),
    ],
)
def test_settings_that_would_change_what_the_credit_means_are_refused(changed, said, tokenizer):
    with pytest.raises(ValueError, match=said):
        trainer_of(tokenizer, **changed)


def test_whole_responses_go_with_a_ratio_of_whole_responses(tokenizer):
    settings = {"policy_loss_type": "gspo", "advantage_estimator": "rlcredit_rloo"}
    data = trained(trainer_of(tokenizer, **settings), *output_of(tokenizer))
    assert data["advantages"].any()


def test_two_estimators_of_one_name_are_refused():
    registry = world.AdvantageEstimatorRegistry()
    register(registry)
    assert {f"rlcredit_{name}" for name in ESTIMATORS} < set(registry._functions)
    with pytest.raises(ValueError, match=r"'rlcredit_.*' already registered"):
        register(registry)
    taken = world.AdvantageEstimatorRegistry()
    taken.register("rlcredit_ospo", partial(handed_over, index=()))
    with pytest.raises(ValueError, match="'rlcredit_ospo' already registered"):
        register(taken)


def test_what_moved_in_skyrl_is_named():
    lines = {"compute_advantages_and_returns": ("index=data.metadata['rows'],",)}
    with pytest.raises(ImportError, match=r"no longer says .*rows"):
        replace(SKYRL, lines=lines).check(world.RayPPOTrainer, "here")


def test_a_trainer_of_another_skyrl_is_refused(tokenizer):
    class Changed(world.RayPPOTrainer):
        def compute_advantages_and_returns(self, data, step):
            return data

    with pytest.raises(ImportError, match=r"takes \['self', 'data', 'step'\].*Install one of"):
        trainer_of(tokenizer, base=Changed)
