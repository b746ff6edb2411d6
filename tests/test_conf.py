"""Every YAML composes and builds, every documented command composes, every mistake is named."""

import re
import shlex
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlcredit.commands.build import estimator_config, retriever_configs, trackers
from rlcredit.commands.components import COMPONENTS, build, components, known_classes
from rlcredit.commands.digests import run_digest
from rlcredit.commands.errors import explain
from rlcredit.commands.saved import typed
from rlcredit.commands.schema import schema
from rlcredit.rollout import VLLMRollout
from rlcredit.tracking import TensorBoard, Trackio
from rlcredit.trainer.pairing import check_pairing
from tests.composing import CONF, RUNS, composed, names

ROOT = Path(__file__).parents[1]
GROUPS = [
    "policy",
    "estimator",
    "loss",
    "dataset",
    "retriever",
    "reward",
    "segmenter",
    "encoder",
    "rollout",
    "trainer",
    "tracker",
    "instruction",
    "size",
    "experiment",
]


ALONE = ("dataset", "reward")
"""Groups whose choice decides what other components are or can be."""
NEEDED = {
    "policy=hf": "policy.name=a/model",
    "retriever=sentence": "retriever.name=a/model",
    "segmenter=function": "segmenter.path=my_pkg:cut",
    "segmenter=pattern": "segmenter.pattern=x+",
    "dataset=beir": "dataset.path=a/folder",
    "dataset=hub": "dataset.hub_name=a/set",
    "dataset=jsonl": "dataset.path=a/file",
    "reward=function": "reward.path=my_pkg:score",
    "reward=model": "reward.name=a/model",
    "reward=sum": "+reward@reward.terms.found=ndcg",
}
"""What a choice cannot do without."""
NO_COMPONENTS = ("instruction", "size", "experiment")
"""Groups whose YAMLs set values of several components."""
TOGETHER = [group for group in GROUPS if group not in (*ALONE, *NO_COMPONENTS)]


def node_of(group, name):
    """What ``group=name`` makes of a run's config: beside the other groups' names of that rank."""
    rank = names(group).index(name)
    ranked = {each: names(each) for each in TOGETHER}
    chosen = {each: known[rank % len(known)] for each, known in ranked.items()}
    words = [f"{each}={choice}" for each, choice in chosen.items()]
    words = [f"{group}={name}"] if group in ALONE else words
    node = composed(*words, *(NEEDED[word] for word in words if word in NEEDED))[group]
    return node[name] if group == "tracker" else node


def test_the_groups_are_those_that_are_promised():
    assert sorted(p.name for p in CONF.iterdir() if p.is_dir()) == sorted([*GROUPS, "kept"])


OF_EXTRAS = {
    "rollout=vllm": ("vllm", "make test-vllm"),
    "tracker=tensorboard": ("tensorboard", re.escape("pip install 'rlcredit[tensorboard]'")),
    "tracker=trackio": ("trackio", re.escape("pip install 'rlcredit[trackio]'")),
}
"""What needs a package that may be absent, which it must say before a run begins."""


@pytest.mark.parametrize(
    ("group", "name"),
    [(g, n) for g in GROUPS if g not in NO_COMPONENTS for n in names(g)],
    ids="=".join,
)
def test_every_component_composes_and_builds(group, name):
    node = node_of(group, name)
    package, remedy = OF_EXTRAS.get(f"{group}={name}", ("", ""))
    if package and find_spec(package) is None:
        with pytest.raises(ValueError, match=remedy):
            build(node)
        return
    built = build(node, allow=["my_pkg"])
    assert type(built).__module__.startswith("rlcredit.")


@pytest.mark.parametrize("name", ["ospo", "lpo"])
def test_an_estimator_alone_is_that_of_a_run(name):
    with RUNS.hydra():
        config, loss = estimator_config(name)
        alone = compose("parts", overrides=[f"+loss={loss}"]).loss
    run = composed(f"estimator={name}")
    assert build(config) == build(run.estimator)
    assert build(run.loss) == build(alone)


def test_every_estimator_goes_with_every_loss_or_is_refused_with_the_remedy():
    def built(group):
        return [build(node_of(group, name)) for name in names(group)]

    def refusal(estimator, loss):
        try:
            check_pairing(estimator, loss, group_size=8, num_candidates=0)
        except ValueError as error:
            return str(error)
        return None

    estimators, losses = built("estimator"), built("loss")
    answers = [refusal(estimator, loss) for estimator in estimators for loss in losses]
    refused = [answer for answer in answers if answer is not None]
    assert 0 < len(refused) < 0.7 * len(answers)
    assert all("estimator=" in answer or "estimator (" in answer for answer in refused)


def test_every_size_composes():
    for name in names("size"):
        assert composed(f"size={name}").trainer.steps > 0


