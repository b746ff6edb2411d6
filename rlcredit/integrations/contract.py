"""What an integration relies on in another package, compared with what that package has today."""

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Method = tuple[list[str], str]
"""The names of a method's parameters, in order, and its source."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Methods of one class of another package, by their parameters and by lines they must hold.

    Or functions of one file.
    """

    package: str
    """As ``pip`` calls it."""
    versions: str
    """For which the contract was seen to hold."""
    file: str
    """Where the class stands, within a wheel."""
    name: str
    """Of the class; empty: the functions of the file."""
    parameters: Mapping[str, Sequence[str]]
    """Method -> the names of its parameters, in order."""
    lines: Mapping[str, Sequence[str]]
    """Method -> texts that its source holds."""

    def check(self, cls: type, version: str) -> None:
        """Compare the class as it is installed.

        Raises:
            ImportError: With what has moved.
        """

        def installed(name: str) -> Method | None:
            found = getattr(cls, name, None)
            if found is None:
                return None
            method: Callable[..., object] = inspect.unwrap(found)
            return list(inspect.signature(method).parameters), inspect.getsource(method)

        if moved := self._moved(installed):
            raise ImportError(
                f"{self.package} {version} is not the {self.package} that this integration knows "
                f"({self.versions}): {'; '.join(moved)}. Install one of these versions"
            )

    def moved_in(self, source: str) -> list[str]:
        """What has moved in the source of the class's file, which is read and never run."""
        tree = ast.parse(source)
        found = (
            [tree]
            if not self.name
            else [
                node
                for node in ast.walk(tree)
                if isinstance(node, ast.ClassDef) and node.name == self.name
            ]
        )
        if not found:
            return [f"{self.file} has no class {self.name}"]
        methods: dict[str, Method] = {}
        for node in found[0].body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                text = ast.get_source_segment(source, node) or ""
                methods[node.name] = ([each.arg for each in given], text)
        return self._moved(methods.get)

    def _moved(self, method: Callable[[str], Method | None]) -> list[str]:
        moved: list[str] = []
        owner = self.name or self.file
        for name, wanted in self.parameters.items():
            found = method(name)
            if found is None:
                moved.append(f"{owner} has no {name}")
            elif found[0] != list(wanted):
                moved.append(f"{owner}.{name} takes {found[0]}, not {list(wanted)}")
        for name, lines in self.lines.items():
            found = method(name)
            text = "" if found is None else found[1]
            moved += [f"{owner}.{name} no longer says {x!r}" for x in lines if x not in text]
        return moved


