"""What the person sees: complete, lined up, and never steered by foreign text."""

import io
import re
from pathlib import Path

import pytest
import torch
from rich.console import Console

from rlcredit.credit import coalitions
from rlcredit.evaluation.lines import foreign, legend, seconds, step_line, with_interval
from rlcredit.evaluation.stats import Interval
from rlcredit.run.console import Header, RunConsole, evaluations_per_response, plain_console
from rlcredit.types import Needs


class Windows:
    """A plan of all windows."""

    def __call__(self, num_players: int, generator: torch.Generator) -> torch.Tensor:
        return coalitions.windows(num_players)

    def is_sampled(self, num_players: int) -> bool:
        return False


def plain(**settings) -> tuple[RunConsole, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, markup=False, emoji=False, highlight=False, **settings)
    return RunConsole(console), out


def header_of(task, **changes) -> Header:
    fields = {
        "task": task,
        "policy": "tiny Qwen3, 0.5 M parameters [from scratch]",
        "prompt": "<user>\na tent\x1b[2J</user>",
        "method": "ospo",
        "reward": [("retriever", "bm25; unseen in training: minilm")],
        "steps": 100,
        "prompts_per_step": 10,
        "group_size": 8,
        "max_new_tokens": 32,
        "needs": Needs(coalitions=Windows()),
        "folder": Path("outputs/esci/ospo/seed0-abc"),
    }
    return Header(**(fields | changes))


def test_the_header_says_the_data_the_sizes_and_what_follows_from_them(task):
    console, out = plain()
    console.header(header_of(task))
    text = re.sub(r"\s+", " ", out.getvalue())
    assert "data: generated" in text
    assert "1,920 products, 2 queries dropped [no Exact]" in text
    assert "3 train, 1 validation, 1 test" in text
    assert "tiny Qwen3, 0.5 M parameters [from scratch]" in text
    assert r"<user>\na tent" in text
    assert "\x1b" not in text
    assert "bm25; unseen in training: minilm" in text
    assert "10 prompts x 8 = 80 responses, at most 2,560 tokens" in text
    assert "up to 36 reward evaluations (for 8 segments)" in text
    assert "100, 8,000 responses in all" in text
    assert "outputs/esci/ospo/seed0-abc" in text


def test_evaluations_a_response_are_its_own_and_those_of_its_windows():
    assert evaluations_per_response(Needs(), 8) == 1
    assert evaluations_per_response(Needs(coalitions=Windows()), 8) == 8 * 9 // 2
    assert evaluations_per_response(Needs(coalitions=Windows()), 1) == 1
    assert evaluations_per_response(Needs(continuations=4), 8) == 1 + 4 * 7


METRICS = {
    "reward/mean": 0.25,
    "train/entropy_nats": 1.5,
    "segments/per_response": 7.25,
    "segments/valid_share": 0.985,
    "time/step_s": 0.5,
}


def test_a_step_is_one_line_of_those_metrics_that_there_are():
    whole = "step   7/100  reward 0.250  segments 7.2  valid 98%  entropy 1.50"
    assert step_line(7, 100, METRICS, width=len(whole)) == whole
    assert step_line(7, 100, METRICS, width=len(whole) - 1) == whole.removesuffix("  entropy 1.50")
    assert legend(METRICS).startswith("reward: mean of the batch; segments: per response; ")
    assert "cut" not in legend(METRICS)


def test_without_a_terminal_the_first_every_tenth_and_the_last_step_are_printed():
    console, out = plain()
    with console.progress(steps=25) as shown:
        for step in range(1, 26):
            shown(step, METRICS)
    words, *lines = out.getvalue().splitlines()
    assert words == legend(METRICS)
    assert [int(re.search(r"step +(\d+)/25", line).group(1)) for line in lines] == [1, 10, 20, 25]
    assert all(re.search(r"s per step, \d+ s left$", line) for line in lines)
    assert "\x1b" not in out.getvalue()


def test_a_resumed_run_goes_on_counting():
    console, out = plain()
    with console.progress(steps=25, done=17) as shown:
        for step in range(18, 26):
            shown(step, METRICS)
    assert re.findall(r"step +(\d+)/", out.getvalue()) == ["18", "20", "25"]


def test_on_a_terminal_every_step_has_its_line_and_a_bar_shows_what_is_left():
    console, out = plain(force_terminal=True, width=100)
    with console.progress(steps=5) as shown:
        for step in range(1, 6):
            shown(step, METRICS)
    assert [f"step {step}/5" in out.getvalue() for step in range(1, 6)] == [True] * 5
    assert "5/5" in out.getvalue()
    assert "left" in out.getvalue()


