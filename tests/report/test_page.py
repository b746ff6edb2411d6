"""The page says what the folders hold, shows the gaps, escapes the rest, and calls nobody."""

import json
import re

import pytest

from rlcredit.report.page import render, write_page
from rlcredit.report.runs import best_run, find_runs, methods_of, other_method
from rlcredit.run.folder import SUMMARY_FILE
from tests.report.pages import EVIL, shown, write_run
from tests.unsealed import unsealed


def page(folder, explored=None):
    runs, gaps = find_runs([folder])
    return render(runs, gaps, shown=explored)


def words(html):
    """What a reader of the page reads."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", html))


def test_runs_are_grouped_by_what_they_are_and_seeds_are_averaged(tmp_path):
    for seed, after in enumerate((0.3, 0.5)):
        write_run(tmp_path / f"a{seed}", seed=seed, after=after)
    write_run(tmp_path / "b", estimator="ospo", after=0.6)
    write_run(tmp_path / "c", overrides=["trainer.steps=9", "trainer.threads=1"])
    runs, gaps = find_runs([tmp_path])
    assert gaps == []
    methods = methods_of(runs)
    assert [(m.label, len(m.runs)) for m in methods] == [
        ("GRPO", 2),
        ("OSPO", 1),
        ("GRPO trainer.steps=9", 1),
    ]
    html = render(runs, gaps)
    assert "4 finished runs" in html
    assert re.search(r'GRPO</th>.*?0\.200.*?0\.400.*?<td class="n">2</td>', html)
    assert html.count('<span class="badge">ESCI, generated data</span>') == 1
    assert '<td class="n">240</td>' in html  # 3 steps of 80 evaluations


def test_a_folder_without_an_end_is_shown_as_a_gap(tmp_path):
    write_run(tmp_path / "whole")
    half = tmp_path / "half"
    half.mkdir()
    (half / "metrics.jsonl").write_text('{"step": 1}\n')
    failed = write_run(tmp_path / "failed", seed=1)
    (failed / "failure.txt").write_text("it broke <b>here</b>")
    damaged = write_run(tmp_path / "damaged", seed=2)
    (damaged / "summary.json").write_text("{")
    runs, gaps = find_runs([tmp_path])
    assert [run.folder.name for run in runs] == ["whole"]
    assert [gap.folder.name for gap in gaps] == ["damaged", "failed", "half"]
    html = render(runs, gaps)
    assert "3 not finished" in html
    assert "it broke &lt;b&gt;here&lt;/b&gt;" in html


def test_records_that_tables_keep_are_not_counted_among_the_runs(tmp_path):
    kept = tmp_path / "reference" / "jobs"
    kept.mkdir(parents=True)
    (kept / "index-0000.parquet").write_bytes(b"")
    for folder in (tmp_path, kept):
        with pytest.raises(ValueError, match=r"\(0 that cannot be shown; the records of tables"):
            find_runs([folder])
    write_run(tmp_path / "esci" / "mine")
    runs, gaps = find_runs([tmp_path])
    assert [run.folder.name for run in runs] == ["mine"]
    assert gaps == []


def test_a_summary_of_other_types_is_a_gap(tmp_path):
    write_run(tmp_path / "whole")
    for name, value in (("measures", []), ("credit", []), ("versions", []), ("digest", [1])):
        path = write_run(tmp_path / name) / SUMMARY_FILE
        path.write_text(json.dumps(unsealed(path) | {name: value}))
    _, gaps = find_runs([tmp_path])
    assert [gap.folder.name for gap in gaps] == ["credit", "digest", "measures", "versions"]
    assert all("is no summary of this version" in gap.why for gap in gaps)


def test_a_broken_last_line_of_the_metrics_is_left_out(tmp_path):
    run = write_run(tmp_path / "a")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')
    runs, _ = find_runs([tmp_path])
    assert max(runs[0].column("reward/mean")) == 3


def test_no_folder_and_no_run_are_errors(tmp_path):
    with pytest.raises(ValueError, match="not a folder"):
        find_runs([tmp_path / "none"])
    with pytest.raises(ValueError, match="no finished run"):
        find_runs([tmp_path])


def test_foreign_text_is_escaped_and_nothing_is_fetched(tmp_path):
    write_run(tmp_path / "a", overrides=[f"'policy.name={EVIL.replace(chr(39), chr(96))}'"])
    html = page(tmp_path, shown())
    assert "<script>document" not in html
    assert "<img" not in html
    assert "<b>boat" not in html
    outside = re.findall(r'(?:src|href)="(?!#)([^"]*)"', html)
    assert outside == []
    assert "default-src 'none'" in html
    assert html.count("</script>") == 2  # the data's and the code's


def test_figures_of_a_whole_evaluation_stand_below_the_measures(tmp_path):
    folder = write_run(tmp_path / "a")
    record = unsealed(folder / SUMMARY_FILE)
    record["figures"] = {"before": {"width": 3.0, "mode": 2.25}, "after": {"width": 5.0, "mode": 2}}
    (folder / SUMMARY_FILE).write_text(json.dumps(record))
    rows = page(tmp_path)
    assert '<th scope="row">width</th><td>3</td><td>5</td>' in rows
    assert '<th scope="row">mode</th><td>2.25</td><td>2</td>' in rows


def test_the_same_runs_give_the_same_bytes(tmp_path):
    write_run(tmp_path / "a")
    first, second = (page(tmp_path, shown()) for _ in range(2))
    assert first == second
    path = write_page(tmp_path / "out" / "report.html", first)
    assert path.read_text(encoding="utf-8") == first


def test_the_verdict_names_model_data_steps_and_the_change_with_its_interval(tmp_path):
    write_run(tmp_path / "a", after=0.4)
    write_run(tmp_path / "b", estimator="ospo", after=0.2)
    said = words(page(tmp_path))
    assert (
        "GRPO trained a policy made from scratch (3 layers of width 96) on ESCI (generated data) "
        "for 3 steps. nDCG@10, sampled, BM25 rose: before 0.200, after 0.400, difference +0.200 "
        "[+0.190, +0.210]." in said
    )
    assert "BM25 did not change beyond chance: before 0.200, after 0.200" in said


def test_of_several_seeds_the_verdict_counts_those_that_rose(tmp_path):
    for seed, after in enumerate((0.3, 0.1, 0.2)):
        write_run(tmp_path / f"{seed}", seed=seed, after=after)
    assert "rose with 1 of 3 seeds and fell with 1" in words(page(tmp_path))


def test_what_the_policy_did_not_write_has_one_value_and_no_difference(tmp_path):
    write_run(tmp_path / "a")
    html = page(tmp_path)
    row = re.search(r"<tr><th scope=\"row\">nDCG@10, raw query, BM25</th>.*?</tr>", html).group()
    assert words(row).strip() == "nDCG@10, raw query, BM250.300 [0.290, 0.310]"
    assert "+0.000" not in words(html)


def test_the_highest_score_is_marked_where_methods_can_be_compared(tmp_path):
    write_run(tmp_path / "a", after=0.4)
    assert 'class="n best"' not in page(tmp_path)
    write_run(tmp_path / "b", estimator="ospo", after=0.5)
    html = page(tmp_path)
    assert re.findall(r'class="n best">([^<]*)', html) == ["0.500"]


def test_a_smoke_run_is_called_no_evidence(tmp_path):
    write_run(tmp_path / "a")
    assert "not evidence" not in page(tmp_path)
    write_run(tmp_path / "b", overrides=["size=smoke"])
    assert '<span class="badge warn">smoke: not evidence</span>' in page(tmp_path)


def test_costs_are_drawn_for_two_runs_and_not_for_one(tmp_path):
    write_run(tmp_path / "a")
    assert page(tmp_path).count("<svg") == 2  # validation, reward
    write_run(tmp_path / "b", estimator="ospo")
    assert page(tmp_path).count("<svg") == 4


def test_runs_of_unequal_length_are_said_to_be(tmp_path):
    write_run(tmp_path / "a", steps=3)
    write_run(tmp_path / "b", seed=1, steps=5)
    assert "GRPO: its runs have 3, 5 steps; its lines end at step 3" in words(page(tmp_path))


def test_the_explorer_opens_with_the_best_run_and_the_best_of_another_method(tmp_path):
    for seed, after in enumerate((0.4, 0.6)):
        write_run(tmp_path / f"a{seed}", seed=seed, after=after)
        write_run(tmp_path / f"b{seed}", estimator="ospo", seed=seed, after=after - 0.1)
    runs, _ = find_runs([tmp_path])
    assert best_run(runs).folder.name == "a1"
    assert other_method(runs, best_run(runs)).name == "b1"
    assert other_method(runs[:2], runs[0]) is None
