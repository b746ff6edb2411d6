"""verl's batches, as its source at 0.9.1 has them, with our advantages."""

from itertools import groupby
from types import SimpleNamespace

import pytest
import torch

from rlcredit import Credit
from rlcredit.integrations.contract import VERL, Contract
from rlcredit.integrations.told import Recalled, Record, Recording, told_of
from rlcredit.integrations.verl import NAMES, Setup, credit_manager, credit_trainer, handed_over
from rlcredit.text import Windows
from rlcredit.text.response import TextRules
from rlcredit.types import Prompt
from tests.integrations import verl_world as world
from tests.integrations.world import FITTING, ROWS, SIZES, TEXTS, fails, ours, tokens, wanted
from tests.policy.toy import toy_policy

STEP, SEED = 7, 3
SIZE = max(SIZES)


@pytest.fixture(scope="module")
def tokenizer():
    return toy_policy().tokenizer


@pytest.fixture(autouse=True)
def maker():
    """The credit of a run: two words are a segment."""
    world.MAKER["credit"] = credit_of
    yield world.MAKER
    world.MAKER.clear()


def credit_of(name, *, reward=wanted, **settings):
    usual = {"segmenter": Windows(num_words=2), "seed": SEED}
    return Credit(reward=reward, estimator=name, **(usual | settings))


class Run:
    """A run of verl in one process."""

    def __init__(self, tokenizer, **changed):
        self.tokenizer, self.queue = tokenizer, world.Queue()
        self.keys, self.tags = [], []
        base = type("Base", (world.PPOTrainer,), {"queue": self.queue})
        base.estimators = dict.fromkeys(NAMES, handed_over)
        made = credit_trainer(base, "sync", queue=self.queue, ray=world.RAY)
        self.trainer = made(world.config(**changed))
        self.trainer.tokenizer = tokenizer
        self.trainer.reward_loop_manager = SimpleNamespace(
            reward_loop_worker_handles=[world.worker(), world.worker()]
        )
        manager = credit_manager(world.RewardManagerBase)
        self.manager = manager(self.trainer.config, tokenizer, None, reward_router_address=None)

    def write(self, number, session, text, *, step=STEP, **settings):
        """A response to a row, scored by the reward loop."""
        row = ROWS[number]
        kwargs = {
            "uid": f"uid{number}",
            "session_id": session,
            "index": number,
            "global_steps": step,
            "raw_prompt": [{"role": "user", "content": row["prompt"]}],
            "reward_model": {"ground_truth": ""},
            "extra_info": {"wanted": row["wanted"]},
        } | settings.pop("fields", {})
        read, own = tokens(self.tokenizer, row["prompt"])[:-1], tokens(self.tokenizer, text)
        key, tag = world.put(self.queue, self.manager, kwargs, read, own, **settings)
        self.keys.append(key)
        self.tags.append(tag)

    def write_all(self, texts=TEXTS, sizes=SIZES):
        """Ragged groups, whose rows verl mixes."""
        for session in reversed(range(SIZE)):
            for number, (group, size) in enumerate(zip(texts, sizes, strict=True)):
                if session < size:
                    self.write(number, session, group[session])

    def advantages(self, metrics=None):
        batch = SimpleNamespace(keys=self.keys, tags=self.tags, partition_id="train")
        found, returns = self.trainer._compute_advantage(batch, {} if metrics is None else metrics)
        assert torch.equal(found, returns)
        assert found is not returns
        return dict(zip(self.keys, found, strict=True))


def expected(tokenizer, name, texts=TEXTS, sizes=SIZES, **settings):
    """Our advantages of each response, groups of one size a call, by verl's keys."""
    found = {}
    for size, numbers in groupby(range(len(sizes)), key=lambda number: sizes[number]):
        chosen = list(numbers)
        rows, groups = [ROWS[n] for n in chosen], [texts[n][:size] for n in chosen]
        credit = credit_of(name, **settings)
        own = ours(credit, tokenizer, rows, groups, step=STEP, offset=chosen[0])
        keys = [f"uid{number}_{session}_0" for number in chosen for session in range(size)]
        found |= dict(zip(keys, own, strict=True))
    return found


