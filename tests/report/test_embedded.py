"""What the page's script reads: small, whole, and opened at an example that shows something."""

import json
from dataclasses import replace

import pytest

from rlcredit.report.embedded import ShownRun, alike, striking
from rlcredit.report.steps import prompt_steps
from tests.report.pages import long_views, shown, views


def test_documents_are_numbered_and_numbers_are_rounded():
    data = shown().data()
    assert data["documents"][1] == "</script><b>boat</b>"
    (first, *_) = data["runs"][0]["prompts"]
    assert first["responses"][0]["found"] == [[0, 3], [1, 0]]
    assert first["responses"][0]["segments"][0]["found_without"] == [[1, 0], [0, 0]]
    assert data["methods"] == [
        {"name": "ospo", "label": "OSPO"},
        {"name": "grpo", "label": "GRPO"},
    ]
    third = replace(views()[0].responses[0], reward=1 / 3)
    prompts = [replace(views()[0], responses=(third, third))]
    (only,) = replace(shown(), runs=[ShownRun(label="a", prompts=prompts)]).data()["runs"]
    assert only["prompts"][0]["responses"][0]["reward"] == 0.333333


def test_the_example_is_the_response_whose_parts_differ_most():
    assert striking(views()) == (0, 0, 0)  # +.4 and 0; the other's are +.1 and -.3
    prompt = views()[0]
    better = replace(prompt.responses[1], reward=0.9, segments=prompt.responses[1].segments)
    spoilt = replace(better.segments[1], without=1.5)
    changed = replace(better, segments=(better.segments[0], spoilt))
    equal = replace(prompt, responses=(prompt.responses[0],) * 2)
    assert striking([equal, replace(prompt, responses=(prompt.responses[0], changed))]) == (1, 1, 0)
    assert striking([equal]) == (0, 0, 0)
    assert striking([*long_views(), *views()])[0] == 1


def test_runs_are_cut_to_the_prompts_that_all_answered():
    runs = [ShownRun(label="a", prompts=views()), ShownRun(label="b", prompts=views()[:1])]
    assert [len(run.prompts) for run in alike(runs)] == [1, 1]


def line(step, prompt, reward, text="a, b"):
    segments = [{"text": "a", "credit": reward, "counts": True}]
    return {
        "step": step,
        "prompt": f"find {prompt}",
        "prompt_id": prompt,
        "response": text,
        "reward": reward,
        "segments": segments,
    }


def write(folder, lines):
    text = "".join(json.dumps(each) + "\n" for each in lines)
    (folder / "completions.jsonl").write_text(text)


def test_a_prompt_is_followed_over_the_steps_that_met_it(tmp_path):
    often = [line(s, "p", r, f"{s} {r}") for s in (1, 5, 9) for r in (0.0, 0.1 * s, 0.12 * s)]
    write(tmp_path, [*often, line(1, "q", 0.5), line(2, "q", 0.5), line(3, "once", 0.5)])
    first, second = prompt_steps(tmp_path, num_prompts=3)
    assert (first.text, second.text) == ("find p", "find q")
    assert [view.step for view in first.steps] == [1, 5, 9]
    assert first.steps[1].mean == pytest.approx(1.1 / 3)
    assert first.steps[1].response == "5 0.5"  # the nearest to the mean, not the best
    assert first.steps[1].segments[0].credit == 0.5
    assert [each.text for each in prompt_steps(tmp_path, num_prompts=1)] == ["find p"]


def test_of_many_steps_some_are_shown_the_first_and_last_among_them(tmp_path):
    write(tmp_path, [line(step, "p", 0.5) for step in range(1, 101)])
    (only,) = prompt_steps(tmp_path, num_prompts=1)
    steps = [view.step for view in only.steps]
    assert len(steps) == 12
    assert (steps[0], steps[-1]) == (1, 100)


def test_no_file_and_no_prompt_show_nothing(tmp_path):
    assert prompt_steps(tmp_path, num_prompts=3) == []
    write(tmp_path, [line(1, "p", 0.5), line(2, "p", 0.5)])
    assert prompt_steps(tmp_path, num_prompts=0) == []
