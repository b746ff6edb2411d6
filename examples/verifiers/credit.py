"""Roll an environment out against a vLLM server, and write what each token earned on the traces.

python credit.py <environment> <address>/v1 <model> [tasks] [rollouts a task]
"""

import asyncio
import sys

import verifiers.v1 as vf
from transformers import AutoTokenizer

from rlcredit.integrations.verifiers import credit_traces, prompt_of_trace


async def rolled(env: vf.Env, context: vf.ModelContext, *, tasks: int, size: int) -> list[vf.Trace]:
    """The traces of the first tasks, a group a task; what failed is left out, and said."""
    chosen = [task for task in env.taskset.take(tasks) for _ in range(size)]
    async with env.serving():
        episodes = await asyncio.gather(*(env.run_episode(task, context) for task in chosen))
    traces = [trace for episode in episodes for trace in episode.traces]
    failed = [trace for trace in traces if not trace.ok]
    print(f"{len(traces)} traces, {len(failed)} failed: {failed[0].last_error if failed else ''}")
    return [trace for trace in traces if trace.ok]


def main(name: str, address: str, model: str, tasks: int, size: int) -> None:
    """Print each answer with its reward, and its tokens with their advantages."""
    env = vf.load_environment(vf.resolve_env_config({"taskset": {"id": name}}))
    client = vf.TrainClientConfig(base_url=address, renderer_model_name=model)
    context = vf.ModelContext(model=model, client=client)
    traces = asyncio.run(rolled(env, context, tasks=tasks, size=size))
    search, tokenizer = env.taskset.search, AutoTokenizer.from_pretrained(model)
    credit_traces(search.credit("ospo"), traces, tokenizer, prompt=prompt_of_trace(search))
    for trace in traces:
        (own,) = (node for node in trace.nodes if node.advantages is not None)
        ids = [token for token, kept in zip(own.token_ids, own.mask, strict=True) if kept]
        pairs = zip(map(tokenizer.decode, ids), own.advantages, strict=True)
        print(f"{trace.reward:.3f}", *(f"{text!r}{value:+.2f}" for text, value in pairs))


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:] or (2, 4)))
