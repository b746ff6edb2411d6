"""slime's own rollouts and advantages on a processor, three of them, with our credit.

slime is not on PyPI: RLCREDIT_SLIME names the folder of a checkout. Replaced are SGLang and its
router (a small server), and Megatron (numbers of ranks, a small policy and its optimizer).
"""

import argparse
import json
import os
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Lock, Thread
from types import ModuleType, SimpleNamespace

import pytest
import torch

from rlcredit.types import Randomness

CHECKOUT = os.environ.get("RLCREDIT_SLIME")
EXAMPLE = Path(__file__).parents[2] / "examples" / "slime"
STEPS, PROMPTS, SIZE, RANKS = 3, 3, 8, 2
pytestmark = [
    pytest.mark.skipif(
        find_spec("verl") is None or CHECKOUT is None,
        reason="needs .venv-verl and RLCREDIT_SLIME, the folder of a checkout of slime",
    ),
    pytest.mark.filterwarnings("ignore"),  # those of slime and of what it imports
]


class Policy:
    """Samples, computes log-probs, and updates."""

    def __init__(self, folder):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.version, self.asked, self.lock = 0, [], Lock()

    def generate(self, body):
        prompt = body["input_ids"]
        with self.lock, torch.no_grad():
            number = 100 * sum(prompt) + self.asked.count(prompt)
            self.asked.append(prompt)
            generator = Randomness(seed=0, step=self.version).generator("sampling", number)
            ids, end = [], self.tokenizer.eos_token_id
            while len(ids) < body["sampling_params"]["max_new_tokens"] and end not in ids:
                logits = self.model(torch.tensor([[*prompt, *ids]])).logits[0, -1]
                ids.append(int(logits.softmax(-1).multinomial(1, generator=generator)))
            logprobs = self.logprobs([*prompt, *ids], len(ids)).tolist()
        skips = body["sampling_params"]["skip_special_tokens"]
        reason = "stop" if ids[-1] == end else "length"
        return {
            "text": self.tokenizer.decode(ids, skip_special_tokens=skips),
            "meta_info": {
                "output_token_logprobs": [list(pair) for pair in zip(logprobs, ids, strict=True)],
                "finish_reason": {"type": reason},
                "prompt_tokens": len(prompt),
                "cached_tokens": 0,
                "completion_tokens": len(ids),
            },
        }

    def logprobs(self, ids, length):
        every = self.model(torch.tensor([ids])).logits[0, -length - 1 : -1].log_softmax(-1)
        return every.gather(-1, torch.tensor(ids[-length:])[:, None])[:, 0]

    def update(self, batches):
        """One step on slime's loss of what every rank holds."""
        from slime.utils.ppo_utils import compute_policy_loss

        self.optimizer.zero_grad()
        for batch in batches:
            for ids, length, old, gain in zip(
                batch["tokens"],
                batch["response_lengths"],
                batch["log_probs"],
                batch["advantages"],
                strict=True,
            ):
                now = self.logprobs(ids.tolist(), length)
                loss, _ = compute_policy_loss(old - now, gain, 0.2, 0.2)
                loss.mean().backward()
        self.optimizer.step()
        self.version += 1


@contextmanager
def served(policy):
    """The port of a server that answers as SGLang's router does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._send({"workers": []})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._send(policy.generate(body))

        def _send(self, value):
            text = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


class Silent:
    """Settings of a package that is not here: none."""

    @staticmethod
    def add_cli_args(parser, **_):
        pass


@pytest.fixture(scope="module")
def patched():
    """A monkeypatch as long as slime is imported."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def ranks(patched):
    """The checkout on the path without SGLang and Megatron; which of the ranks this process is."""
    patched.setattr(torch, "compile", lambda **_: lambda function: function)  # no compiler needed
    patched.syspath_prepend(CHECKOUT)
    patched.syspath_prepend(EXAMPLE)
    context = SimpleNamespace(rank=0, size=1)
    mpu = SimpleNamespace(
        is_pipeline_last_stage=lambda: True,
        get_context_parallel_rank=lambda: context.rank,
        get_context_parallel_world_size=lambda: context.size,
    )
    memory = ("CUDA_GRAPH", "KV_CACHE", "WEIGHTS")
    absent = {
        "sglang.srt.constants": {f"GPU_MEMORY_TYPE_{name}": name for name in memory},
        "sglang.srt.server_args": {"ServerArgs": Silent},
        "sglang.srt.utils": {"kill_process_tree": None},
        "sglang_router.launch_router": {"RouterArgs": Silent},
        "megatron.core": {"mpu": mpu},
    }
    for name, values in absent.items():
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            part = ".".join(parts[:end])
            if part not in sys.modules:
                made = ModuleType(part)
                made.__path__ = []
                patched.setitem(sys.modules, part, made)
        vars(sys.modules[name]).update(values)
    return context


def arguments(folder, port):
    """slime's own arguments: those of the page, and what a small run needs."""
    from slime.utils import arguments as slime

    words = f"""--advantage-estimator grpo --custom-rm-path own_credit.reward
    --custom-reward-post-process-path own_credit.rewards
    --custom-advantage-function-path own_credit.advantages
    --hf-checkpoint {folder / "policy"} --prompt-data {folder / "train.jsonl"}
    --input-key prompt --label-key label --rollout-skip-special-tokens
    --num-rollout {STEPS} --rollout-batch-size {PROMPTS} --n-samples-per-prompt {SIZE}
    --rollout-max-response-len 16 --rollout-num-gpus 1 --rollout-num-gpus-per-engine 1
    --global-batch-size {PROMPTS * SIZE}"""
    parser = slime.get_slime_extra_args_provider()(argparse.ArgumentParser(allow_abbrev=False))
    args = parser.parse_args(words.split(), namespace=slime._pre_parse_mode())
    slime.slime_validate_args(args)
    args.sglang_router_ip, args.sglang_router_port = "127.0.0.1", port
    args.sglang_server_concurrency, args.sglang_dp_size = 4, 1
    return args


