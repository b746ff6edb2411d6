"""A function of one's own as a reward: what it gets, what is checked, what is remembered."""

import logging
import sys
import threading

import pytest
import torch

from rlcredit.code import Code
from rlcredit.estimators import Max
from rlcredit.identity import digest, identify
from rlcredit.rewards import Function
from rlcredit.rewards.base import scores_parts
from rlcredit.rewards.caches import Cache
from rlcredit.rewards.function import row_of
from rlcredit.types import Counts, Prompt


def prompt(number):
    return Prompt(
        prompt_id=f"q{number}", text=f"find {number}", query=f"item {number}", relevance={"d": 3}
    )


PROMPTS = [prompt(0), prompt(1), prompt(1)]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes the module ``own_rewards.scores`` and forgets it afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two versions in one second
    (tmp_path / "own_rewards").mkdir()

    def write(source):
        for name in ("own_rewards", "own_rewards.scores"):
            sys.modules.pop(name, None)
        (tmp_path / "own_rewards" / "scores.py").write_text(source)

    yield write
    for name in ("own_rewards", "own_rewards.scores"):
        sys.modules.pop(name, None)


def function(name="score", **settings):
    return Function(path=f"own_rewards.scores:{name}", utility=Max(), **settings)


def module():
    return sys.modules["own_rewards.scores"]


CALLS = """
calls = []
def score(texts, rows):
    calls.append((texts, rows))
    return [len(text) + len(row["query"]) for text, row in zip(texts, rows)]
"""


def test_it_gets_each_text_once_with_what_its_prompt_holds(package):
    package(CALLS)
    reward = function().bind()
    values = reward([*PROMPTS, PROMPTS[0]], ["a b", "a\nb c", "x", "a b"])
    assert values.dtype == torch.float32
    assert values.tolist() == [9, 11, 7, 9]
    texts, rows = module().calls[0]
    assert texts == ["a b", "a\nb c", "x"]  # white space as it stands
    assert rows[1] == {
        "prompt_id": "q1",
        "prompt": "find 1",
        "query": "item 1",
        "relevance": {"d": 3},
    }
    assert reward.counts == Counts(asked=4, distinct=3)


def test_what_was_scored_is_remembered_and_counted(package):
    package(CALLS)
    reward = function().bind()
    first = reward(PROMPTS, ["a", "b", "c"])
    seen = len(module().calls)
    assert torch.equal(reward(PROMPTS, ["a", "b", "c"]), first)
    assert len(module().calls) == seen
    assert reward.counts == Counts(asked=6, distinct=6, remembered=3)
    reward([PROMPTS[1]], ["a"])  # the same text for another prompt
    assert module().calls[-1][1][0]["prompt_id"] == "q1"


def test_batches_hold_so_many_texts_and_no_more(package):
    package(CALLS)
    values = function(batch_size=2).bind()([PROMPTS[0]] * 5, list("abcde"))
    assert values.tolist() == [7] * 5
    assert max(len(texts) for texts, _ in module().calls) == 2
    assert [text for texts, _ in module().calls[:3] for text in texts] == list("abcde")


@pytest.mark.parametrize(
    "source",
    [
        "async def score(texts, rows):\n    return [2] * len(texts)",
        "import numpy\ndef score(texts, rows):\n    return numpy.full(len(texts), 2)",
        "def score(texts, rows):\n    yield from (2 for _ in texts)",
        "from fractions import Fraction as F\n"
        "def score(texts, rows):\n    return (F(2),) * len(texts)",
        "class Score:\n    async def __call__(self, texts, rows):\n"
        "        return [2.0] * len(texts)\n"
        "score = Score()",
    ],
)
def test_coroutines_arrays_generators_and_objects_give_numbers(package, source):
    package(source)
    assert function().bind()(PROMPTS, ["a", "b", "c"]).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return [1.0] * 2", r"gave 2 values, on 3 texts, of which the first is 'a'"),
        ("return None", r"gave a value of type NoneType, on 3 texts"),
        ("return 'abc'", r"gave a value of type str"),
        ("return {text: 1.0 for text in texts}", r"gave a value of type dict"),
        ("return [1.0, '2', 3]", r"gave '2' \(of type str\) for 'b', on 3 texts"),
        ("return [1.0, 2, None]", r"gave None \(of type NoneType\) for 'c'"),
        ("return [True, 2, 3]", r"gave True \(of type bool\) for 'a'"),
        ("return [0.0, float('nan'), 1]", r"gave nan for 'b'"),
        ("return [0.0, 1, -float('inf')]", r"gave -inf for 'c'"),
        ("import torch; return torch.ones(3)", r"gave tensor\(1.\) \(of type Tensor\) for 'a'"),
    ],
)
def test_what_is_not_a_number_for_each_text_is_refused(package, body, said):
    package(f"def score(texts, rows):\n    {body}\n")
    with pytest.raises(RuntimeError, match=rf"own_rewards.scores:score {said}.*finite number"):
        function().bind()(PROMPTS, ["a", "b", "c"])


