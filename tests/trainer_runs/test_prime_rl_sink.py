"""prime-rl's own train sink, packer and loss behind verifiers' own client, with our credit.

prime-rl is not on PyPI: RLCREDIT_PRIME_RL names the folder of a checkout with its submodule
deps/verifiers. Three steps go from the environment reverse-text to gradients of log-probs.
Replaced are the dispatcher, which stamps episodes, vLLM (a small server), and the model whose
weights would move.
"""

import asyncio
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from types import ModuleType

import pytest
import torch

from rlcredit import Credit
from rlcredit.text import Windows

CHECKOUT = os.environ.get("RLCREDIT_PRIME_RL")
HERE = Path(__file__).parent
STEPS, GROUPS, SIZE = 3, 2, 4
ENV = {
    "taskset": {"id": "reverse_text_asked_once"},
    "agent": {"runtime": {"type": "subprocess"}},
}
ROWS = [
    "a tent for two people",
    "the lamp in my office is too bright",
    "soft chairs",
    "one red and one blue steel pot",
    "we sat by the lake until it was dark",
    "quiet fans for a warm room in summer",
]
pytestmark = [
    pytest.mark.skipif(
        find_spec("renderers") is None or CHECKOUT is None,
        reason="needs .venv-verifiers and RLCREDIT_PRIME_RL, the folder of a checkout of prime-rl",
    ),
    pytest.mark.filterwarnings("ignore"),  # those of prime-rl and of what it imports
]


@pytest.fixture
def algo(monkeypatch):
    """prime-rl's module of algorithms; the environment's rows, which are on a hub, are ours."""
    verifiers = Path(CHECKOUT) / "deps" / "verifiers"
    for folder in (
        HERE.parent / "verifiers_runs",
        Path(CHECKOUT) / "src",
        Path(CHECKOUT) / "packages" / "prime-rl-configs" / "src",
        verifiers / "environments" / "reverse_text",
        verifiers,
    ):
        monkeypatch.syspath_prepend(folder)
    unused = ModuleType("unused")  # stands for what is imported there and not here
    unused.FastMCP = object
    for name in ("wandb", "mcp.server.fastmcp"):
        if find_spec(name) is None:
            monkeypatch.setitem(sys.modules, name, unused)
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: [{"prompt": x} for x in ROWS])
    from prime_rl.orchestrator import algo

    monkeypatch.setattr(algo, "ALGORITHM_CLASSES", dict(algo.ALGORITHM_CLASSES))
    return algo