def equal(found, wanted_rows):
    return all(
        torch.equal(found[key][: len(own)], own) and not found[key][len(own) :].any()
        for key, own in wanted_rows.items()
    )


@pytest.mark.parametrize("name", [name for name in FITTING if name != "random_credit"])
def test_the_batch_has_our_advantages_and_padding_rows_have_none(name, tokenizer):
    run = Run(tokenizer, **{"algorithm.adv_estimator": f"rlcredit_{name}"})
    assert run.trainer.trainer_mode == "sync"
    run.write_all()
    run.keys, run.tags = world.put_padding(run.queue, run.keys, run.tags)
    metrics = {}
    found = run.advantages(metrics)
    own = expected(tokenizer, name)
    assert any(bool(row.any()) for row in own.values())
    assert equal(found, own)
    assert not found["pad0_0_0"].any()
    assert metrics["rlcredit/reward_evaluations"] >= sum(SIZES)


def test_credit_that_is_drawn_is_that_of_the_batch(tokenizer):
    run = Run(tokenizer, **{"algorithm.adv_estimator": "rlcredit_random_credit"})
    run.write_all(sizes=(3, 3, 3))
    order = [f"uid{number}_{session}_0" for number in range(3) for session in range(3)]
    groups = [group[:3] for group in TEXTS]
    own = ours(credit_of("random_credit"), tokenizer, ROWS, groups, step=STEP)
    assert equal(run.advantages(), dict(zip(order, own, strict=True)))


LONG = [
    [", ".join([text, *"abcdefghijklmnopqrstuvwxyz", "ab", "cd", "ef"]) for text in group]
    for group in TEXTS
]
"""More windows than the budget of 96, so that a sample of them is scored."""


def test_a_sample_of_parts_is_the_one_that_was_scored(tokenizer):
    run = Run(tokenizer)
    run.write_all(LONG, (4, 4, 4))
    credit = credit_of("ospo")
    done = credit([ROWS[0]], [LONG[0]])
    assert done.signals.game.sampled.any()
    assert equal(run.advantages(), expected(tokenizer, "ospo", LONG, (4, 4, 4)))


def test_a_sample_is_found_again_where_a_session_was_lost(tokenizer):
    run = Run(tokenizer)
    run.write_all(LONG, (4, 4, 4))
    lost = run.keys.index("uid0_1_0")
    del run.keys[lost], run.tags[lost]
    found = run.advantages()
    own = ours(credit_of("ospo"), tokenizer, ROWS[1:], LONG[1:], step=STEP, offset=1)
    keys = [f"uid{number}_{session}_0" for number in (1, 2) for session in range(4)]
    assert equal(found, dict(zip(keys, own, strict=True)))
    assert found["uid0_2_0"].any()


def test_candidates_are_credited(tokenizer, maker):
    rules = TextRules(num_candidates=2)
    texts = [[f"<candidate>{t}</candidate><candidate>red</candidate>" for t in g] for g in TEXTS]
    texts = [[t.replace("candidate", "c1", 2).replace("candidate", "c2") for t in g] for g in texts]
    maker["credit"] = lambda name: credit_of(name, rules=rules)
    run = Run(tokenizer, **{"algorithm.adv_estimator": "rlcredit_shape"})
    run.write_all(texts)
    assert equal(run.advantages(), expected(tokenizer, "shape", texts, rules=rules))


def test_groups_of_several_steps_are_credited_each_in_its_own(tokenizer):
    run = Run(tokenizer)
    for session in range(4):
        run.write(0, session, LONG[0][session], step=STEP - 1)
        run.write(1, session, LONG[1][session])
    credit = credit_of("ospo")
    own = [
        ours(credit, tokenizer, ROWS[n : n + 1], [LONG[n]], step=step, offset=n)
        for n, step in ((0, STEP - 1), (1, STEP))
    ]
    keys = [f"uid{n}_{g}_0" for n in range(2) for g in range(4)]
    assert equal(run.advantages(), dict(zip(keys, own[0] + own[1], strict=True)))


def test_a_response_whose_siblings_were_lost_gets_none_and_a_line(tokenizer, caplog):
    run = Run(tokenizer)
    run.write_all(sizes=(4, 1, 3))
    found = run.advantages()
    assert not found["uid1_0_0"].any()
    assert "uid1_0_0: its group has 1 left, too few: advantage 0" in caplog.text