@pytest.mark.parametrize("experiment", names("experiment"))
def test_every_experiment_composes_and_the_smallest_size_is_that_whatever_it_sets(experiment):
    cfg = composed(f"experiment={experiment}", "size=smoke")
    small = OmegaConf.load(CONF / "size" / "smoke.yaml")
    small.trainer.steps = 0 if experiment == "supervised" else 6  # which has none, at any size
    for group in ("trainer", "evaluation"):
        assert OmegaConf.masked_copy(cfg[group], list(small[group])) == small[group]
    assert cfg.policy.warm_start.steps == (2 if "smollm2" in experiment else 100)
    assert cfg.dataset.get("candidates", 0) == (4 if experiment in ("sets", "smollm2_sets") else 0)


def test_the_smallest_size_shortens_the_warm_start_where_there_is_one():
    for policy, steps in (("tiny", 100), ("small", 100), ("smollm2", 2), ("hf", 0)):
        cfg = composed("size=smoke", f"policy={policy}")
        assert cfg.policy.get("warm_start", {}).get("steps") == steps
        assert cfg.trainer.steps == 6


def test_an_experiment_stays_what_it_is_where_the_size_does_not_say_otherwise():
    words = ("experiment=real_hm", "size=sample", "trainer.prompts_per_step=2")
    cfg = composed(*words)
    assert (cfg.trainer.steps, cfg.trainer.prompts_per_step) == (150, 2)
    assert cfg.trainer.optimizer.lr == 2e-4
    assert composed("experiment=supervised", "size=paper").trainer.steps == 0


ALL = [cls for package in dict.fromkeys(COMPONENTS.values()) for cls in components(package)]
WHOLE = [cls for cls in ALL if not OmegaConf.missing_keys(OmegaConf.structured(schema(cls)))]


NEEDED_PACKAGE = {VLLMRollout: "vllm", TensorBoard: "tensorboard", Trackio: "trackio"}
INSTALLED = [
    cls for cls in WHOLE if cls not in NEEDED_PACKAGE or find_spec(NEEDED_PACKAGE[cls]) is not None
]


@pytest.mark.parametrize("cls", INSTALLED, ids=lambda cls: cls.__name__)
def test_an_empty_config_builds_the_class_defaults(cls):
    node = OmegaConf.structured(schema(cls))
    assert build(node) == cls()


def test_components_cannot_be_changed_and_take_keywords_alone():
    classes = known_classes().values()
    assert [cls for cls in classes if not cls.__dataclass_params__.frozen] == []
    assert [f"{cls}.{f.name}" for cls in classes for f in fields(cls) if not f.kw_only] == []


def documented_commands():
    pages = ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))
    for path in pages:
        name = path.relative_to(ROOT)
        for block in re.findall(r"```(?:bash|sh)\n(.*?)```", path.read_text(), re.S):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                command = words.index("train.py") if "train.py" in words else None
                command = words.index("train") if words[:2] == ["rlcredit", "train"] else command
                if command is not None:
                    yield f"{name}: {line.strip()}", words[command + 1 :]


OF_A_SEARCH = ("-", "hydra/sweeper", "hydra.sweeper")
"""Words that no run's config has: options, and what a sweeper is told."""


@pytest.mark.parametrize("words", [pytest.param(w, id=i) for i, w in documented_commands()])
def test_every_documented_command_composes_and_builds(words):
    overrides = [word for word in words if not word.startswith(OF_A_SEARCH)]
    overrides = [word for word in overrides if "interval(" not in word]
    if "--config-dir" in words:
        pytest.skip("the example of components from outside has a test of its own")
    overrides = [re.sub(r"^([^=]+=)([^\[{]*?),.*$", r"\1\2", word) for word in overrides]
    cfg = composed(*overrides)
    assert OmegaConf.missing_keys(cfg) == set()
    if cfg.table is None:
        build(cfg.estimator)
        build(cfg.loss)


def complaint(*overrides):
    def compose_and_build():
        with RUNS.hydra():
            cfg = compose("train", overrides=list(overrides))
        for group in set(GROUPS) & set(cfg):
            build(cfg[group])

    with pytest.raises((HydraException, OmegaConfBaseException, ValueError)) as caught:
        compose_and_build()
    sentence = explain(caught.value)
    assert sentence is not None
    return sentence


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("estimator=osop", "did you mean 'ospo'?"),
        ("retriever=minilmm", "did you mean 'minilm'?"),
        ("retriever=elastic", "bm25"),
        ("trainer.group_sise=4", "did you mean 'group_size'?"),
        ("dataset.sorce=path", "did you mean 'source'?"),
        ("trainer.optimizer.learning=1", "valid names here: lr"),
        ("sed=1", "did you mean 'seed'?"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_name(override, named):
    assert named in complaint(override)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("trainer.group_size=many", "trainer.group_size"),
        ("dataset.source=kaggle", "generated"),
        ("trainer.group_size=0", "trainer.group_size=0"),
        ("trainer.optimizer.lr=-1", "trainer.optimizer.lr=-1"),
        ("seed=first", "seed"),
    ],
)
def test_a_wrong_value_is_refused_while_composing_or_building(override, named):
    assert named in complaint(override)


