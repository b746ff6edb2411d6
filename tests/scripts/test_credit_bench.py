"""The credit bench as a command: every method of conf/, one from outside, and its files."""

import json
import re
import sys
from dataclasses import dataclass

import pytest

from rlcredit.bench import run as bench_run
from rlcredit.bench.climb import Training
from rlcredit.bench.errors import error_sheets
from rlcredit.bench.record import write
from rlcredit.bench.run import Methods, Settings, bench
from rlcredit.bench.worlds import worlds
from rlcredit.commands import credit_bench
from rlcredit.estimators import GRPO, RLOO
from rlcredit.estimators.base import AdvantageEstimator, Centring, Grain
from rlcredit.types import Advantages
from tests.composing import built, names


@dataclass(frozen=True, kw_only=True)
class BlamesTheWinner(AdvantageEstimator):
    """Wrong on purpose: RLOO with the sign turned."""

    grain = Grain.rollout
    centring = Centring.group

    def __call__(self, signals):
        return Advantages(values=-RLOO()(signals).values)


WORLDS = ("additive", "noisy", "candidates", "arms")


def table(numbers, name):
    columns = numbers[name]["columns"]
    return [dict(zip(columns, row, strict=True)) for row in numbers[name]["rows"]]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """One small run of every pair, with an estimator that stands in a folder outside.

    In worlds of one text, of sets, of a noisy reward and of unequal texts; tests of rlcredit.bench
    measure in all of them.
    """
    folder = tmp_path_factory.mktemp("bench")
    (folder / "my_conf" / "estimator").mkdir(parents=True)
    yaml = f"_target_: {__name__}.BlamesTheWinner\n"
    (folder / "my_conf" / "estimator" / "blames_the_winner.yaml").write_text(yaml)
    words = [
        f"allow=[{__name__.partition('.')[0]}]",
        "settings.replicates=16",
        "settings.training.batches=1",
        "settings.training.runs=2",
    ]
    command = ["credit_bench", "--config-dir", str(folder / "my_conf"), f"out={folder / 'out'}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*command, *words])
        patch.setattr(bench_run, "worlds", lambda: [w for w in worlds() if w.name in WORLDS])
        credit_bench.main()
    return folder / "out"


def test_every_pair_of_conf_is_measured_or_refused_with_a_reason(result):
    numbers = json.loads((result / "credit_bench.json").read_text())
    measured = {(row["estimator"], row["loss"]) for row in table(numbers, "gradients")}
    refused = {
        (estimator, loss)
        for reason in numbers["refused"]
        for estimator in reason["estimator"]
        for loss in reason["loss"]
    }
    assert all(len(reason["why"]) > 40 for reason in numbers["refused"])
    for estimator in [*names("estimator"), "blames_the_winner"]:
        first = numbers["same_as"][estimator]
        for loss in names("loss"):
            assert (first, loss) in measured | refused
    assert numbers["same_as"]["lpo_reverse"] == "grpo"
    assert numbers["own_loss"]["lpo_reverse"] == "lpo_reverse"
    assert ("ospo", "gspo") in refused - measured
    assert ("shape", "dapo") in measured & refused  # of sets alone
    ended = {(row["estimator"], row["loss"]) for row in table(numbers, "bandits")}
    assert ("setpo", "lpo") in ended
    assert ("shape", "dapo") not in ended


def test_a_wrong_estimator_from_outside_enters_and_is_exposed(result):
    numbers = json.loads((result / "credit_bench.json").read_text())
    rows = table(numbers, "gradients")
    own = [r for r in rows if (r["estimator"], r["loss"]) == ("blames_the_winner", "dapo")]
    assert len(own) == len(numbers["worlds"])
    for row in own:
        assert row["length"][0] < -0.5
        assert row["length"][2] < 0
        assert row["cosine"] is None or row["cosine"][0] < -0.9
        assert row["bias"][1] > 0
    page = (result / "credit_bench.md").read_text()
    start = f"| blames_the_winner | dapo | {len(own)}"
    lines = [li for li in page.splitlines() if li.startswith(start)]
    assert len(lines) == 2  # with its own loss, and among all pairs
    assert all(f" 0/{len(own)} " in line for line in lines)
    rloo = [r for r in rows if (r["estimator"], r["loss"]) == ("rloo", "dapo")]
    assert sum(row["bias"][1] == 0 for row in rloo) >= len(own) - 1


def test_every_figure_of_every_pair_has_an_interval(result):
    numbers = json.loads((result / "credit_bench.json").read_text())
    bought = [
        f"{name}, 1000 {cost}"
        for name in ("variance", "error", "error at the best rate")
        for cost in ("samples", "rewards")
    ]
    for row in table(numbers, "gradients"):
        for name in ("length", "bias", "power", "variance", "moved_length", "moved_bias", *bought):
            figure, low, high = row[name]
            assert low <= figure <= high, (row["world"], row["estimator"], row["loss"], name)
        assert row["variance"][1] < row["variance"][2]
        for cost, spent in (("samples", row["samples"]), ("rewards", row["evaluations"])):
            noise = row[f"variance, 1000 {cost}"]
            assert noise == pytest.approx([v * spent / 1000 for v in row["variance"]], rel=2e-3)
            error = row["bias"][0] ** 2 + noise[0]
            assert row[f"error, 1000 {cost}"][0] == pytest.approx(error, rel=2e-3)
    head, _, *rows = (
        (result / "credit_bench.md")
        .read_text()
        .split("## Every estimator with")[1]
        .split("\n\n")[1]
        .splitlines()
    )
    places = [place for place, name in enumerate(head.split(" | ")) if "error, " in name]
    assert len(places) == 2
    assert all(re.fullmatch(INTERVAL, row.split(" | ")[p]) for row in rows for p in places)


INTERVAL = r"\S+ \[\S+, \S+\]"


def test_errors_beside_the_baselines_are_paired():
    methods = Methods(
        estimators={"grpo": GRPO(), "twin": GRPO(), "blames": BlamesTheWinner()},
        losses={"dapo": built("loss", "dapo")},
        own=dict.fromkeys(("grpo", "twin", "blames"), "dapo"),
    )
    settings = Settings(replicates=64, training=Training(batches=2, runs=2))
    found = bench(methods, settings, chosen=["arms", "harmful"], say=[].append)
    *_, by_samples, by_rewards = error_sheets(found)
    for sheet in (by_samples, by_rewards):
        assert "beside grpo's" in sheet.title
        twin, wrong = sheet.rows
        assert (twin[0], twin[2]) == ("twin", twin[3])
        assert twin[4:] == ("+0 [+0, +0]", "none", "none")
        assert wrong[:3] == ("blames", "2", "1.000 [1.000, 1.000]")
        assert wrong[5:] == ("none", "arms, harmful")


def test_the_page_the_tabulars_and_the_pictures_are_there(result):
    page = (result / "credit_bench.md").read_text()
    for title in ("Estimators with their own loss", "What it climbs", "Refused", "Worlds"):
        assert f"## {title}" in page
    tabulars = (result / "credit_bench.tex").read_text()
    assert tabulars.count(r"\begin{tabular}") == tabulars.count(r"\bottomrule") == 17
    assert "ospo\\_released" in tabulars
    for name in ("directions", "price", "credit", "bandits"):
        assert f"({name}.png)" in page
        assert (result / f"{name}.svg").read_text().startswith('<svg role="img" aria-label=')
        assert (result / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_command_writes_the_same_bytes(tmp_path):
    methods = Methods(
        estimators={name: built("estimator", name) for name in ("grpo", "ospo", "random_credit")},
        losses={name: built("loss", name) for name in ("dapo", "lpo")},
        own=dict.fromkeys(("grpo", "ospo", "random_credit"), "dapo"),
    )
    settings = Settings(replicates=16, training=Training(batches=2, runs=2))
    said = []
    for folder in ("one", "two"):
        found = bench(methods, settings, chosen=["arms"], say=said.append)
        write(found, tmp_path / folder)
    assert said == ["arms: 4 right arms of 12"] * 2
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == 9
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_what_cannot_be_measured_is_refused():
    none = Methods(estimators={}, losses={}, own={})
    with pytest.raises(ValueError, match="no world is called 'mars'; there are additive"):
        bench(none, Settings(), chosen=["mars"], say=print)
    with pytest.raises(ValueError, match="use 8 or more"):
        Settings(replicates=4)
    with pytest.raises(ValueError, match="2 responses or more"):
        Settings(group_size=1)
