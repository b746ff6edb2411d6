"""A config that comes from a file names components and values; it never has code run."""

from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from rlcredit.commands.build import allowed_by_command, config_text, saved_part
from rlcredit.commands.components import allowed, build
from rlcredit.commands.evaluate import rescore_run
from rlcredit.commands.replay import replay_refused
from rlcredit.commands.report import _explored
from rlcredit.commands.saved import saved_config
from rlcredit.commands.schema import register
from rlcredit.commands.transfer import _finished
from rlcredit.identity import BEFORE
from rlcredit.trainer.settings import TrainerSettings

ROOT = Path(__file__).parents[2]
register()


@pytest.fixture(autouse=True)
def conf_dir():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


@pytest.fixture
def run(tmp_path):
    """A run folder with nothing but its config."""
    return saved(tmp_path)


@cache
def asked(reader):
    """The config of a reader, as a command line without words composes it."""
    return compose(reader, return_hydra_config=True)


@cache
def composed():
    text = config_text(compose("train", overrides=["estimator=ospo"]))
    return OmegaConf.to_container(OmegaConf.create(text))


def saved(folder, **changes):
    cfg = OmegaConf.create(composed())
    for place, value in changes.items():
        OmegaConf.update(cfg, place.replace("__", "."), value, force_add=True, merge=False)
    (folder / ".hydra").mkdir()
    OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
    return folder


HOSTILE = [
    ("reward__utility", {"_target_": "pandas.read_pickle", "filepath_or_buffer": "{marker}"}),
    ("reward__measure__gains", {"_target_": "torch.hub.load", "repo_or_dir": "x"}),
    ("estimator__value", {"_target_": "builtins.open", "file": "{marker}", "mode": "w"}),
    ("evaluation__retrievers", [{"_target_": "pathlib.Path.touch", "_args_": ["{marker}"]}]),
    ("tracker", {"_target_": "rlcredit.tracking.lines.replace_file", "path": "{marker}"}),
    ("loss", {"_target_": "rlcredit.losses.LPO", "_partial_": True}),
    ("loss__clip_low", {"_args_": [1]}),
    ("seed", "${oc.env:HOME}"),
    ("cache", "${run_folder:}"),
]


@pytest.mark.parametrize(("place", "value"), HOSTILE, ids=[place for place, _ in HOSTILE])
@pytest.mark.parametrize("reader", ["evaluate", "transfer", "report", "replay"])
def test_what_would_run_code_is_refused_with_its_place(reader, place, value, tmp_path):
    marker = tmp_path / "marker"
    folder = saved(tmp_path, **{place: _filled(value, str(marker))})
    cfg = asked(reader).copy()
    cfg[_KEY[reader]] = str(folder)
    HydraConfig.instance().set_config(cfg)
    with pytest.raises(ValueError, match=place.split("__")[0]) as caught:
        _READ[reader](folder, cfg)
    assert str(folder / ".hydra" / "config.yaml") in str(caught.value)
    assert not marker.exists()


_KEY = {"evaluate": "run", "transfer": "runs", "report": "run", "replay": "batch"}
_READ = {
    "evaluate": lambda _, cfg: rescore_run(cfg),
    "transfer": lambda folder, _: _finished(folder, ()),
    "report": _explored,
    "replay": lambda folder, cfg: replay_refused(_of_batch(cfg, folder)),
}


def _of_batch(cfg, folder):
    cfg.batch = str(folder / "failed_batch")
    return cfg


def _filled(value, marker):
    if isinstance(value, dict):
        return {key: _filled(each, marker) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, marker) for each in value]
    return value.replace("{marker}", marker) if isinstance(value, str) else value


def test_a_component_from_outside_is_built_only_where_the_command_line_allows_it(
    tmp_path, monkeypatch
):
    (tmp_path / "my_lab.py").write_text(
        "from dataclasses import dataclass\n"
        "open(__file__ + '.imported', 'w').close()\n"
        "@dataclass(frozen=True)\nclass Mine:\n    eps: float = 1.0\n"
        "def function():\n    return 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    node = {"_target_": "my_lab.Mine", "eps": 2.0}
    with pytest.raises(ValueError, match=r"allow=\[my_lab\]"):
        build(node)
    assert not (tmp_path / "my_lab.py.imported").exists()
    assert build(node, allow=["my_lab"]).eps == 2.0
    with pytest.raises(ValueError, match="is no dataclass"):
        build({"_target_": "my_lab.function"}, allow=["my_lab"])
    with pytest.raises(ValueError, match=r"has no setting epz; it has eps"):
        build({"_target_": "my_lab.Mine", "epz": 2.0}, allow=["my_lab"])


def test_words_allow_a_package_and_no_file_does():
    assert allowed(["seed=1", "allow=[my_lab,yours]"]) == ("my_lab", "yours")
    assert allowed(["allow=my_lab"]) == ("my_lab",)
    assert allowed(["estimator=ospo"]) == ()
    cfg = compose("train", return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    assert allowed_by_command(cfg) == ()
    cfg.allow = ["my_lab"]  # as a YAML file would
    with pytest.raises(ValueError, match="files allow no code"):
        allowed_by_command(cfg)


def test_a_config_of_before_its_modules_moved_and_its_settings_grew_is_read(run):
    path = run / ".hydra" / "config.yaml"
    old = OmegaConf.load(path)
    old.trainer["_target_"] = "rlcredit.somewhere_else.TrainerSettings"
    old.trainer.optimizer["_target_"] = "rlcredit.trainer.of_before.AdamW"
    for younger in ("autocast", "compute_dtype", "mismatch"):
        del old.trainer[younger]
    OmegaConf.save(old, path)
    assert saved_part(saved_config(run).trainer) == TrainerSettings()


def test_a_setting_that_is_gone_is_read_at_what_it_meant_before_and_refused_at_another(run):
    path = run / ".hydra" / "config.yaml"
    old = OmegaConf.load(path)
    old.reward.shortcut = None
    OmegaConf.save(old, path)
    assert saved_part(saved_config(run).reward) == saved_part(compose("train").reward)
    old.reward.shortcut = "repool"
    OmegaConf.save(old, path)
    with pytest.raises(ValueError, match=r"Ranking\.shortcut=repool: this setting is gone"):
        saved_part(saved_config(run).reward)


def test_a_younger_setting_has_what_it_meant_before_and_not_todays_default(run, monkeypatch):
    saved = saved_config(run)
    del saved.trainer["autocast"]
    monkeypatch.setitem(BEFORE["TrainerSettings"], "autocast", True)
    assert saved_part(saved.trainer).autocast is True


def test_a_file_that_is_no_config_is_named(tmp_path):
    with pytest.raises(ValueError, match="no run folder"):
        saved_config(tmp_path)
    (tmp_path / ".hydra").mkdir()
    for content, said in (("- 1", "holds no mapping"), ("a: [", "cannot be read"), ("", "mapping")):
        (tmp_path / ".hydra" / "config.yaml").write_text(content)
        with pytest.raises(ValueError, match=said):
            saved_config(tmp_path)