@pytest.mark.parametrize("width", [None, 80])
def test_the_table_has_every_row_before_after_and_the_paired_difference(
    make_evaluation, task, width
):
    console, out = plain() if width is None else plain(force_terminal=True, width=width)
    before, after = make_evaluation("before"), make_evaluation("after")
    console.results(before, after, task=task, trained_on="bm25", temperature=0.5)
    text = re.sub(r"\x1b\[[\d;]*m", "", out.getvalue())
    zero = "0" if width is None else ""
    table = text[: text.index("credit and truth")]
    assert "…" not in table
    assert max(map(len, table.splitlines())) <= (width or 118)
    assert "ESCI (data: generated), test: 40 prompts" in text
    assert "BM25* trained on, sampled at T = 0.5" in " ".join(text.split())
    comma = "," if width is None else ""
    constant = f"+{zero}.125 [+{zero}.125{comma} +{zero}.125]"
    assert table.count(constant) == 2 * 3 * 2
    assert [table.count(name) for name in ("nDCG@10", "MRR", "recall@10")] == [1, 1, 1]
    assert len(re.findall(r"^ +BM25\*", table, re.MULTILINE)) == 3
    assert re.search(r"\n +BM25\*", table).start() < table.index("TF-IDF")
    assert table.count("TF-IDF") == 3
    names = ("sampled  ", "greedy", "raw query", "RM3", "oracle")
    assert [table.count(name) for name in names] == [6, 6, 6, 6, 6]
    assert re.search(r"before training: rank correlation \+0\.195 \[", text)
    assert "70 responses, 10 without contrast" in text
    raw = next(line for line in table.splitlines() if "raw query" in line)
    figure = rf"{zero}\.\d{{3}} \[{zero}\.\d{{3}}{comma} {zero}\.\d{{3}}\]"
    assert len(re.findall(figure, raw)) == 1


def test_examples_show_credit_and_foreign_text_is_neither_markup_nor_terminal_codes(
    make_evaluation,
):
    console, out = plain(force_terminal=True, width=100)
    console.examples(make_evaluation("before"), make_evaluation("after"))
    text = out.getvalue()
    assert "\x1b[31mx" not in text
    assert "[red]x[/red]" in text
    assert "find: [bold]boots [31m" in text
    assert re.search(r"tent.*\+0\.250", text)
    assert re.search(r"-0\.125", text)
    assert text.count("before") == text.count("after") == 1


def test_paths_are_whole_even_when_they_are_long(tmp_path):
    console, out = plain(width=40)
    long = tmp_path / ("x" * 150)
    console.paths({"summary": long}, then=f"rlcredit report run={long}")
    assert out.getvalue().count(str(long)) == 2
    assert re.search(r"took +\d+ s", out.getvalue())


def test_figures_and_times_are_written_in_one_way():
    assert with_interval(Interval(mean=0.41249, low=0.3, high=0.5)) == "0.412 [0.300, 0.500]"
    assert with_interval(Interval(mean=-0.1, low=-0.2, high=0.0), sign=True) == (
        "-0.100 [-0.200, +0.000]"
    )
    assert with_interval(Interval(mean=0.5, low=None, high=None)) == "0.500"
    short = with_interval(Interval(mean=-0.1, low=-0.2, high=1.0), sign=True, short=True)
    assert short == "-.100 [-.200 +1.000]"
    assert [seconds(s) for s in (0.4, 59.4, 59.6, 185.0, 7620.0)] == [
        "0 s",
        "59 s",
        "1 min 00 s",
        "3 min 05 s",
        "2 h 07 min",
    ]
    assert foreign("a\nb\x1b[0m\x07é") == "a b [0m é"


def test_a_job_of_a_sweep_prints_announcements_and_warnings_and_keeps_everything(tmp_path):
    file = io.StringIO()
    console = RunConsole(plain_console(file=file), brief=True)
    console.keep(tmp_path / "train.log")
    console.say("a table")
    console.announce("OSPO on ESCI, seed 0")
    console.warn("low")
    with console.progress(steps=1) as shown:
        shown(1, METRICS)
    assert file.getvalue().splitlines() == ["OSPO on ESCI, seed 0", "warning: low"]
    kept = (tmp_path / "train.log").read_text()
    assert [word in kept for word in ("a table", "OSPO on ESCI", "low", "step 1/1")] == [True] * 4