@pytest.fixture
def model(algo, tmp_path):
    from vllm_like import Model, save_tokenizer

    class Reversing(Model):
        """Answers in a few ways, one after another, from right to wrong."""

        def answer(self, question):
            back, words = question[::-1], question.split()
            half = back[: len(back) // 2].strip()
            ways = (
                f"<reversed_text>{back}</reversed_text>",
                f"<reversed_text>{' '.join(word[::-1] for word in words)}</reversed_text>",
                f"So it is this: <reversed_text>{half} or so</reversed_text>",
                f"{back} without any tag",
            )
            return ways[self.asked.count(question) % len(ways)]

    made = Reversing(save_tokenizer(tmp_path))
    made.folder = str(tmp_path)
    return made


def configured(folder, **algo):
    """The settings of the page."""
    from prime_rl.configs.orchestrator import OrchestratorConfig

    return OrchestratorConfig.model_validate(
        {
            "algo": {"type": "grpo", **algo},
            "model": {"name": folder},
            "renderer": {"name": "default"},
            "group_size": SIZE,
            "batch_size": GROUPS * SIZE,
            "seq_len": 1024,
            "train": {
                "filter_zero_advantages": False,
                "source": [{"name": "reverse", "env": ENV}],
            },
        }
    )


def sink_of(config, tokenizer):
    from prime_rl.orchestrator.envs import TrainEnvs
    from prime_rl.orchestrator.train_sink import TrainSink
    from prime_rl.orchestrator.types import Progress

    return TrainSink(
        config,
        tokenizer=tokenizer,
        train_envs=TrainEnvs(config.train.source, config.env_addresses, policy_pool=None),
        mm_token_type_ids_mapping=None,
        progress=Progress(),
        batch_size=config.batch_size,
        token_batch_size=None,
    )


def rolled(env, tasks, model, step):
    """Episodes through verifiers' interception and client, stamped as the dispatcher does."""
    import verifiers.v1 as vf
    from vllm_like import served

    async def run(address):
        client = vf.TrainClientConfig(base_url=address, renderer_model_name=model.folder)
        context = vf.ModelContext(model="toy", client=client)
        async with env.serving():
            return [await env.run_episode(task, context) for task in tasks for _ in range(SIZE)]

    with served(model) as address:
        episodes = asyncio.run(run(address))
    work = vf.TrainWorkInfo(step=step, policy=vf.PolicySpan(start=step - 1, end=step - 1))
    for number, episode in enumerate(episodes):
        assert episode.ok, episode.last_error or episode.traces[0].last_error
        episode.env.name = "reverse"
        episode.group = vf.GroupInfo(id=f"{step}-{number // SIZE}")
        episode.record_run(vf.TrainRunInfo(id="run", work=work))
    return episodes


def batch_of(sink, episodes):
    """The batch that the last of the episodes completes."""

    async def added():
        return [await sink.add(episode) for episode in episodes]

    *before, batch = asyncio.run(added())
    assert before == [None] * len(before)
    return batch


def own(credit, rows, samples, tokenizer, *, offset):
    """Our advantages of what was sampled, a row a sample; a group a call, as groups arrive."""
    written = [torch.tensor(each.token_ids)[torch.tensor(each.mask)] for each in samples]
    found = []
    for number, row in enumerate(rows):
        group = written[SIZE * number : SIZE * (number + 1)]
        ids = torch.nn.utils.rnn.pad_sequence(group, batch_first=True)
        mask = torch.arange(ids.shape[1]) < torch.tensor([[len(one)] for one in group])
        done = credit.of_tokens([row], ids[None], mask[None], tokenizer, offset=offset + number)
        found += [
            one[: len(each)] for one, each in zip(done.advantages[0].float(), group, strict=True)
        ]
    return found


def slopes(micro_batches):
    """Of prime-rl's loss in the log-probs that were sampled: tokens -> a number each, per token."""
    from prime_rl.configs.trainer import DefaultLossConfig
    from prime_rl.trainer.rl.loss import compute_loss, setup_rl_loss_fn

    found = {}
    for one in micro_batches:
        cut = one.sequence_lengths
        sampled = torch.tensor(one.inference_logprobs)
        now = sampled.clone().requires_grad_()
        loss, _ = compute_loss(
            trainer_logprobs=now.split(cut),
            inference_logprobs=sampled.split(cut),
            ref_logprobs=None,
            advantages=torch.tensor(one.advantages).split(cut),
            loss_mask=torch.tensor(one.loss_mask).split(cut),
            rl_weights=None,
            ce_weights=None,
            ref_kl_weights=None,
            rl_loss_fn=setup_rl_loss_fn(DefaultLossConfig()),
            rl_scale=1,  # of all tokens: a factor
            ce_scale=1,
            ref_kl_scale=1,
        )
        loss.backward()
        tokens = torch.tensor(one.input_ids).split(cut)
        found |= {
            tuple(ids.tolist()): each for ids, each in zip(tokens, now.grad.split(cut), strict=True)
        }
    return found


@pytest.mark.parametrize("estimator", ["ospo", "prefix"])
def test_three_steps_train_on_our_advantages(estimator, algo, model):
    import verifiers.v1 as vf
    from prime_rl.orchestrator.packing import BatchPacker

    from rlcredit.integrations.prime_rl import install

    example = run_path(str(HERE.parents[1] / "examples" / "prime_rl" / "orchestrator.py"))
    cut = Windows(num_words=2)
    credit = Credit(reward=example["score"], estimator=estimator, seed=3, segmenter=cut)
    install(algo, credit=credit, tokenizer=model.tokenizer, prompt=example["row_of"])
    env = vf.load_environment(vf.resolve_env_config(ENV))
    config = configured(model.folder)
    sink, packer = sink_of(config, model.tokenizer), BatchPacker(config)
    tasks = list(env.taskset)
    varied = 0
    for step in range(1, STEPS + 1):
        first = GROUPS * (step - 1)
        asked = tasks[first : first + GROUPS]
        batch = batch_of(sink, rolled(env, asked, model, step))
        sink.progress.step += 1
        rows = [{"prompt": task.data.prompt, "answer": task.data.answer} for task in asked]
        ours = own(credit, rows, batch.samples, model.tokenizer, offset=first)
        for sample, expected in zip(batch.samples, ours, strict=True):
            held, mask = torch.tensor(sample.advantages), torch.tensor(sample.mask)
            assert torch.equal(held[mask], expected)
            assert not held[~mask].any()
            varied += len(expected.unique()) > 1
        (packed,) = packer.pack(batch.samples)
        advantages = {tuple(one.token_ids): torch.tensor(one.advantages) for one in batch.samples}
        found = slopes(packed)
        assert set(found) == set(advantages)
        assert all(torch.equal(found[ids], -advantages[ids]) for ids in found)
    assert varied > STEPS


def test_a_length_penalty_is_refused_where_environments_are_built(algo, model):
    from rlcredit.integrations.prime_rl import install

    credit = Credit(reward=lambda texts, rows: [0.0] * len(texts))
    install(algo, credit=credit, tokenizer=model.tokenizer, prompt=str)
    sink_of(configured(model.folder), model.tokenizer)
    penalised = configured(model.folder, length_penalty={"type": "linear"})
    with pytest.raises(ValueError, match="length_penalty changes the reward"):
        sink_of(penalised, model.tokenizer)
