"""The example of a reward of one's own, by the command that its page gives."""

import json
import re
import shlex

import pytest

from tests.e2e.running import ROOT, SMALL, metrics
from tests.forked import command

FOLDER = ROOT / "examples" / "own_reward"


def test_the_documented_command_trains_on_the_example(tmp_path, cache):
    page = (FOLDER / "README.md").read_text()
    (line,) = re.findall(r"```bash\n(.*)\n```", page)
    search, program, name, *words = shlex.split(line)
    assert (program, name) == ("rlcredit", "train")
    assert search == f"PYTHONPATH={FOLDER.relative_to(ROOT)}"
    folder = tmp_path / "run"
    done = command(
        ROOT / "train.py",
        *words,
        *(*SMALL, "trainer.steps=1", "evaluation.every=0", "evaluation.max_prompts=3"),
        *(f"cache={cache}", f"hydra.run.dir={folder}"),
        folder=tmp_path,
        search=[FOLDER],
    )
    assert done.status == 0, done.said
    assert "new_words:score, version" in done.said
    assert metrics(folder)[-1]["reward/evaluations"] > 12  # twelve responses, and parts of them
    after = json.loads((folder / "evaluations" / "test-after.json").read_text())
    values = [value for scores in after["scores"] for value in scores["values"]]
    assert all(60 * value == pytest.approx(round(60 * value)) for value in values)
    assert max(values) > 0
