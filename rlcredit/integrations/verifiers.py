"""Search environments for verifiers v1, and credit on its traces (extra ``[verifiers]``).

The environments are ``rlcredit-esci`` and ``rlcredit-hm``: one question, one answer, rewarded by
nDCG@10 of what a retriever finds with it. Their packages beside this one export what verifiers
loads by name. :func:`credit_traces` writes an advantage a token on the traces of any environment
whose policy speaks once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal

import verifiers
from openai import AsyncOpenAI  # pyright: ignore[reportMissingImports]

from rlcredit.integrations.contract import VERIFIERS, check_files
from rlcredit.integrations.groups import credited
from rlcredit.integrations.prime_rl import written_of
from rlcredit.integrations.search import Search
from rlcredit.scoring.credit import Credit, PromptLike, score
from rlcredit.tasks.esci import ESCI
from rlcredit.tasks.hm import HM
from rlcredit.tasks.settings import Source
from rlcredit.text.tokens import Tokenizer
from rlcredit.types import Prompt

check_files(VERIFIERS, Path(verifiers.__path__[0]).parent, version("verifiers"))

import verifiers.v1 as vf  # noqa: E402  # pyright: ignore[reportMissingImports]

DATASETS = {"esci": ESCI, "hm": HM}
"""By the names that the tasks carry."""


class SearchTaskConfig(vf.TaskConfig):
    """What is searched: read where tasks are made, and where they are scored."""

    source: Source = Source.generated
    """``generated``, or ``path``: the published files."""
    path: str | None = None
    """Folder of the published files."""
    seed: int = 0
    """Of the generated data, and of the random part of pools."""
    word_cost: float = 0.0
    """What a word of an answer costs, in units of nDCG."""


class SearchTasksetConfig(vf.TasksetConfig):
    """Which part of the data is played."""

    split: Literal["train", "validation", "test"] = "train"
    task: SearchTaskConfig = SearchTaskConfig()


class SearchData(vf.TaskData):
    """A prompt with its graded judgements."""

    dataset: str
    prompt_id: str
    query: str
    """What a person would type into the search box."""
    relevance: dict[str, int]
    """Document -> grade (ESCI: E S C I = 3 2 1 0); unlisted documents count as 0."""


@lru_cache(maxsize=4)
def _searched(
    dataset: str, source: Source, path: str | None, seed: int, word_cost: float
) -> Search:
    settings = DATASETS[dataset](source=source, path=path, seed=seed)
    return Search.of(settings, word_cost=word_cost)


def searched(dataset: str, config: SearchTaskConfig) -> Search:
    """The data and their index, made once a process.

    Raises:
        FileNotFoundError: If files of the data are missing.
        ValueError: If settings or data are wrong.
    """
    return _searched(dataset, config.source, config.path, config.seed, config.word_cost)


class SearchTask(vf.Task[SearchData, vf.State, SearchTaskConfig]):
    """Write what is searched with."""

    @property
    def key(self) -> str:
        """The prompt's id, whatever the order of tasks."""
        return f"{self.data.dataset}/{self.data.prompt_id}"

    @cached_property
    def prompt(self) -> Prompt:
        """The prompt of the data.

        Raises:
            ValueError: If the data, as they are set here, have no such prompt.
        """
        prompts = searched(self.data.dataset, self.config).prompts
        if self.data.prompt_id not in prompts:
            raise ValueError(
                f"{self.data.dataset} has no prompt {self.data.prompt_id!r} with "
                f"source={self.config.source}, path={self.config.path}, seed={self.config.seed}; "
                "give all processes the same --env.taskset.task settings"
            )
        return prompts[self.data.prompt_id]

    @vf.reward
    async def ndcg(self, trace: vf.Trace) -> float:
        """What the last reply finds, less what its words cost."""
        search = searched(self.data.dataset, self.config)
        found = score(
            [trace.last_reply], [self.prompt], reward=search.reward, rules=search.task.rules
        )
        return float(found)


