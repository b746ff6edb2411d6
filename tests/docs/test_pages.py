"""The pages say what the code does, lead somewhere, and name only what exists."""

import re
from html import escape
from pathlib import Path

import pytest

from rlcredit.report.colours import colour_of
from rlcredit.scoring.named import CANDIDATES, ESTIMATORS
from rlcredit.trainer.settings import TrainerSettings
from scripts.docs.equations import block, drawn
from scripts.docs.front import METHODS
from scripts.docs.picture import credited
from scripts.docs.settings import sentences
from scripts.docs.stage import FILES, ROOT, filled, sources, stage
from tests.composing import built, names

PAGES = [path for path in sources() if path.suffix == ".md"]
OWN = [path for path in PAGES if path.parts[0] == "docs"]
METHOD_PAGES = {path: (ROOT / path).read_text() for path in OWN if path.parts[1] == "methods"}
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)[^)]*\)|(?:src|srcset)=\"([^\"]+)\"")


def page_of(name):
    """The page whose last section runs a method."""
    runs = {path: text.partition("## Run it")[2] for path, text in METHOD_PAGES.items()}
    (page,) = [path for path, text in runs.items() if re.search(rf"estimator={name}\b", text)]
    return page


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_every_link_leads_to_a_file_of_the_site(path):
    there = set(sources())
    text = re.sub(r"```.*?```", "", (ROOT / path).read_text(), flags=re.S)
    links = [(ROOT / path.parent / (a or b)).resolve() for a, b in LINK.findall(text)]
    assert [str(link) for link in links if link.relative_to(ROOT) not in there] == []


@pytest.mark.parametrize("name", names("estimator"))
def test_every_estimator_has_a_page_with_its_cost_doubts_and_guard(name):
    text = METHOD_PAGES[page_of(name)]
    assert [
        part for part in ("Idea", "Equation", "Cost", "Doubts") if f"\n## {part}\n" not in text
    ] == []
    estimator = built("estimator", name)
    finer = estimator.grain.value != "rollout"
    if estimator.centring.value == "none" or (finer and estimator.centring.value == "group"):
        assert "guard" in text.lower()
    if name in {**ESTIMATORS, **CANDIDATES}:
        assert re.search(rf"<!-- made: credit .*\b{name}\b.*-->", text)


def test_every_loss_is_named_on_its_page():
    text = METHOD_PAGES[Path("docs/methods/losses.md")] + METHOD_PAGES[Path("docs/methods/lpo.md")]
    assert [
        name for name in names("loss") if f"`{name}`" not in text and f"={name}" not in text
    ] == []


def test_every_page_is_in_the_navigation():
    config = (ROOT / "docs" / "zensical.toml").read_text()
    listed = {Path(name) for name in re.findall(r'= "([\w/.]+\.md)"', config)}
    examples = {path for path in listed if path.parts[0] == "examples"}
    top = {Path(name) for name in FILES if name.endswith(".md")}
    assert listed - examples == {*OWN, *top}
    assert examples < set(PAGES)


def test_tests_and_modules_that_pages_name_exist():
    path_like = re.compile(r"`((?:tests|scripts|rlcredit|conf)/[\w/]+\.\w+)`")
    pages = [path for path in OWN if path.name != "architecture.md"]  # which names files to add
    named = {
        (path, name) for path in pages for name in path_like.findall((ROOT / path).read_text())
    }
    assert [pair for pair in named if not (ROOT / pair[1]).exists()] == []
    assert len(named) > 10


def test_a_page_that_asks_for_something_unknown_is_refused():
    with pytest.raises(ValueError, match=r"'figure'; what can be made is .*credit"):
        filled("<!-- made: figure ospo -->\n<!-- end -->")


