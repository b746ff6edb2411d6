"""The environments of verifiers, rolled out by its own client against a server here."""

import asyncio
import json
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(
    find_spec("verifiers") is None,
    reason="verifiers is not installed here; make test-verifiers runs this in .venv-verifiers",
)
ROOT = Path(__file__).parents[2]
SIZE, STEPS = 4, 3


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from vllm_like import Model, save_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    made = Model(save_tokenizer(folder))
    made.folder = str(folder)
    return made


def loaded(name, **settings):
    """An environment by its name, as verifiers' command loads it."""
    import verifiers.v1 as vf

    config = vf.resolve_env_config({"taskset": {"id": name, **settings}})
    return vf.load_environment(config)


def rolled(env, tasks, model, *, client="train", size=SIZE):
    """Traces of some tasks, a group a task, through verifiers' interception and client."""
    import verifiers.v1 as vf
    from vllm_like import served

    async def run(address):
        kinds = {
            "train": lambda: vf.TrainClientConfig(
                base_url=address, renderer_model_name=model.folder
            ),
            "eval": lambda: vf.EvalClientConfig(base_url=address),
        }
        context = vf.ModelContext(model="toy", client=kinds[client]())
        async with env.serving():
            return [await env.run_episode(task, context) for task in tasks for _ in range(size)]

    with served(model) as address:
        return [trace for episode in asyncio.run(run(address)) for trace in episode.traces]


def expected(env, estimator, traces, tokenizer, *, step):
    """Our advantages of the sampled tokens, all groups in one call."""
    rows = [
        [
            token
            for node in t.nodes
            for token, kept in zip(node.token_ids, node.mask, strict=True)
            if kept
        ]
        for t in traces
    ]
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)], mask[index, : len(row)] = torch.tensor(row), True
    prompts = [env.taskset.search.prompts[t.task.data.prompt_id] for t in traces[::SIZE]]
    done = env.taskset.search.credit(estimator, seed=3).of_tokens(
        prompts, ids.view(-1, SIZE, width), mask.view(-1, SIZE, width), tokenizer, step=step
    )
    found = done.advantages.flatten(0, 1)
    return [found[index, : len(row)] for index, row in enumerate(rows)], done


@pytest.mark.parametrize("name", ["rlcredit-esci", "rlcredit-hm"])
def test_three_steps_of_rollouts_have_our_rewards_and_advantages(name, model):
    from rlcredit.integrations.verifiers import credit_traces, prompt_of_trace

    env = loaded(name, split="validation", task={"word_cost": 0.01})
    search = env.taskset.search
    tasks = list(env.taskset.take(2 * STEPS))
    assert [task.data.prompt_id for task in tasks] == [
        prompt.prompt_id for prompt in search.task.validation[: 2 * STEPS]
    ]
    assert tasks[0].data.relevance == search.task.validation[0].relevance
    assert tasks[0].key == f"{name.removeprefix('rlcredit-')}/{tasks[0].data.prompt_id}"
    varied = 0
    for step in range(STEPS):
        traces = rolled(env, tasks[2 * step : 2 * step + 2], model)
        assert all(trace.ok for trace in traces), traces[0].last_error
        assert all(branch.advantages is None for trace in traces for branch in trace.branches)
        credit = search.credit("ospo", seed=3)
        prompt = prompt_of_trace(search)
        credit_traces(credit, traces, model.tokenizer, prompt=prompt, step=step)
        own, done = expected(env, "ospo", traces, model.tokenizer, step=step)
        assert [trace.reward for trace in traces] == pytest.approx(done.rewards.flatten().tolist())
        for trace, values in zip(traces, own, strict=True):
            (branch,) = trace.branches
            spread = torch.tensor(branch.advantages)[torch.tensor(branch.sampled_mask)]
            assert torch.equal(spread, values)
            varied += len(set(values.tolist())) > 1
            (written,) = (node for node in trace.nodes if node.advantages is not None)
            record = trace.model_dump(mode="json", exclude_none=True)["nodes"]
            assert record[trace.nodes.index(written)]["advantages"] == pytest.approx(
                written.advantages, abs=1e-4
            )
    assert varied > STEPS


def test_answers_earn_what_a_run_here_says(model):
    from rlcredit import score

    env = loaded("rlcredit-esci", split="test")
    tasks = list(env.taskset.take(5))
    traces = rolled(env, tasks, model)
    search, said = env.taskset.search, [trace.last_reply for trace in traces]
    prompts = [task.prompt for task in tasks for _ in range(SIZE)]
    own = score(said, prompts, reward=search.reward, rules=search.task.rules)
    assert [trace.rewards["ndcg"].score for trace in traces] == own.tolist()
    assert 0 < own.max() <= 1


def test_a_task_is_scored_where_it_is_built_from_what_travelled(model):
    """As an environment's server builds it, which never loads the taskset."""
    env = loaded("rlcredit-esci", split="test")
    (task,) = env.taskset.take(1)
    told = type(task.data).model_validate(task.data.model_dump(mode="json"))
    built = type(task)(told, env.config.taskset.task)
    assert built.prompt == task.prompt
    elsewhere = type(task)(told, env.config.taskset.task.model_copy(update={"seed": 1}))
    with pytest.raises(ValueError, match=r"esci has no prompt '.*seed=1; give all processes"):
        _ = elsewhere.prompt