TRL = Contract(
    package="trl",
    versions="1.14 to 1.16",
    file="trl/trainer/grpo_trainer.py",
    name="GRPOTrainer",
    parameters={
        "_generate_and_score_completions": ("self", "inputs"),
        "_calculate_rewards": ("self", "inputs", "prompts", "completions", "completion_ids_list"),
        "_compute_loss": ("self", "model", "inputs"),
    },
    lines={
        "_compute_loss": ("if advantages.dim() == 1:",),
        "__init__": (
            "self.environment_factories",
            "self.rollout_func",
            "self.tools =",
            "self.reward_weights =",
            "self.chat_template_kwargs =",
            "self._step = 0",
            '"extra": ',
        ),
    },
)
PRIME_RL = Contract(
    package="prime-rl",
    versions="commit 559b447 of August 2026; it is not on PyPI",
    file="src/prime_rl/orchestrator/algo/base.py",
    name="Algorithm",
    parameters={
        "__init__": ("self", "config", "policy_pool"),
        "score_group": ("self", "episodes"),
        "finalize_group": ("self", "episodes"),
    },
    lines={"finalize_group": ("await self.score_group(episodes)",)},
)
SLIME = Contract(
    package="slime",
    versions="commit 624b824 of August 2026; it is not on PyPI",
    file="slime/ray/rollout.py",
    name="RolloutManager",
    parameters={
        "_post_process_rewards": ("self", "samples"),
        "_convert_samples_to_train_data": ("self", "samples"),
        "_split_train_data_by_dp": ("self", "data"),
    },
    lines={
        "_post_process_rewards": (
            "return self.custom_reward_post_process_func(self.args, samples)",
        ),
        "_convert_samples_to_train_data": (
            "raw_rewards, rewards = self._post_process_rewards(samples)",
            '"rewards": rewards,',
        ),
        "_split_train_data_by_dp": (
            '"rewards",',
            "rollout_data[key] = [data[key][j] for j in partition]",
        ),
    },
)
SKYRL = Contract(
    package="skyrl",
    versions="0.3 and 0.4",
    file="skyrl/train/trainer.py",
    name="RayPPOTrainer",
    parameters={
        "compute_advantages_and_returns": ("self", "data"),
        "convert_to_training_input": ("self", "generator_output", "uids"),
    },
    lines={
        "__init__": (
            "self.cfg = cfg",
            "self.tokenizer = tokenizer",
            "self.train_dataset = train_dataset",
            "self.global_step = 0",
        ),
        "compute_advantages_and_returns": (
            'index=data.metadata["uids"],',
            "adv_estimator=self.cfg.trainer.algorithm.advantage_estimator,",
            'data["advantages"] = advantages',
            'pad_size = data.metadata.get("pad_size", 0)',
        ),
        "convert_to_training_input": ('training_input.metadata = {"uids": uids}',),
    },
)
_VERL = {"package": "verl", "versions": "0.9"}
VERL = (
    Contract(
        **_VERL,
        file="verl/trainer/ppo/v1/trainer_base.py",
        name="PPOTrainer",
        parameters={
            "__init__": ("self", "config"),
            "_add_prompts_to_generate": ("self", "num_prompts"),
            "_validate": ("self",),
            "_compute_advantage": ("self", "batch", "metrics"),
        },
        lines={
            "__init__": ("self.trainer_mode = self.config.trainer.v1.trainer_mode",),
            "_build_replay_buffer": ("refill_fn=self._add_prompts_to_generate",),
            "_step_once": ("batch = self._compute_advantage(batch, metrics=metrics)",),
            "_compute_advantage": (
                "keys=batch.keys, partition_id=batch.partition_id",
                "adv_estimator=self.config.algorithm.adv_estimator",
            ),
        },
    ),
    Contract(
        **_VERL,
        file="verl/trainer/ppo/ray_trainer.py",
        name="",
        parameters={},
        lines={
            "compute_advantage": (
                '"token_level_rewards": data.batch["token_level_rewards"]',
                '"response_mask": data.batch["response_mask"]',
                "advantages, returns = adv_estimator_fn(**adv_kwargs)",
            )
        },
    ),
    Contract(
        **_VERL,
        file="verl/trainer/ppo/padding_utils.py",
        name="",
        parameters={},
        lines={"construct_minimal_padding_template": ("is_padding=True",)},
    ),
    Contract(
        **_VERL,
        file="verl/experimental/reward_loop/reward_manager/base.py",
        name="RewardManagerBase",
        parameters={
            "__init__": ("self", "config", "tokenizer", "compute_score"),
            "run_single": ("self", "data"),
        },
        lines={},
    ),
    Contract(
        **_VERL,
        file="verl/experimental/reward_loop/reward_loop.py",
        name="RewardLoopWorker",
        parameters={"compute_score": ("self", "data")},
        lines={"compute_score": ("return await self.reward_manager.run_single(data)",)},
    ),
    Contract(
        **_VERL,
        file="verl/experimental/agent_loop/agent_loop.py",
        name="AgentLoopWorker",
        parameters={"_compute_score": ("self", "outputs", "kwargs")},
        lines={
            "_compute_score": (
                "**{k: np.array([v] * n) for k, v in kwargs.items()}",
                'final_output.extra_fields["reward_extra_info"] = result["reward_extra_info"]',
            )
        },
    ),
    Contract(
        **_VERL,
        file="verl/trainer/ppo/v1/agent_loop_tq.py",
        name="AgentLoopWorkerTQ",
        parameters={},
        lines={
            "_agent_loop_postprocess": (
                'keys.append(f"{uid}_{session_id}_{i}")',
                "field.update(kwargs)",
                '"global_steps": kwargs["global_steps"]',
            )
        },
    ),
)
_VERIFIERS = {"package": "verifiers", "versions": "0.4"}
VERIFIERS = (
    Contract(
        **_VERIFIERS,
        file="verifiers/v1/taskset.py",
        name="Taskset",
        parameters={"__init__": ("self", "config"), "load": ("self",)},
        lines={"__iter__": ("enumerate(self.load())",)},
    ),
    Contract(
        **_VERIFIERS,
        file="verifiers/v1/task.py",
        name="Task",
        parameters={"__init__": ("self", "data", "config"), "key": ("self",)},
        lines={"score": ('available = {"task": self.data, "trace": trace}',)},
    ),
    Contract(
        **_VERIFIERS,
        file="verifiers/v1/harness.py",
        name="Harness",
        parameters={
            "resolve_text_prompt": ("self", "task"),
            "launch": (
                *("self", "ctx", "trace", "runtime", "endpoint", "secret", "mcp_urls", "data"),
            ),
        },
        lines={"launch": ("a harness may run its\n        loop in-process",)},
    ),
    Contract(
        **_VERIFIERS,
        file="verifiers/v1/env.py",
        name="Env",
        parameters={"run": ("self", "task", "agents")},
        lines={},
    ),
    Contract(
        **_VERIFIERS,
        file="verifiers/v1/trace.py",
        name="Branch",
        parameters={"advantages": ("self",)},
        lines={"advantages": ("self.spread(lambda node: node.advantages)",)},
    ),
    Contract(
        **_VERIFIERS,
        file="verifiers/v1/serve/server.py",
        name="EnvServer",
        parameters={},
        lines={"_build_task": ("self.task_cls(data, self.env.config.taskset.task)",)},
    ),
    Contract(
        **_VERIFIERS,
        file="verifiers/v1/utils/loaders.py",
        name="",
        parameters={"import_taskset": ("taskset_id",)},
        lines={"_import_plugin": ('name.replace("-", "_").lower()',)},
    ),
)
CONTRACTS = (TRL, SKYRL, *VERL, *VERIFIERS)
"""Those with packages that are published as wheels."""


def check_files(contracts: Sequence[Contract], folder: Path, version: str) -> None:
    """Compare a package's source, which is read and not imported, with what is relied on.

    Args:
        contracts: With one package.
        folder: Where it is installed.
        version: Of the package.

    Raises:
        ImportError: With what has moved.
    """
    moved: list[str] = []
    for contract in contracts:
        path = folder / contract.file
        there = path.is_file()
        moved += contract.moved_in(path.read_text()) if there else [f"there is no {contract.file}"]
    if moved:
        first = contracts[0]
        raise ImportError(
            f"{first.package} {version} is not the {first.package} that this integration knows "
            f"({first.versions}): {'; '.join(moved)}. Install one of these versions"
        )
