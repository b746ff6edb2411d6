"""What a disk does not take, and an export that is not the policy, end a run in a sentence."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from rlcredit.errors import raised_here
from rlcredit.policy.causal_lm import CausalLM
from rlcredit.run.export_check import ExportError
from rlcredit.run.folder import RunSummary, Status
from rlcredit.run.sweep_table import read_job
from tests.e2e.running import ROOT, metrics, run
from tests.forked import command
from tests.full_disk import full_disk

RUN = (
    "estimator=ospo",
    "trainer.steps=2",
    "trainer.prompts_per_step=2",
    "trainer.checkpoint_every=1",
    "evaluation.every=2",
    "evaluation.samples=2",
    "evaluation.max_prompts=2",
    "rollout.max_new_tokens=12",
)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("straight")
    run(folder, f"cache={cache}", *RUN)
    return folder


def contents(folder):
    """Everything that a run writes and a clock does not change."""
    names = ("completions.jsonl", "responses.jsonl", "test_touches.jsonl")
    found = {name: (folder / name).read_bytes() for name in names}
    for path in sorted((*folder.glob("evaluations/*"), *folder.glob("trec/**/*.*"))):
        if path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found | {"metrics": metrics(folder)}


def test_files_of_a_run_have_ordinary_permissions(straight):
    (straight / "ordinary").touch()
    ordinary = (straight / "ordinary").stat().st_mode
    (straight / "ordinary").unlink()
    modes = {path: path.stat().st_mode for path in straight.rglob("*") if path.is_file()}
    assert len(modes) > 20
    assert {path for path, mode in modes.items() if mode != ordinary} == set()


def test_a_disk_that_is_full_at_any_file_ends_in_a_sentence_and_the_run_goes_on(
    tmp_path, cache, straight
):
    """Every size of disk meets another file."""
    files = (".hydra/overrides.yaml", "completions.jsonl", "checkpoints/step-000002/*.safetensors")
    sizes = [path.stat().st_size for each in files for path in straight.glob(each)]
    refused = []
    for size in sizes:
        with full_disk(size - 1), pytest.raises((OSError, RuntimeError)) as error:
            run(tmp_path, f"cache={cache}", *RUN)
        assert raised_here(error.value), error.value
        said = str(error.value)
        assert "Make room" in said
        assert "same command again" in said
        refused += [name for name in said.split() if name.startswith(str(tmp_path))][:1]
        assert (tmp_path / "metrics.jsonl").exists() == (size > sizes[0])
    assert len(set(refused)) == len(files), refused
    run(tmp_path, f"cache={cache}", *RUN)
    assert metrics(tmp_path) == metrics(straight)
    assert contents(tmp_path).keys() == contents(straight).keys()


def test_a_run_that_ends_between_an_evaluation_and_its_rankings_writes_both_again(
    tmp_path, cache, straight, monkeypatch
):
    def stop(*args):
        raise RuntimeError("the machine stops here")

    with monkeypatch.context() as patched:
        patched.setattr("rlcredit.evaluation.graders.write_runs", stop)
        with pytest.raises(RuntimeError, match="the machine stops here"):
            run(tmp_path, f"cache={cache}", *RUN)
    run(tmp_path, f"cache={cache}", *RUN)
    touches = "test_touches.jsonl"
    mine, theirs = contents(tmp_path), contents(straight)
    assert mine.pop(touches) == theirs[touches].splitlines(keepends=True)[0] + theirs.pop(touches)
    assert mine == theirs


def test_an_export_that_is_not_the_policy_is_an_error_once_everything_is_written(
    tmp_path, cache, straight, monkeypatch
):
    export = CausalLM.export

    def wrong(policy, folder):
        export(policy, folder)
        weights = load_file(folder / "model.safetensors")
        weights["model.norm.weight"] *= 2
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    with monkeypatch.context() as patched:
        patched.setattr(CausalLM, "export", wrong)
        sentence = r"policy does not hold the policy that was evaluated.*exports them again"
        with pytest.raises(ExportError, match=sentence) as error:
            run(tmp_path, f"cache={cache}", *RUN)
    assert raised_here(error.value)
    assert contents(tmp_path) == contents(straight)
    summary = RunSummary.read(tmp_path)
    assert summary.status is Status.failed
    assert summary.fault in str(error.value)
    assert read_job(tmp_path).failure == summary.fault
    assert summary.measures == RunSummary.read(straight).measures
    printed = run(tmp_path, f"cache={cache}", *RUN)
    assert "going on after step 2" in printed
    assert RunSummary.read(tmp_path).status is Status.finished
    assert RunSummary.read(tmp_path).fault is None
    assert contents(tmp_path) == contents(straight)


def test_a_tokenizer_that_is_not_the_exported_one_cuts_no_response_in_a_report(
    tmp_path, cache, straight
):
    """Credit by token would be that of other tokens."""
    folder = shutil.copytree(straight, tmp_path / "run")
    sealed = RunSummary.read(folder).exported
    assert "policy/tokenizer.json" in sealed
    assert not [name for name in sealed if name.endswith(".safetensors")]
    path = folder / "policy" / "tokenizer.json"
    written = path.read_text()
    path.write_text(written.replace("0", "1", 1))
    words = (f"run={folder}", f"out={tmp_path / 'a.html'}", "prompts=1", f"cache={cache}")
    words += ("estimators=[grpo]",)
    changed = command(ROOT / "scripts" / "report.py", *words, folder=tmp_path)
    assert changed.status == 1
    assert "policy/tokenizer.json is not what was written" in changed.said
    path.unlink()
    lost = command(ROOT / "scripts" / "report.py", *words, folder=tmp_path)
    assert lost.status == 1
    assert "policy/tokenizer.json is missing" in lost.said
