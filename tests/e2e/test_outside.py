"""The example of CONTRIBUTING.md: a component from outside the repository."""

import re

from tests.e2e.running import ROOT, SMALL, metrics
from tests.forked import command


def test_the_documented_estimator_trains_from_a_folder_of_its_own(tmp_path, cache):
    page = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"```python\n# rlcredit/estimators/median\.py\n(.*?)```", page, re.S)
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "median.py").write_text(code)
    (tmp_path / "my_conf" / "estimator").mkdir(parents=True)
    (yaml,) = re.findall(r"my_conf/estimator/median\.yaml +(_target_: .*)\n", page)
    (tmp_path / "my_conf" / "estimator" / "median.yaml").write_text(f"{yaml}\n")
    words = [*SMALL, "trainer.steps=2", "evaluation.every=0", f"cache={cache}"]
    folder = tmp_path / "run"
    done = command(
        ROOT / "train.py",
        *("--config-dir", "my_conf", "estimator=median", "dataset=esci", "allow=[my_lab]"),
        *words,
        f"hydra.run.dir={folder}",
        folder=tmp_path,
        search=[tmp_path],
    )
    assert done.status == 0, done.said
    assert metrics(folder)[-1]["step"] == 2
