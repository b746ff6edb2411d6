"""The other examples, by the commands of their pages and the cells of their notebook."""

import json
import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e.running import ROOT, SMALL, metrics
from tests.forked import command

EXAMPLES = ROOT / "examples"
MODEL = ROOT / "../shared/data/stories260k"
SHORT = ("trainer.steps=1", "evaluation.every=0", "evaluation.max_prompts=3")


def commands(name):
    """The lines of the page's block, as words."""
    (block,) = re.findall(r"```bash\n(.*?)```", (EXAMPLES / name / "README.md").read_text(), re.S)
    return [shlex.split(line) for line in block.splitlines()]


def by_the_page(name, tmp_path, *more, without=()):
    """Make the data, then train on them, as the page says; the folder of the run."""
    making, training = commands(name)
    program, made = making[1:]
    assert making[0] == "python"
    done = command(ROOT / program, tmp_path / "made.jsonl", folder=tmp_path)
    assert done.status == 0, done.said
    assert training[:2] == ["rlcredit", "train"]
    words = [word.replace(made, str(tmp_path / "made.jsonl")) for word in training[2:]]
    words = [word for word in words if not word.startswith(without or "\n")]
    folder = tmp_path / "run"
    done = command(ROOT / "train.py", *words, *more, f"hydra.run.dir={folder}", folder=tmp_path)
    assert done.status == 0, done.said
    return folder, done.said


def test_a_collection_that_a_script_made_trains_a_policy(tmp_path, cache):
    folder, said = by_the_page("own_collection", tmp_path, *SMALL, *SHORT, f"cache={cache}")
    assert "nDCG@10" in said
    assert metrics(folder)[-1]["reward/evaluations"] > 12


@pytest.mark.skipif(not MODEL.is_dir(), reason=f"no language model in {MODEL}")
def test_a_chat_model_learns_from_conversations(tmp_path):
    small = [word for word in SMALL if not word.startswith("policy.")]
    words = ("policy=hf", f"policy.name={MODEL.resolve()}", "trainer.optimizer.lr=1e-4")
    more = (*small, *SHORT, *words, "rollout.max_new_tokens=8")
    folder, said = by_the_page("own_chat", tmp_path, *more, without=("policy=", "policy.warm"))
    assert "What is 1 + 1?" in said  # the header shows a prompt with its earlier turns
    assert json.loads((folder / "summary.json").read_text())["headline"] == "pass@1"


def test_the_notebook_runs_and_colours_what_found_something(tmp_path, monkeypatch):
    page = json.loads((EXAMPLES / "five_estimators" / "five_estimators.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in page["cells"] if cell["cell_type"] == "code"]
    shown = tmp_path / "IPython" / "display.py"  # what Jupyter brings
    shown.parent.mkdir()
    (tmp_path / "IPython" / "__init__.py").write_text("")
    shown.write_text("HTML = str\ndef display(html):\n    print('SHOWN', html)\n")
    script = tmp_path / "notebook.py"
    script.write_text("\n\n".join(cells))
    done = command(script, folder=tmp_path, search=[tmp_path], forget=("IPython",))
    assert done.status == 0, done.said
    assert re.search(r"loo     scored \d+ subsets", done.said)
    (table,) = re.findall("SHOWN (.*)", done.said)
    assert table.count("<tr>") == 5
    assert "red +0.33, tent +0.33, stove +0.00" in done.said


def test_every_example_has_a_page_and_a_test():
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert {path for path in folders if not (EXAMPLES / path / "README.md").is_file()} == set()
    assert {name for name in folders if not re.search(rf"\b{name}\b", tests)} == set()


@pytest.mark.parametrize("page", ["README.md", "docs/how_to/python.md"])
def test_a_page_s_lines_of_python_do_what_they_say(page, tmp_path):
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S)
    script = tmp_path / "lines.py"
    shown = "print(found.advantages.shape, [p.credit for p in found.completions[0].segments])"
    script.write_text(f"{lines}\n{shown}\n")
    done = command(script, folder=tmp_path)
    assert (done.status, done.said.strip()) == (0, "torch.Size([1, 2, 8]) [1.0, 0.0]")


@pytest.mark.skipif(not MODEL.is_dir(), reason=f"no language model in {MODEL}")
def test_trl_trains_by_the_example_and_shows_what_each_sentence_earned(tmp_path):
    ((*_, program, _),) = [line for line in commands("trl") if line[0] == "python"]
    done = command(ROOT / program, str(MODEL.resolve()), "1", folder=tmp_path)
    assert done.status == 0, done.said
    (table,) = (tmp_path / "outputs" / "trl" / "completions").glob("*.parquet")
    shown = pq.read_table(table).to_pylist()
    assert len(shown) == 8
    assert any("+" in row["rlcredit/segments"] for row in shown)