def test_the_site_is_staged_with_everything_made(tmp_path):
    pages = stage(tmp_path)
    text = {page.relative_to(tmp_path / "pages"): page.read_text() for page in pages}
    assert set(text) == set(PAGES)
    assert [
        path
        for path, page in text.items()
        if "<!-- made:" in page and path.parts[0] != "CONTRIBUTING.md"
    ] == []
    assert "| `ospo` | `OSPO(value=Myerson" in text[Path("docs/methods/README.md")]
    assert (
        "| `loss.clip_low` | float or `null` | `0.2` |" in text[Path("docs/reference/methods.md")]
    )
    assert "OSPO (Myerson, weighted)" in text[Path("docs/results/search.md")]
    assert text[Path("docs/methods/ospo.md")].count("student housing") > 4


def test_every_setting_of_a_trainer_is_in_the_reference_with_its_sentence():
    said = filled("<!-- made: settings trainer -->\n<!-- end -->")
    for name, sentence in sentences(TrainerSettings).items():
        assert f"`trainer.{name}`" in said
        assert " ".join(sentence.split())[:30].replace("``", "`") in said


def logged_names():
    """Names of metrics, as the package's code writes them."""
    stages = "reward|response|text|segments|coalitions|candidates|credit|advantage|train|loss|"
    stages += "mismatch|rollout|perf"
    for path in (ROOT / "rlcredit").rglob("*.py"):
        yield from re.findall(rf'"((?:{stages})/[a-z_]+)"', path.read_text())


def test_the_page_of_metrics_names_what_is_logged_and_nothing_else():
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    listed = set(re.findall(r"`((?!eval|time)[a-z]+/[a-z_]+)", page)) - {"stage/what_unit"}
    assert listed == set(logged_names())


def test_the_picture_of_readme_is_that_of_the_code():
    for theme in ("light", "dark"):
        drawn = (ROOT / "docs" / "pictures" / f"front_{theme}.svg").read_text()
        for name in METHODS:
            assert colour_of(name) in drawn
            for part in credited(name).parts:
                assert f">{part.text} {part.advantage:+.2f}<" in drawn


def test_the_picture_shows_which_phrases_are_true():
    loo = {part.text: part.advantage for part in credited("loo").parts}
    grpo = {part.text: round(part.advantage, 4) for part in credited("grpo").parts}
    true = {"speaker", "student housing"}
    assert min(loo[text] for text in true) > 1 + max(loo[text] for text in set(loo) - true)
    assert len(set(grpo.values())) == 1


def test_readme_is_two_screens():
    assert (ROOT / "README.md").read_text().count("\n") < 120


def equations():
    return [
        (path, latex)
        for path in OWN
        for latex in re.findall(r"```math\n(.*?)```", (ROOT / path).read_text(), re.S)
    ]


def test_every_equation_is_drawn_with_its_source_as_its_label():
    for _, latex in equations():
        image = block(latex, "math", "math", {}, None)
        assert escape(latex.strip()) in image
        assert image.count("<path") == 1
    assert len(equations()) > 15


def test_an_equation_is_outlines_whose_size_follows_the_text():
    one, two = drawn("x"), drawn("x + x + x")
    width = [float(re.search(r"width: ([\d.]+)em", image)[1]) for image in (one, two)]
    assert 0.4 < width[0] < 1.2
    assert width[1] > 2.5 * width[0]
    assert len(re.findall("M", two)) > 2 * len(re.findall("M", one))


def test_an_equation_that_cannot_be_read_is_refused():
    with pytest.raises(ValueError, match="frac"):
        drawn(r"\frac{a}")


def test_every_setting_of_the_reference_says_what_it_sets():
    pages = "".join(
        filled((ROOT / path).read_text()) for path in OWN if path.parts[1] == "reference"
    )
    rows = re.findall(r"^\| `([a-z_.0-9]+)` \| (.*?) \| (.*?) \| (.*?) \|$", pages, re.M)
    assert [key for key, _, _, sentence in rows if not sentence.strip()] == []
    assert len(rows) > 200
