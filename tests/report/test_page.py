"""The page says what the folders hold, shows the gaps, escapes the rest, and calls nobody."""

import json
import re

import pytest

from rlcredit.report.page import find_runs, methods_of, render, write_page
from rlcredit.run.folder import SUMMARY_FILE
from tests.report.pages import EVIL, TITLES, views, write_run
from tests.unsealed import unsealed


def page(folder, **explorer):
    runs, gaps = find_runs([folder])
    return render(runs, gaps, **explorer)


def test_runs_are_grouped_by_what_they_are_and_seeds_are_averaged(tmp_path):
    for seed, after in enumerate((0.3, 0.5)):
        write_run(tmp_path / f"a{seed}", seed=seed, after=after)
    write_run(tmp_path / "b", estimator="ospo", after=0.6)
    write_run(tmp_path / "c", overrides=["trainer.steps=9", "trainer.threads=1"])
    runs, gaps = find_runs([tmp_path])
    assert gaps == []
    methods = methods_of(runs)
    assert [(m.label, len(m.runs)) for m in methods] == [
        ("esci/grpo", 2),
        ("esci/ospo", 1),
        ("esci/grpo trainer.steps=9", 1),
    ]
    html = render(runs, gaps)
    assert "4 finished runs" in html
    assert re.search(r'esci/grpo</th>.*?<td class="n">2</td>.*?0\.200.*?0\.400', html)
    assert html.count("data: generated") == 1
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
    html = page(tmp_path, explored=views(), titles=TITLES, explored_run=tmp_path / "a")
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
    first, second = (page(tmp_path, explored=views(), titles=TITLES) for _ in range(2))
    assert first == second
    path = write_page(tmp_path / "out" / "report.html", first)
    assert path.read_text(encoding="utf-8") == first
