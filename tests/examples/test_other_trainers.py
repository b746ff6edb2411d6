"""Pages of trainers that are not installed here: what they name exists, and their rewards work."""

import asyncio
import importlib.util
import re
import shlex
import tomllib
from itertools import pairwise
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import yaml

from rlcredit import score
from rlcredit.code import Code
from rlcredit.integrations.skyrl import PREFIX
from tests.e2e.running import ROOT
from tests.forked import command

EXAMPLES = ROOT / "examples"


def blocks(name, language):
    """The blocks of a language on an example's page."""
    return re.findall(
        rf"```{language}\n(.*?)```", (EXAMPLES / name / "README.md").read_text(), re.S
    )


def module(name, file):
    """An example's program, imported; what it needs of the trainer is imported when it runs."""
    spec = importlib.util.spec_from_file_location(f"{name}_{file}", EXAMPLES / name / f"{file}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def words(name):
    """The command on an example's page; a second one would check it."""
    block, *_ = blocks(name, "bash")
    return shlex.split(block.replace("\\\n", " "))


def lines(name):
    """The lines of the commands on an example's page, as words."""
    return [shlex.split(line) for block in blocks(name, "bash") for line in block.splitlines()]


def test_prime_rl_s_orchestrator_is_started_by_a_program_with_a_row_and_a_reward():
    python, program, *_ = words("prime_rl")
    assert (python, (ROOT / program).is_file()) == ("python", True)
    (settings,) = map(tomllib.loads, blocks("prime_rl", "toml"))
    assert settings["algo"] == {"type": "grpo"}
    example = module("prime_rl", "orchestrator")
    task = SimpleNamespace(prompt_text="tent", answer="tnet")
    row = example.row_of(SimpleNamespace(task=SimpleNamespace(data=task)))
    texts = ["<reversed_text> tnet</reversed_text>", "<reversed_text>tn</reversed_text>", "tnet"]
    found = score(texts, [row] * 3, reward=example.score)
    assert found.tolist() == pytest.approx([1.0, 2 / 3, 0.0])
    with pytest.raises(ImportError, match="prime_rl"):
        example.main()


def test_slime_s_command_names_functions_that_are_there():
    line = words("slime")
    assert line[0] == f"PYTHONPATH={(EXAMPLES / 'slime').relative_to(ROOT)}"
    named = {option: value for option, value in pairwise(line) if "custom" in option}
    assert set(named) == {
        "--custom-rm-path",
        "--custom-reward-post-process-path",
        "--custom-advantage-function-path",
    }
    example = module("slime", "own_credit")
    for value in named.values():
        name, function = value.rsplit(".", 1)
        assert name == "own_credit"
        assert callable(getattr(example, function))
    sample = SimpleNamespace(prompt="What is 6 * 7?", label=42, response="It is 42.")
    assert asyncio.run(example.reward(None, sample)) == 1.0


def test_skyrl_s_program_has_a_row_and_a_credit_of_the_estimator_s_name():
    python, program, setting, *_ = words("skyrl")
    assert (python, (ROOT / program).is_file()) == ("python", True)
    key, name = setting.split("=")
    assert key == "trainer.algorithm.advantage_estimator"
    example = module("skyrl", "train")
    credit = example.credit_of(name.removeprefix(PREFIX))
    columns = {"reward_spec": {"ground_truth": 42}}
    row = example.row_of([{"role": "user", "content": "What is 6 * 7?"}], columns)
    found = credit([row], [["So it is.\n#### 42", "#### 41"]])
    assert found.rewards.tolist() == [[1.0, 0.0]]
    assert [part.credit for part in found.completions[0].segments] == [0.0, 1.0]
    with pytest.raises(ImportError, match=r"ray|skyrl"):
        example.main()


def test_verl_s_settings_name_functions_that_make_a_credit_and_a_prompt(tmp_path, monkeypatch):
    _, making, training = lines("verl")
    assert making[:4] == ["cd", "examples/verl", "&&", "python"]
    named = training[training.index("--config-name") + 1]
    settings = yaml.safe_load((EXAMPLES / "verl" / f"{named}.yaml").read_text())
    given = settings["reward"]["reward_kwargs"]
    monkeypatch.syspath_prepend(EXAMPLES / "verl")
    credit, prompt = (Code.of(given[key]).function for key in ("credit", "prompt"))
    example = module("verl", making[4].removesuffix(".py"))
    example.main(str(tmp_path / making[5]))
    rows = pq.read_table(tmp_path / settings["data"]["train_files"]).to_pylist()
    assert [row["extra_info"]["index"] for row in rows] == list(range(len(rows)))
    asked = prompt(rows[3]["prompt"], rows[3])
    assert (asked.query, asked.text) == (
        rows[3]["reward_model"]["ground_truth"],
        rows[3]["prompt"][1]["content"],
    )
    name = settings["algorithm"]["adv_estimator"].removeprefix("rlcredit_")
    found = credit(name)(
        [asked], [[f"<answer>{', '.join([*asked.truth][-6:])}</answer>", "<answer>no</answer>"]]
    )
    assert found.rewards[0, 0] > found.rewards[0, 1]


def test_verl_s_reward_workers_are_counted(tmp_path):
    program = EXAMPLES / "verl" / "reward_workers.py"
    done = command(program, "1024", "20", "loo", folder=tmp_path)
    assert done.status == 0, done.said
    rewards, ms = re.search(r"its parts: ([\d.]+) rewards, ([\d.]+) ms", done.said).groups()
    assert 3 < float(rewards) < 12
    workers = int(re.search(r"reward.num_workers=(\d+) or more", done.said)[1])
    assert workers == pytest.approx(2 * 1024 * float(ms) / 1000 / 20, abs=1.1)


def test_verifiers_environments_are_packages_of_their_names():
    installing, evaluating, crediting = lines("verifiers")
    assert installing == ["pip", "install", "rlcredit[verifiers]"]
    for name in (evaluating[1], crediting[2], "rlcredit-hm"):
        assert (ROOT / name.replace("-", "_") / "__init__.py").is_file()
    assert (ROOT / crediting[1]).is_file()
    with pytest.raises(ImportError, match="verifiers"):
        module("verifiers", "credit")
