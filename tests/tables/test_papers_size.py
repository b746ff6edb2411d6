"""What SIZE=paper composes is what the papers say, as far as it is known and there is an option."""

from dataclasses import replace
from functools import partial

import pytest
from omegaconf import OmegaConf

from rlcredit.commands.components import build
from rlcredit.commands.conf import composing, conf_folder
from rlcredit.commands.schema import register
from rlcredit.commands.table_choice import finished_runs
from rlcredit.commands.table_jobs import Planner
from rlcredit.commands.tables import batch_of, declared, fill, table_names
from rlcredit.rewards.base import scores_parts
from rlcredit.tables.claims import SEEDS_FOR_TEST
from rlcredit.tables.declare import Phase, Score
from rlcredit.tables.price import gpu_hours
from rlcredit.tables.render import markdown
from rlcredit.trainer.pairing import check_pairing

QWEN, QWEN3 = "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen3-8B"
ADAPTERS = {
    "policy.lora.rank": 32,
    "policy.lora.alpha": 16,
    "policy.lora.dropout": 0.05,
    "trainer.processes": 8,
    "trainer.device": "cuda",
}
OSPO = ADAPTERS | {
    "policy.name": QWEN,
    "trainer.steps": 2000,
    "trainer.prompts_per_step": 16,
    "trainer.group_size": 8,
    "trainer.max_advantage": None,
    "trainer.optimizer.lr": 5e-6,
    "trainer.optimizer.decay": "linear",
    "trainer.optimizer.warmup_steps": 0,
    "trainer.optimizer.weight_decay": 0,
    "loss.clip_low": 0.2,
    "loss.clip_high": 0.2,
    "loss.kl_coef": 0,
    "rollout.temperature": 1,
    "evaluation.samples": 1,
}
OSPO_ESCI = OSPO | {
    "retriever.name": "sentence-transformers/all-mpnet-base-v2",
    "rollout.max_new_tokens": 356,
    "dataset.max_train": 9339,
    "dataset.max_test": 1038,
}
OSPO_HM = OSPO | {
    "retriever.name": "princeton-nlp/sup-simcse-roberta-large",
    "rollout.max_new_tokens": 1024,
}
SHAPE = ADAPTERS | {
    "policy.name": QWEN3,
    "policy.chat_options.enable_thinking": False,
    "dataset.candidates": 4,
    "trainer.group_size": 8,
    "trainer.optimizer.lr": 1e-5,
    "trainer.optimizer.decay": "constant",
    "loss.aggregation": "token_mean",
    "loss.clip_high": 0.2,
    "evaluation.samples": 4,
}
WHOLE = {
    "policy.lora.rank": 0,
    "trainer.optimizer.lr": 1e-6,
    "trainer.optimizer.decay": "constant",
    "trainer.prompts_per_step": 128,
    "trainer.max_advantage": None,
    "trainer.processes": 8,
    "trainer.weights": "sharded",
    "trainer.device": "cuda",
    "dataset.sizes": [3, 4],
    "dataset.max_test": 1024,
    "evaluation.samples": 64,
}
SETPO = WHOLE | {
    "policy.name": "Qwen/Qwen2.5-3B",
    "encoder.name": "Qwen/Qwen3-Embedding-0.6B",
    "trainer.steps": 675,
    "trainer.group_size": 7,
    "trainer.updates_per_batch": 1,
    "loss.aggregation": "sequence_mean",
    "loss.kl_coef": 0.001,
    "rollout.max_new_tokens": 2048,
    "dataset.max_train": 86400,
}
LPO = WHOLE | {
    "policy.name": "Qwen/Qwen3-4B-Base",
    "trainer.steps": 125,
    "trainer.group_size": 8,
    "trainer.updates_per_batch": 2,
    "trainer.optimizer.beta2": 0.999,
    "trainer.optimizer.weight_decay": 0.1,
    "rollout.max_new_tokens": 1024,
    "dataset.max_train": 2000,
}
LISTWISE_ESCI = {key: OSPO_ESCI[key] for key in OSPO_ESCI if not key.startswith("loss")} | {
    "evaluation.samples": 4,
    "trainer.updates_per_batch": 2,
}
JOBS = {
    "search/esci/grpo": OSPO_ESCI,
    "search/esci/dr_grpo": OSPO_ESCI,
    "search/esci/grpo_twice": OSPO_ESCI | {"trainer.prompts_per_step": 32},
    "search/hm/ospo": OSPO_HM,
    "values/esci/shapley": OSPO_ESCI | {"dataset.max_phrases": 8},
    "coalitions/esci/w8p96": OSPO_ESCI,
    "real/esci/grpo": OSPO_ESCI,
    "real/hm/ospo": OSPO_HM,
    "sets/esci/shape": SHAPE,
    "sets/esci_ambiguous/grpo": SHAPE | {"dataset.source": "generated"},
    "diversity/countdown/grpo_setpo": SETPO | {"estimator.coef": 0.5},
    "listwise/countdown/maxrl_reverse": LPO,
    "listwise/countdown/grpo": LPO | {"loss.kl_coef": 0},
    "listwise/countdown/forward_g2": LPO | {"trainer.group_size": 2},
    "listwise/esci/grpo_forward": LISTWISE_ESCI,
    "claims/esci/ospo": OSPO_ESCI,
    "claims/hm/grpo": OSPO_HM,
    "claims/sets/shape": SHAPE,
    "claims/countdown/grpo": SETPO,
    "claims/countdown/setpo": SETPO | {"estimator.coef": 0.5},
    "claims/countdown/matched": LPO | {"loss.kl_coef": 0, "loss.aggregation": "sequence_mean"},
    "claims/countdown/lpo": LPO | {"loss.divergence": "forward_kl"},
    "claims/countdown/lpo_reverse": LPO | {"loss.divergence": "reverse_kl"},
}