@pytest.mark.parametrize(
    ("head", "body", "said"),
    [
        ("", "return [1 / 0]", r"raised ZeroDivisionError: division by zero on 3 texts"),
        ("import json\n", "return json.loads('x')", r"raised JSONDecodeError"),
        ("", "raise SystemExit(3)", r"raised SystemExit: 3"),
        ("", "raise TimeoutError('slow')", r"raised TimeoutError: slow"),
    ],
)
def test_an_exception_is_told_with_the_line_of_the_function_s_file(package, head, body, said):
    package(f"{head}def score(texts, rows):\n    {body}\n")
    with pytest.raises(RuntimeError, match=said) as caught:
        function().bind()(PROMPTS, ["a", "b", "c"])
    line = head.count("\n") + 2
    assert f"scores.py:{line}: {body}" in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_generator_s_exception_is_told_too(package):
    package("def score(texts, rows):\n    yield 1.0\n    yield [][0]\n")
    with pytest.raises(RuntimeError, match=r"raised IndexError.*scores\.py:3: yield \[\]\[0\]"):
        function().bind()(PROMPTS, ["a", "b", "c"])


def test_a_call_that_hangs_is_waited_for_so_long(package):
    package("import threading\nend = threading.Event()\ndef score(texts, rows):\n    end.wait()\n")
    reward = function(timeout_s=0.2).bind()
    with pytest.raises(RuntimeError, match=r"within reward\.timeout_s=0\.2 seconds, on 3 texts"):
        reward(PROMPTS, ["a", "b", "c"])
    assert all(t.daemon for t in threading.enumerate() if t is not threading.main_thread())
    module().end.set()


NOISY = """
import itertools
numbers = itertools.count()
def score(texts, rows):
    return [float(next(numbers)) for _ in texts]
"""


def test_a_text_with_two_rewards_is_named_with_both(package):
    package(NOISY)
    with pytest.raises(RuntimeError, match=r"gave 'a' the reward 0\.0 and, asked again, 3\.0"):
        function().bind()(PROMPTS, ["a", "b", "c"])


def test_a_reward_that_changes_later_is_found_within_fifty_calls(package):
    package("late = 0.0\ndef score(texts, rows):\n    return [late + len(rows)] * len(texts)\n")
    with pytest.raises(RuntimeError, match="asked again"):  # it depends on the other texts
        function().bind()([PROMPTS[0]] * 9, list("abcdefghi"))
    package(
        "turn = 0\ndef score(texts, rows):\n    global turn\n    turn += 1\n"
        "    return [turn * (turn > 3)] * len(texts)\n"
    )
    reward = function().bind()
    for number in range(50):
        reward([PROMPTS[0]], [f"t{number}"])
    with pytest.raises(RuntimeError, match="asked again"):
        reward([PROMPTS[0]], ["t50"])


def test_last_bits_may_differ(package):
    package(
        "turn = 0\ndef score(texts, rows):\n    global turn\n    turn += 1\n"
        "    return [1 + 1e-8 * turn] * len(texts)\n"
    )
    assert function().bind()(PROMPTS, ["a", "b", "c"]).tolist() == [1, 1, 1]


def test_noise_that_is_asked_for_is_neither_checked_nor_remembered(package, tmp_path, caplog):
    package(NOISY)
    folder = tmp_path / "cache"
    reward = function(noisy=True, cache=Cache(folder=str(folder))).bind()
    assert reward([PROMPTS[0]] * 3, ["a", "b", "a"]).tolist() == [0, 1, 0]
    assert reward([PROMPTS[0]], ["a"]).tolist() == [2]
    assert not folder.exists()
    assert "is noisy, so its rewards are not kept on disk" in caplog.text