class SearchTaskset(vf.Taskset[SearchTask, SearchTasksetConfig]):
    """The prompts of a split."""

    DATASET: ClassVar[str]
    """One of :data:`DATASETS`."""

    @property
    def search(self) -> Search:
        """The data and their index."""
        return searched(self.DATASET, self.config.task)

    def load(self) -> Iterable[SearchTask]:
        """A task a prompt, in the order of the data.

        Raises:
            FileNotFoundError: If files of the data are missing.
            ValueError: If settings or data are wrong.
        """
        task = self.search.task
        splits = {"train": task.train, "validation": task.validation, "test": task.test}
        for prompt in splits[self.config.split]:
            data = SearchData(
                id=prompt.prompt_id,
                prompt=prompt.text,
                system_prompt=prompt.instruction,
                dataset=self.DATASET,
                prompt_id=prompt.prompt_id,
                query=prompt.query,
                relevance=dict(prompt.relevance),
            )
            yield SearchTask(data, self.config.task)


class OneAnswerConfig(vf.HarnessConfig):
    """Nothing to set."""


class OneAnswer(vf.Harness[OneAnswerConfig]):
    """Asks once and takes what is said: no tools, and no program in a sandbox."""

    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self,
        ctx: vf.ModelContext,
        trace: vf.Trace,
        runtime: vf.Runtime,
        endpoint: str,
        secret: str,
        mcp_urls: dict[str, str],
        data: vf.TaskData,
    ) -> vf.ProgramResult:
        """One call of the model, through verifiers."""
        del trace, runtime, mcp_urls
        system, prompt = self.resolve_text_prompt(data)
        said: list[Any] = [{"role": "system", "content": system}] if system else []
        said.append({"role": "user", "content": prompt})
        async with AsyncOpenAI(base_url=endpoint, api_key=secret, max_retries=0) as client:
            await client.chat.completions.create(model=ctx.model, messages=said)
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")


class SearchEnvConfig(vf.EnvConfig):
    """One seat, whose answers need no sandbox."""

    agent: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig())


class SearchEnv(vf.Env[SearchEnvConfig]):
    """One question, one answer."""

    async def run(self, task: vf.Task, agents: vf.Agents) -> None:
        """Let the one agent answer."""
        await agents.agent.run(task)


def credit_traces(
    credit: Credit,
    traces: Sequence[Any],
    tokenizer: Tokenizer,
    *,
    prompt: Callable[[Any], PromptLike],
    step: int = 0,
) -> None:
    """Write the advantages of a credit on the sampled tokens of traces.

    The traces of one task (``trace.task.key``) and one agent are a group, of any size from 2. They
    come from a train client, whose traces hold tokens.

    Args:
        credit: Makes the advantages. Its reward must be the environment's, of the text alone.
        traces: Of whole groups; ``MessageNode.advantages`` is written on each.
        tokenizer: The policy's.
        prompt: Makes the prompt of a trace, such as :func:`prompt_of_trace`.
        step: Of the training, for sampled subsets and random credit.

    Raises:
        ValueError: If a rollout failed, has no tokens or several turns, has no sibling, or earned
            another reward in its environment. Then nothing is written.
        RuntimeError: If the reward cannot be had.
    """
    for trace in traces:
        _check(trace)
    written = [
        replace(written_of(trace, prompt(trace)), group=(trace.task.key, trace.agent.name))
        for trace in traces
    ]
    found = credited(credit, written, tokenizer, step=step)
    for trace, earned in zip(traces, found, strict=True):
        (own,) = (node for node in trace.nodes if any(node.mask))
        own.advantages = earned.advantages.tolist()


def prompt_of_trace(search: Search) -> Callable[[Any], Prompt]:
    """Finds the prompt of a trace of ``rlcredit-esci`` or ``rlcredit-hm`` in its data."""
    prompts: Mapping[str, Prompt] = search.prompts
    return lambda trace: prompts[trace.task.data.prompt_id]


def _check(trace: Any) -> None:
    if not trace.ok:
        raise ValueError(
            f"trace {trace.id} failed ({trace.last_error}), so what it earned is not known; leave "
            "out the traces that failed"
        )
    if not any(any(node.mask) for node in trace.nodes):
        raise ValueError(
            f"trace {trace.id} has no sampled tokens, which an eval client does not ask for; roll "
            "out with a train client (--client.type train)"
        )