def test_a_model_that_fails_is_an_error_and_no_reward_of_nothing(model):
    from rlcredit.integrations.verifiers import credit_traces, prompt_of_trace

    env = loaded("rlcredit-esci", split="test")
    (task,) = env.taskset.take(1)
    traces = rolled(env, [task], model, size=2)
    model.fails = True
    try:
        traces += rolled(env, [task], model, size=1)
    finally:
        model.fails = False
    assert [trace.ok for trace in traces] == [True, True, False]
    assert traces[2].rewards.get("ndcg") is None
    search = env.taskset.search
    given = (search.credit("ospo"), traces, model.tokenizer)
    with pytest.raises(ValueError, match=r"failed .*so what it earned is not known"):
        credit_traces(*given, prompt=prompt_of_trace(search))
    assert all(node.advantages is None for trace in traces for node in trace.nodes)


def test_a_trace_without_tokens_a_lone_one_and_another_reward_are_refused(model):
    from rlcredit.integrations.verifiers import credit_traces, prompt_of_trace

    env = loaded("rlcredit-hm", split="test")
    (task,) = env.taskset.take(1)
    search, traces = env.taskset.search, rolled(env, [task], model, size=2)
    credit, prompt = search.credit("loo"), prompt_of_trace(search)
    with pytest.raises(ValueError, match="has one response"):
        credit_traces(credit, traces[:1], model.tokenizer, prompt=prompt)
    traces[0].rewards["ndcg"].score += 1
    with pytest.raises(ValueError, match="the trainer says that"):
        credit_traces(credit, traces, model.tokenizer, prompt=prompt)
    for node in traces[0].nodes:
        node.mask = [False] * len(node.mask)
    with pytest.raises(ValueError, match="no sampled tokens, which an eval client"):
        credit_traces(credit, traces, model.tokenizer, prompt=prompt)


def commands(model, address, folder):
    """The commands of the page, as words, with the model and the server of this test."""
    page = (ROOT / "examples" / "verifiers" / "README.md").read_text()
    lines = [
        line
        for block in re.findall(r"```bash\n(.*?)```", page, re.S)
        for line in block.splitlines()
    ]
    named = {"Qwen/Qwen2.5-7B-Instruct": str(model.folder), "http://localhost:8000/v1": address}
    named["vf-eval"] = str(Path(sys.executable).parent / "vf-eval")
    named["python"] = sys.executable
    asked = {
        words[0]: [named.get(word, word) for word in words] for words in map(shlex.split, lines)
    }
    return [*asked["vf-eval"], "--select.limit=2", f"--output-dir={folder}"], asked["python"]


def test_the_commands_of_the_page_run(model, tmp_path):
    from vllm_like import served

    with served(model) as address:
        evaluation, credit = commands(model, address, tmp_path / "runs")
        said = [
            subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280)
            for words in (evaluation, credit)
        ]
    assert [done.returncode for done in said] == [0, 0], said[-1].stderr[-2000:]
    (traces,) = (tmp_path / "runs").rglob("traces.jsonl")
    kept = [json.loads(line) for line in traces.read_text().splitlines()]
    assert len(kept) == 2
    assert all('"ndcg"' in json.dumps(line) for line in kept)
    lines = said[1].stdout.splitlines()
    assert lines[0].startswith("8 traces, 0 failed")
    assert len(lines) == 9
    assert any(re.search(r"'t'\+\d", line) for line in lines), lines


def test_turns_with_tools_between_them_are_refused(model):
    from rlcredit.integrations.verifiers import credit_traces, prompt_of_trace

    env = loaded("rlcredit-esci", split="test")
    (task,) = env.taskset.take(1)
    search, traces = env.taskset.search, rolled(env, [task], model, size=2)
    traces[0].nodes.append(traces[0].nodes[-1].model_copy(update={"parent": 2}))
    with pytest.raises(ValueError, match="has 2 turns of the policy"):
        credit_traces(
            search.credit("ospo"), traces, model.tokenizer, prompt=prompt_of_trace(search)
        )


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="split"):
        loaded("rlcredit-esci", split="dev")
    env = loaded("rlcredit-hm", task={"source": "path"})
    with pytest.raises(ValueError, match=r"dataset\.source=path needs dataset\.path"):
        list(env.taskset)


def test_what_moved_in_verifiers_is_named():
    from dataclasses import replace
    from importlib.metadata import version
    from pathlib import Path

    import verifiers

    from rlcredit.integrations.contract import VERIFIERS, check_files

    folder = Path(verifiers.__path__[0]).parent
    check_files(VERIFIERS, folder, version("verifiers"))
    gone = replace(VERIFIERS[0], file="verifiers/v0/taskset.py")
    other = replace(VERIFIERS[1], parameters={"key": ("self", "run")})
    with pytest.raises(ImportError) as refused:
        check_files([*VERIFIERS, gone, other], folder, "0.9.9")
    said = str(refused.value)
    assert "verifiers 0.9.9 is not the verifiers that this integration knows (0.4)" in said
    assert "there is no verifiers/v0/taskset.py; Task.key takes ['self'], not" in said
