"""A run's digest follows names and values: not places, not today's defaults, not the processor."""

import dataclasses
import json
import sys
import types
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from rlcredit import estimators
from rlcredit.commands.components import known_classes
from rlcredit.commands.digests import run_digest, run_identity
from rlcredit.commands.schema import register, schema, stored_schema
from rlcredit.estimators import OSPO, Myerson, Weighted
from rlcredit.identity import ASIDE, BEFORE, digest, identify, public_name, without_numerics
from rlcredit.policy.tiny import Tiny

ROOT = Path(__file__).parents[2]
NO_PART_OF_A_RUN = ("rlcredit.tables", "rlcredit.tracking", "rlcredit.bench", "rlcredit.text.resp")
register()


@pytest.fixture(autouse=True)
def conf_dir():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def test_a_component_is_its_public_name_and_its_settings():
    assert identify(OSPO(value=Myerson(), construction=Weighted(strength=0.3))) == {
        "class": "OSPO",
        "value": {"class": "Myerson", "numerics": 2, "budget": 96},
        "construction": {
            "class": "Weighted",
            "strength": 0.3,
            "floor": 0.1,
            "flip_on_negative": True,
        },
        "duplicates": "first",
        "scale": "std",
        "eps": 1e-4,
        "clip": None,
    }


def test_a_config_and_the_component_it_builds_have_one_identity():
    cfg = compose("train", overrides=["estimator=ospo", "dataset.candidates=4"])
    from_config = run_identity(cfg)
    assert from_config["dataset"]["class"] == "ESCI"
    assert from_config["estimator"] == identify(OSPO(value=Myerson(), construction=Weighted()))
    assert from_config["policy"] == identify(Tiny())


@pytest.fixture
def moved(monkeypatch):
    """OSPO's module under another name, its class renamed, its public name declared."""
    source = Path(sys.modules[OSPO.__module__].__file__).read_text()
    source = source.replace("class OSPO(", "class ShapleyOwenCredit(", 1)
    source = source.replace(
        "    value: SegmentValue",
        '    public_name: ClassVar[str] = "OSPO"\n    value: SegmentValue',
        1,
    )
    module = types.ModuleType("rlcredit.elsewhere")
    module.ClassVar = ClassVar
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(source, "elsewhere.py", "exec"), vars(module))
    monkeypatch.setattr(estimators, "OSPO", module.ShapleyOwenCredit)
    for cached in (known_classes, schema, stored_schema):
        cached.cache_clear()
    register()
    yield module.ShapleyOwenCredit
    monkeypatch.undo()
    for cached in (known_classes, schema, stored_schema):
        cached.cache_clear()
    register()


def test_no_digest_changes_when_a_module_moves_and_a_class_is_renamed(request):
    words = ["estimator=ospo", "dataset=hm", "seed=3"]
    before = run_digest(compose("train", overrides=words))
    cls = request.getfixturevalue("moved")
    cfg = compose("train", overrides=words)
    assert (cls.__module__, cls.__name__) == ("rlcredit.elsewhere", "ShapleyOwenCredit")
    assert known_classes()["OSPO"] is cls
    assert run_digest(cfg) == before


def test_a_class_from_outside_is_named_by_its_import_path():
    outside = make_dataclass("Mine", [("eps", float, field(default=1.0))])
    outside.__module__ = "my_lab.mine"
    assert identify(outside()) == {"class": "my_lab.mine.Mine", "eps": 1.0}


def test_a_later_setting_is_left_out_at_what_it_meant_before_and_at_no_other_value(monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Retriever:
        k1: float = 1.5

    @dataclass(frozen=True, kw_only=True)
    class Later:
        k1: float = 1.5
        k3: float | None = 0.0  # today's default is not what it was before

    for cls in (Retriever, Later):
        cls.__module__ = "rlcredit.retrieval.made_up"
        cls.public_name = "Retriever"
    monkeypatch.setitem(BEFORE, "Retriever", {"k3": None})
    was = digest(identify(Retriever()))
    assert digest(identify(Later(k3=None))) == was
    assert digest(identify(Later())) != was
    assert identify(Later())["k3"] == 0.0


def test_every_setting_that_is_younger_than_the_digests_has_a_line_of_what_it_meant_before():
    start = json.loads((Path(__file__).parent / "settings_at_the_start.json").read_text())
    missing = []
    for name, cls in known_classes().items():
        if cls.__module__.startswith(NO_PART_OF_A_RUN) or name not in start:
            continue
        entering = {f.name for f in dataclasses.fields(cls) if f.init and f.metadata != ASIDE}
        younger = entering - set(start[name]) - BEFORE.get(name, {}).keys()
        missing += [f"{name}.{setting}" for setting in younger]
    assert missing == []


def test_a_setting_aside_never_enters():
    words = ("trainer.threads=1", "trainer.packing=padded", "reward.cache.memory_mb=0")
    plain = run_identity(compose("train", overrides=["dataset=esci"]))
    assert run_identity(compose("train", overrides=list(words))) == plain
    assert "threads" not in plain["trainer"]
    assert "path" not in plain["dataset"]
    assert "cache" not in plain["reward"]


def test_numerics_enter_from_two_on_and_are_what_kin_differ_in(monkeypatch):
    before = run_identity(compose("train"))
    assert before["policy"]["numerics"] == Tiny.numerics
    assert "numerics" not in before["estimator"]
    monkeypatch.setattr(Tiny, "numerics", Tiny.numerics + 1)
    after = run_identity(compose("train"))
    assert digest(after) != digest(before)
    assert without_numerics(after) == without_numerics(before)
    other = run_identity(compose("train", overrides=["policy.vocab_size=1024"]))
    assert without_numerics(other) != without_numerics(before)


def test_an_identity_is_plain_json_and_finite():
    with pytest.raises(TypeError):
        digest({"path": Path("x")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"x": float("nan")})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["estimator=grpo"], "00e94689a50298b7e446f45228dfeb27"),
        (["estimator=loo"], "d5976ec6c75c33991f8dc071babf18b3"),
    ],
)
def test_the_digest_of_a_kept_run_is_what_it_was_on_every_machine(words, expected):
    assert digest(kept_identity(*words)) == expected


def test_numerics_that_were_raised_are_all_that_has_changed_of_a_kept_run():
    identity = kept_identity("estimator=ospo", "seed=1")
    assert identity["estimator"]["value"].pop("numerics") == Myerson.numerics
    assert digest(identity) == "b3d451d780b1b41e972c4c5f97b1896a"


def kept_identity(*words):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf" / "kept"), version_base="1.3"):
        return run_identity(compose("train", overrides=["size=sample", "dataset=esci", *words]))


def test_public_names_are_unique_and_no_import_paths():
    names = [public_name(cls) for cls in known_classes().values()]
    assert len(set(names)) == len(names)
    assert not [name for name in names if "." in name]
