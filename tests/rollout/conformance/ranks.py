"""What the processes of a run do with an engine each; importable, since they are started anew."""

from pathlib import Path

from safetensors.torch import save_file

from rlcredit.distributed.world import World
from rlcredit.rollout.vllm import VLLMRollout
from rlcredit.types import Randomness
from tests.distributed.worlds import pretrained
from tests.rollout.conformance.engines import CAP, PROMPTS, update

STEPS = (0, 1)
GROUP = 3


def write(exported: Path, folder: Path, *, world: World) -> None:
    """Sample this process's share of the prompts before and after an update of the weights."""
    engine = VLLMRollout(max_new_tokens=CAP, kv_cache_gib=0.05, check_every=1)
    policy = pretrained(exported)
    share = len(PROMPTS) // world.size
    first = world.rank * share
    for step in STEPS:
        update(policy, seed=step)
        found = engine(
            policy,
            PROMPTS[first : first + share],
            group_size=GROUP,
            randomness=Randomness(seed=3, step=step),
            offset=first,
        )
        assert engine._slot.checked == set(range(step + 1))
        kept = {"ids": found.response_ids, "mask": found.response_mask.int()}
        kept["logprobs"] = found.rollout_logprobs
        named = {name: tensor.contiguous() for name, tensor in kept.items()}
        save_file(named, folder / f"{step}-{world.rank}")
        world.wait()