def test_a_retriever_that_does_not_exist_is_answered_with_those_that_do():
    said = complaint("retriever=bm52")
    assert "did you mean 'bm25'?" in said
    with pytest.raises(HydraException) as caught, RUNS.hydra():
        retriever_configs(["bm52"])  # as evaluation.retrievers=[bm52] asks for it
    for sentence in (said, explain(caught.value)):
        assert all(name in sentence for name in ("bm25", "tfidf", "lsa", "minilm", "char_ngram"))


def trackers_of(*words):
    cfg = composed(*words)
    return {name: type(built).__name__ for name, built in build(cfg.tracker).items()}


@pytest.mark.parametrize(
    ("word", "chosen"),
    [
        ("seed=0", ["wandb"]),
        ("tracker=jsonl", ["jsonl"]),
        ("tracker=[wandb,jsonl]", ["wandb", "jsonl"]),
        ("tracker=[jsonl,wandb]", ["jsonl", "wandb"]),
        ("tracker=[wandb,wandb]", ["wandb"]),
        ("tracker=[]", []),
    ],
)
def test_trackers_stand_side_by_side_and_none_takes_another_s_place(word, chosen):
    kinds = {"wandb": "WandB", "jsonl": "JSONL"}
    assert trackers_of(word) == {name: kinds[name] for name in chosen}
    assert list(trackers_of(word)) == chosen


def test_a_setting_of_a_tracker_stands_under_its_name():
    words = ("tracker=[jsonl,wandb]", "tracker.wandb.project=mine")
    cfg = composed(*words)
    assert build(cfg.tracker)["wandb"].project == "mine"
    assert set(cfg.tracker.jsonl) == {"_target_"}
    assert run_digest(cfg) == run_digest(composed("tracker=[]")) == run_digest(composed())


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["tracker.project=mine"], "did you mean tracker.wandb.project?"),
        (["tracker=[wandb,tensorbord]"], "did you mean 'tensorboard'?"),
        (["tracker=[wandb,tensorbord]"], "valid names here: jsonl, tensorboard, trackio, wandb"),
        (["tracker=wnadb"], "did you mean 'wandb'?"),
        (["tracker=jsonl", "tracker.wandb.project=mine"], "valid names here: jsonl"),
        (["trainer.lr=1"], "did you mean trainer.optimizer.lr?"),
    ],
)
def test_a_tracker_or_a_setting_at_a_wrong_place_is_answered_with_the_right_one(words, named):
    assert named in complaint(*words)


def test_a_tracker_that_would_take_the_place_of_all_is_refused(tmp_path):
    cfg = composed("tracker=jsonl")
    cfg.tracker = {"_target_": "my_lab.Tracker"}
    with pytest.raises(ValueError, match=r"my_lab\.Tracker .*# @package tracker\.<name>"):
        trackers(cfg)


def test_the_digest_is_that_of_what_changes_numbers():
    def digest(*choices, **settings):
        cfg = composed(*choices)
        for place, value in settings.items():
            OmegaConf.update(cfg, place, value)
        return run_digest(cfg)

    same = {
        "cache": "elsewhere",
        "trainer.tokens_per_microbatch": 64,
        "trainer.packing": "padded",
        "trainer.checkpoint_every": 1,
        "trainer.mismatch.max_kl": None,
        "evaluation.samples": 1,
        "resume": "never",
        "reward.cache.folder": "elsewhere",
        "reward.cache.memory_mb": 0,
    }
    chosen = [("estimator=ospo",), ("dataset=hm",), ("retriever=lsa",), ("reward=recall",)]
    other = {
        "seed": 1,
        "trainer.steps": 99,
        "trainer.optimizer.lr": 1e-3,
        "trainer.autocast": True,
        "dataset.seed": 1,
        "rollout.temperature": 0.9,
        "loss.clip_high": 0.3,
        "trainer.mismatch.correction": "truncate",
    }
    assert digest("tracker=jsonl", **same) == digest()
    digests = {digest(*words) for words in chosen}
    digests |= {digest(**{place: value}) for place, value in other.items()}
    assert len(digests | {digest()}) == len(chosen) + len(other) + 1


@pytest.mark.parametrize("group", ["dataset", "reward", "retriever"])
def test_a_saved_config_builds_the_same_component(group, tmp_path):
    node = composed("dataset.source=path", "dataset.path=somewhere")[group]
    OmegaConf.save(node, tmp_path / "config.yaml", resolve=True)
    saved = OmegaConf.load(tmp_path / "config.yaml")
    assert isinstance(saved, DictConfig)
    again = build(typed(saved))
    assert repr(again) == repr(build(node))  # an enum equals its name, and is not it