@pytest.fixture(scope="module")
def everything():
    """All tables as they are declared, for every size."""
    register()
    with composing(conf_folder()):
        return {name.removeprefix("table_"): declared(name) for name in table_names()}


@pytest.fixture(scope="module")
def tables(everything):
    """All of them, at the papers' size."""
    return {name: table.at("paper") for name, table in everything.items()}


@pytest.fixture(scope="module")
def composed(tables, tmp_path_factory):
    """A row of a table on a data set, as it is composed at the papers' size."""
    planner = Planner(outputs=tmp_path_factory.mktemp("outputs"))

    def config(address):
        name, data, row = address.split("/")
        return planner.config(tables[name].overrides(row, data, "paper", 0), seed=0)

    return config


@pytest.mark.parametrize("address", JOBS)
def test_a_job_has_its_papers_values_and_can_be_built(composed, address):
    cfg = composed(address)
    values = {key: OmegaConf.select(cfg, key, throw_on_missing=True) for key in JOBS[address]}
    assert values == JOBS[address]
    parts = {
        name: build(cfg[name])
        for name in ("policy", "trainer", "estimator", "loss", "dataset", "reward", "retriever")
    }
    check_pairing(
        parts["estimator"],
        parts["loss"],
        group_size=parts["trainer"].group_size,
        num_candidates=parts["dataset"].candidates,
        scores_parts=scores_parts(parts["reward"]),
    )


def test_columns_and_curve_are_those_of_the_retriever_that_is_trained_on(tables, everything):
    search = tables["search"]
    for data, retriever in (("esci", "mpnet"), ("hm", "simcse")):
        columns = search.columns_of(data)
        assert columns["ndcg"].retriever == retriever
        assert columns["area"].metric == f"eval/validation/{retriever}/ndcg@10_sampled"
        assert search.curve_of(data) == f"eval/validation/{retriever}/ndcg@10_sampled"
        assert columns["tfidf"].retriever == "tfidf"
        assert columns["bm25"].retriever == "bm25", "unseen here"
    at_sample = everything["search"].at("sample").columns_of("esci")
    assert at_sample["ndcg"] == everything["search"].scores["ndcg"], "bm25's"
    assert "e5_large" not in at_sample


def test_every_column_of_search_is_scored(tables, composed):
    for name in ("search", "values", "coalitions", "real", "sets"):
        table = tables[name]
        for data in table.data:
            cfg = composed(f"{name}/{data}/grpo")
            scored = {table.data[data].retriever.get("paper", "bm25"), *cfg.evaluation.retrievers}
            columns = table.columns_of(data).values()
            assert {column.retriever for column in columns if isinstance(column, Score)} <= scored


def test_a_row_that_would_be_another_under_a_second_name_is_left_out(tables, everything):
    search = tables["search"]
    assert "supervised" not in search.rows_of("esci")
    assert "warm-started" in search.rows["supervised"].left_out["paper"]
    assert "supervised" in everything["search"].at("sample").rows_of("esci")
    for table in tables.values():
        for data in table.data:
            for row in table.rows_of(data):
                words = table.overrides(row, data, "paper", 0)
                taught = any(word.startswith("policy.warm_start.steps=") for word in words)
                untrained = table.rows[row].phase is Phase.before or taught
                assert untrained or "trainer.steps=0" not in words, row


def test_the_page_says_which_row_is_left_out_and_why(table, plan, outputs):
    query = replace(table.rows["query"], left_out={"smoke": "it searches with nothing"})
    without = replace(table, rows={**table.rows, "query": query}).at("smoke")
    jobs = [planned for planned in plan if planned.row in without.rows_of("esci")]
    assert {planned.row for planned in jobs} == {"grpo", "ospo"}
    page = markdown(fill("table_x", without, "smoke", jobs, finished_runs(outputs)))
    assert "Left out at this size: raw query, because it searches with nothing." in page
    assert "| raw query" not in page


def test_claims_have_enough_seeds_for_a_test(tables):
    claims = tables["claims"].sizes
    assert claims["paper"].seeds == claims["sample"].seeds
    assert len(claims["paper"].seeds) >= SEEDS_FOR_TEST


def test_a_second_update_is_priced(composed):
    once = batch_of(composed("search/esci/grpo"))
    twice = batch_of(composed("search/esci/grpo_updates"))
    assert (once.updates, twice.updates) == (1, 2)
    hours = partial(gpu_hours, parameters=7.6e9)
    assert hours(twice) / hours(once) == pytest.approx((40 + 2 * 8 / 0.35) / (40 + 8 / 0.35))


def test_a_policy_without_a_declared_size_is_not_priced(tables):
    size = tables["diversity"].sizes["paper"]
    assert size.parameters_of("Qwen/Qwen2.5-3B") == 3.1e9
    with pytest.raises(ValueError, match=r"policy\.name=gpt2: its number of parameters"):
        size.parameters_of("gpt2")