def test_rewards_on_disk_are_of_one_version(package, tmp_path):
    settings = {"cache": Cache(folder=str(tmp_path / "cache"))}
    package("def score(texts, rows):\n    return [1.0] * len(texts)\n")
    assert function(**settings).bind()(PROMPTS, ["a", "b", "c"]).tolist() == [1, 1, 1]
    again = function(**settings).bind()
    again(PROMPTS, ["a", "b", "c"])
    assert again.counts.remembered == 3
    package("def score(texts, rows):\n    return [5.0] * len(texts)\n")
    assert function(**settings).bind()(PROMPTS, ["a", "b", "c"]).tolist() == [5, 5, 5]


def test_a_version_is_the_function_s_word_or_the_hash_of_its_source(package):
    package("def score(texts, rows):\n    return texts\n")
    one = function().content()
    package("def score(texts, rows):\n    return  texts\n")
    assert len(one[0]) == 64
    assert function().content() != one
    package("def score(texts, rows):\n    return texts\nscore.version = 7\n")
    assert function().content() == ("7",)
    package("def score(texts, rows):\n    return texts\nscore.version = [7]\n")
    with pytest.raises(ValueError, match=r"version=\[7\]; a version is a text or a whole number"):
        function().content()


def test_a_partial_has_the_version_of_its_own_module(package):
    package("from functools import partial\nscore = partial(print, 1)\n")
    one = function().content()
    package("from functools import partial\nscore = partial(print, 2)\n")
    assert function().content() != one


def test_without_version_and_source_nothing_is_kept_on_disk(tmp_path, monkeypatch, caplog):
    sourceless = type(sys)("sourceless")
    sourceless.score = len
    monkeypatch.setitem(sys.modules, "sourceless", sourceless)
    folder = tmp_path / "cache"
    settings = Function(
        path="sourceless:score", utility=Max(), cache=Cache(folder=str(folder)), parts=False
    )
    assert settings.content() == ()
    with caplog.at_level(logging.WARNING):
        assert settings.bind().said == "sourceless:score, no version"
    assert "neither a version nor a source" in caplog.text
    assert not folder.exists()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("own_rewards.scores", "names no function"),
        ("own_rewards.scores:", "names no function"),
        ("own rewards:score", "names no function"),
        ("own_rewards.scores:a.b", "names no function"),
        ("own_rewards.nowhere:score", "cannot be imported.*PYTHONPATH"),
        ("own_rewards.scores:other", "cannot be imported.*other"),
        ("own_rewards.scores:number", "is a int, which is no function"),
        ("own_rewards.scores:Kind", "is a type, which is no function"),
    ],
)
def test_a_path_that_names_no_function_is_refused(package, path, said):
    package("number = 3\nclass Kind: pass\n")
    with pytest.raises(ValueError, match=said):
        Code.of(path)


def test_a_module_that_fails_is_a_sentence(package):
    package("1 / 0\n")
    with pytest.raises(ValueError, match="ZeroDivisionError: division by zero"):
        function().bind()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 0}, "a call has 1 text or more"),
        ({"timeout_s": 0.0}, "above 0 and finite"),
        ({"timeout_s": float("inf")}, "above 0 and finite"),
        ({"timeout_s": float("nan")}, "above 0 and finite"),
    ],
)
def test_settings_out_of_range(settings, said):
    with pytest.raises(ValueError, match=said):
        function(**settings)


def test_parts_are_what_the_settings_say(package):
    package(CALLS)
    assert scores_parts(function())
    assert scores_parts(function().bind())
    assert not scores_parts(function(parts=False))
    assert not scores_parts(function(parts=False).bind())


def test_limits_batches_and_caches_are_no_part_of_a_run():
    plain = digest(identify(function()))
    aside = function(batch_size=3, timeout_s=5.0, cache=Cache(memory_mb=1))
    assert digest(identify(aside)) == plain
    assert digest(identify(function(noisy=True))) != plain
    assert digest(identify(function(parts=False))) != plain


def test_further_columns_reach_the_function_and_hide_nothing():
    prompt = Prompt(
        prompt_id="q", text="tent", query="tent", relevance={}, row={"level": 3, "query": "other"}
    )
    row = row_of(prompt)
    assert (row["level"], row["query"]) == (3, "tent")
