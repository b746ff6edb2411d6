"""What is read of prime-rl and verifiers, as their sources have it.

prime-rl 559b447: src/prime_rl/orchestrator/algo/{__init__,base,grpo,routing}.py; verifiers a60a606:
verifiers/v1/{graph,trace,episode}.py. Both are Apache-2.0. Fields that nothing here reads are left
out; pydantic's models are dataclasses.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import ClassVar


@dataclass
class MessageNode:
    message: str
    parent: int | None = None
    sampled: bool = False
    token_ids: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    advantages: list[float] | None = None


@dataclass
class Reward:
    score: float
    weight: float = 1.0

    @property
    def value(self):
        return self.score * self.weight


@dataclass
class AgentInfo:
    name: str = "agent"
    trainable: bool = True


@dataclass
class Trace:
    id: str
    task: SimpleNamespace
    agent: AgentInfo = field(default_factory=AgentInfo)
    nodes: list[MessageNode] = field(default_factory=list)
    rewards: dict[str, Reward | None] = field(default_factory=dict)
    ok: bool = True

    @property
    def reward(self):
        return sum(r.value for r in self.rewards.values() if r is not None)

    @property
    def has_error(self):
        return not self.ok


@dataclass
class Episode:
    traces: list[Trace] = field(default_factory=list)


def iter_trainable_traces(episodes):
    for episode in episodes:
        for trace in episode.traces:
            if trace.has_error or not trace.agent.trainable:
                continue
            if any(any(node.mask) for node in trace.nodes):
                yield episode, trace


class Algorithm:
    action_loss_type: ClassVar[str] = "rl"

    def __init__(self, config, policy_pool):
        self.policy_pool = policy_pool
        self.connected_pools = []

    async def setup(self):
        pass

    async def score_episode(self, episode):
        pass

    async def score_group(self, episodes):
        pass

    async def finalize_episode(self, episode):
        if any(True for _ in iter_trainable_traces([episode])):
            await self.score_episode(episode)

    async def finalize_group(self, episodes):
        await self.score_group(episodes)


class GRPOAlgorithm(Algorithm):
    def __init__(self, config, policy_pool):
        super().__init__(config, policy_pool)
        self.length_penalty = config.length_penalty


def assign_advantages(trace, values):
    nodes = [node for node in trace.nodes if any(node.mask)]
    for node in nodes:
        if len(node.mask) != len(node.token_ids):
            raise ValueError("node masks must align with token ids")
    total = sum(sum(node.mask) for node in nodes)
    if isinstance(values, int | float):
        advantages = [float(values)] * total
    else:
        if len(values) != total:
            raise ValueError("advantages must align with the trace's sampled tokens")
        advantages = [float(value) for value in values]
    offset = 0
    for node in nodes:
        end = offset + sum(node.mask)
        node.advantages = advantages[offset:end]
        offset = end


def algo():
    """The module ``prime_rl.orchestrator.algo``, fresh."""
    return SimpleNamespace(
        ALGORITHM_CLASSES={"grpo": GRPOAlgorithm, "echo": GRPOAlgorithm},
        Algorithm=Algorithm,
        GRPOAlgorithm=GRPOAlgorithm,
        assign_advantages=assign_advantages,
        base=SimpleNamespace(iter_trainable_traces=iter_trainable_traces),
    )


def build_algorithm(module, config, policy_pool=None):
    cls = module.ALGORITHM_CLASSES[config.type]
    assert cls.action_loss_type == config.action_loss_type
    return cls(config, policy_pool)