@pytest.mark.parametrize("sizes", [SIZES, (1, 0, 0)])
def test_a_reward_that_fails_stops_the_step_and_is_no_number(sizes, tokenizer, maker):
    maker["credit"] = lambda name: credit_of(name, reward=fails)
    run = Run(tokenizer)
    run.write_all(sizes=sizes)
    assert run.queue.rows["uid0_0_0"]["rm_scores"].isnan().any()
    with pytest.raises(RuntimeError, match=r"failed, so the step stops .*the judge is away"):
        run.advantages()


@pytest.mark.parametrize("act", ["_compute_advantage", "_validate", "_add_prompts_to_generate"])
def test_a_reward_worker_that_died_stops_the_run(act, tokenizer):
    run = Run(tokenizer)
    run.write_all()
    run.trainer.reward_loop_manager.reward_loop_worker_handles[1] = world.worker(alive=False)
    arguments = {
        "_compute_advantage": (SimpleNamespace(keys=run.keys, tags=run.tags), {}),
        "_validate": (),
        "_add_prompts_to_generate": (2,),
    }[act]
    with pytest.raises(RuntimeError, match=r"a reward worker has died.*no reward is made up"):
        getattr(run.trainer, act)(*arguments)
    assert run.trainer.sent == 0


def test_living_workers_stop_nothing(tokenizer):
    run = Run(tokenizer)
    assert run.trainer._validate() == {"val/acc": 0.5}
    assert run.trainer._add_prompts_to_generate(2) == run.trainer.sent == 2


def test_what_tools_wrote_into_a_response_is_refused(tokenizer):
    run = Run(tokenizer)
    length = len(tokens(tokenizer, "red, steel"))
    run.write(0, 0, "red, steel", mask=[1] * (length - 3) + [0, 0, 1])
    with pytest.raises(ValueError, match=rf"trains on {length - 2} of {length} tokens: what tools"):
        run.advantages()


def test_a_second_output_of_a_session_is_refused(tokenizer):
    run = Run(tokenizer)
    run.write(0, 0, "red, steel", output=1)
    with pytest.raises(ValueError, match="uid0_0_1 is a second output of one session"):
        run.advantages()


def test_a_response_that_another_reward_scored_is_refused(tokenizer):
    run = Run(tokenizer)
    run.write_all()
    run.queue.rows["uid0_0_0"]["extra_fields"]["reward_extra_info"] = {"acc": 1.0}
    with pytest.raises(RuntimeError, match="uid0_0_0 came without rewards of its parts"):
        run.advantages()


def test_a_reward_that_verl_changed_is_refused(tokenizer):
    run = Run(tokenizer)
    run.write_all()
    run.queue.rows["uid0_0_0"]["rm_scores"][-1] += 1
    with pytest.raises(ValueError, match=r"earned 3.*, and the reward of the credit says 2"):
        run.advantages()


def test_rows_without_numbers_are_refused(tokenizer):
    run = Run(tokenizer)
    run.write(0, 0, "red", fields={"index": "row-a"})
    with pytest.raises(RuntimeError, match=r"extra_info\.index=row-a.*number the rows"):
        run.advantages()


def test_another_trainer_is_told_that_it_has_no_texts():
    with pytest.raises(ValueError, match=r"no texts, .*trainer_mode=rlcredit_sync"):
        handed_over(token_level_rewards=torch.zeros(2, 3), response_mask=torch.ones(2, 3), index=[])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"algorithm.adv_estimator": "grpo"}, "adv_estimator=grpo is none of rlcredit's"),
        ({"algorithm.adv_estimator": "rlcredit_gae"}, "rlcredit_gae is none"),
        ({"reward.reward_kwargs": {}}, "has no credit and no prompt"),
        ({"reward.reward_kwargs.credit": "no.such:thing"}, r"kwargs\.credit=no\.such:thing cannot"),
        ({"actor_rollout_ref.rollout.n": 1}, "rollout.n=1, and OSPO compares 2 responses"),
        (
            {"algorithm.adv_estimator": "rlcredit_maxk"},
            "rollout.n=4, and MaxK compares 5 responses to a prompt or more",
        ),
        ({"reward.reward_manager.name": "naive"}, "reward_manager.name=naive of source=register"),
        ({"reward.reward_manager.source": "importlib"}, "source=importlib scores no parts"),
        ({"reward.reward_model.enable": True}, "reward.reward_model and"),
        ({"reward.custom_reward_function.path": "f.py"}, "would be left out or scored in its"),
        ({"algorithm.use_kl_in_reward": True}, "use_kl_in_reward changes the rewards"),
        (
            {"actor_rollout_ref.actor.policy_loss.loss_mode": "gspo"},
            "loss_mode=gspo reads one advantage of a whole response, and OSPO credits each segment",
        ),
        ({"actor_rollout_ref.actor.policy_loss.loss_mode": "geo_mean"}, "geo_mean reads one"),
    ],
)
def test_settings_that_would_change_what_the_credit_means_are_refused(changed, said, tokenizer):
    with pytest.raises(ValueError, match=said):
        Run(tokenizer, **changed)