@pytest.fixture(scope="module")
def manager(ranks, tmp_path_factory, patched):
    """slime's rollout manager in this process, before a server of a policy."""
    import ray
    from small_sums import save_model, save_rows

    folder = tmp_path_factory.mktemp("slime")
    save_model(folder / "policy")
    save_rows(folder / "train.jsonl", STEPS * PROMPTS, chats=False)
    policy = Policy(folder / "policy")
    from slime.ray import rollout

    patched.setattr(rollout, "start_rollout_servers", lambda args, pg: ({}, []))
    ray.init(num_cpus=1, include_dashboard=False, object_store_memory=100_000_000)
    try:
        with served(policy) as port:
            args = arguments(folder, port)
            made = rollout.RolloutManager.__ray_metadata__.modified_class(args, None)
            made.policy = policy
            parallel = {"dp_size": RANKS, "cp_size": 1, "vpp_size": 1}
            made.set_train_parallel_config(parallel | {"microbatch_group_size_per_vp_stage": 1})
            yield made
    finally:
        ray.shutdown()


def held(manager, references):
    """What each data-parallel rank trains on, with slime's advantages of it."""
    from slime.backends.megatron_utils.loss import compute_advantages_and_returns
    from slime.utils.data import process_rollout_data

    for rank in range(RANKS):
        batch = process_rollout_data(manager.args, references, rank, RANKS)
        pairs = zip(batch["tokens"], batch["response_lengths"], strict=True)
        with torch.no_grad():
            batch["log_probs"] = [
                manager.policy.logprobs(ids.tolist(), length) for ids, length in pairs
            ]
        compute_advantages_and_returns(manager.args, batch)
        yield batch


def own(credit, batches, tokenizer, step):
    """Our advantages of a rollout, the samples in the order of their numbers."""
    ordered = sorted(
        (number, ids[-length:], ids[:-length])
        for batch in batches
        for number, ids, length in zip(
            batch["sample_indices"],
            map(torch.Tensor.tolist, batch["tokens"]),
            batch["response_lengths"],
            strict=True,
        )
    )
    ids = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(written) for _, written, _ in ordered], batch_first=True
    )
    mask = torch.arange(ids.shape[1]) < torch.tensor([[len(row)] for _, row, _ in ordered])
    asked = [tokenizer.decode(prompt) for _, _, prompt in ordered[::SIZE]]
    rows = [{"prompt": prompt, "answer": prompt.split()[-1]} for prompt in asked]
    shape = (PROMPTS, SIZE, ids.shape[1])
    done = credit.of_tokens(rows, ids.view(shape), mask.view(shape), tokenizer, step=step)
    numbers = [number for number, _, _ in ordered]
    return dict(zip(numbers, done.advantages.flatten(0, 1).float(), strict=True)), done.rewards


def test_three_rollouts_train_on_our_advantages(manager):
    import own_credit

    policy = manager.policy
    credit = own_credit._rewards(manager.args.hf_checkpoint).credit
    varied, weights = 0, []
    for step in range(STEPS):
        batches = list(held(manager, manager.generate(step)))
        expected, rewards = own(credit, batches, policy.tokenizer, PROMPTS * step)
        assert len(expected) == PROMPTS * SIZE
        for batch in batches:
            assert batch["raw_reward"] == rewards.flatten().tolist()
            for number, found, back in zip(
                batch["sample_indices"], batch["advantages"], batch["returns"], strict=True
            ):
                assert torch.equal(found, expected[number][: len(found)])
                assert torch.equal(found, back)
                varied += len(found.unique()) > 1
        policy.update(batches)
        weights.append(policy.model.lm_head.weight.detach().clone())
    assert varied > STEPS
    assert not torch.equal(weights[0], weights[-1])


def test_ranks_that_share_sequences_hold_their_own_tokens(manager, ranks):
    from slime.backends.megatron_utils.cp_utils import slice_log_prob_with_cp
    from slime.backends.megatron_utils.loss import compute_advantages_and_returns
    from slime.utils.data import process_rollout_data

    references = manager.generate(STEPS)
    whole = [found for batch in held(manager, references) for found in batch["advantages"]]
    ranks.size = 2
    for ranks.rank in range(2):
        shared = []
        for rank in range(RANKS):
            batch = process_rollout_data(manager.args, references, rank, RANKS)
            batch["log_probs"] = [
                slice_log_prob_with_cp(torch.zeros(length), total, length)
                for total, length in zip(
                    batch["total_lengths"], batch["response_lengths"], strict=True
                )
            ]
            compute_advantages_and_returns(manager.args, batch)
            totals = batch["total_lengths"]
            shared += zip(totals, batch["advantages"], strict=True)
        for everything, (total, mine) in zip(whole, shared, strict=True):
            expected = slice_log_prob_with_cp(everything, total, len(everything))
            assert torch.equal(mine, expected)


def test_whitened_advantages_are_refused_before_anything_is_shipped(manager, monkeypatch):
    monkeypatch.setattr(manager.args, "normalize_advantages", True)
    with pytest.raises(ValueError, match="--normalize-advantages moves the advantages"):
        manager.generate(STEPS + 1)