def test_whole_responses_go_with_a_ratio_of_whole_responses(tokenizer):
    settings = {
        "algorithm.adv_estimator": "rlcredit_rloo",
        "actor_rollout_ref.actor.policy_loss.loss_mode": "gspo",
    }
    run = Run(tokenizer, **settings)
    run.write_all()
    assert run.advantages()["uid0_0_0"].any()


def test_all_parts_are_scored_in_the_reward_loop_and_none_in_the_trainer(tokenizer, maker):
    asked = []

    def counted(texts, rows):
        asked.extend(texts)
        return wanted(texts, rows)

    maker["credit"] = lambda name: credit_of(name, reward=counted)
    run = Run(tokenizer)
    run.write_all()
    assert len(asked) > sum(SIZES)
    asked.clear()
    run.advantages()
    assert asked == []


def test_records_travel_as_text_bit_for_bit():
    record = Record(rewards={"a, “b”\n": 0.1, "": 1 / 3})
    assert Record.unpacked(record.packed()) == record


def test_processes_that_disagree_about_a_text_are_found():
    prompt = Prompt(prompt_id="p", text="", query="", relevance={})
    close = [(prompt, Record(rewards={"a": reward})) for reward in (0.5, 0.50001)]
    assert told_of(close) == told_of(reversed(close)) == {("p", "a"): 0.5}
    with pytest.raises(RuntimeError, match=r"'a' earned 0\.6 and 0\.5 for prompt p"):
        told_of([*close[:1], (prompt, Record(rewards={"a": 0.6}))])


def test_a_text_that_nobody_scored_is_named():
    prompt = Prompt(prompt_id="p", text="", query="", relevance={})
    recalled = Recalled(reward=lambda prompts, texts: None, known={("p", "a"): 0.5})
    assert recalled([prompt], ["a"]).tolist() == [0.5]
    with pytest.raises(RuntimeError, match="no reward was told of 'b' for prompt p"):
        recalled([prompt, prompt], ["a", "b"])


def test_costs_and_documents_are_those_of_the_reward_behind():
    plain = Recording(reward=lambda prompts, texts: torch.zeros(len(texts)))
    assert not plain.costs
    with pytest.raises(TypeError, match="does not say which documents"):
        plain.covered([], [])


def test_what_moved_in_verl_is_named():
    functions = Contract(
        package="verl",
        versions="0.9",
        file="verl/core.py",
        name="",
        parameters={"estimate": ("rewards",), "gone": ()},
        lines={"estimate": ("return rewards",)},
    )
    source = (
        "class A:\n    def gone(self): pass\ndef estimate(rewards, mask):\n    return rewards\n"
    )
    assert functions.moved_in(source) == [
        "verl/core.py.estimate takes ['rewards', 'mask'], not ['rewards']",
        "verl/core.py has no gone",
    ]
    assert VERL[0].moved_in("") == ["verl/trainer/ppo/v1/trainer_base.py has no class PPOTrainer"]


def test_the_setup_reads_only_what_a_row_has(tokenizer):
    setup = Setup.of(world.config())
    row = {"raw_prompt": [{"content": "a tent"}], "extra_info": {"wanted": []}, "index": "4"}
    assert setup.asked(row) == {"prompt": "a tent", "wanted": []}
    assert setup.number(row | {"session_id": 2}) == 18
