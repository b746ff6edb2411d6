"""What each reader shows of a run, beside what it shows of a run that nothing happened to."""

import json
import re
import shutil
import sys
import traceback
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

from rlcredit.commands import evaluate, report, transfer
from rlcredit.commands.errors import explain
from rlcredit.commands.table_choice import finished_runs
from rlcredit.commands.tables import fill
from rlcredit.run.load import load_run
from rlcredit.tables.declare import Data, Logged, Reduce, Row, Score, Size, Table
from rlcredit.tables.jobs import PlannedJob
from rlcredit.tables.render import markdown
from tests.e2e.running import SMALL, composed

RUN = (
    *("estimator=ospo", "trainer.steps=3", "trainer.prompts_per_step=2"),
    *("trainer.checkpoint_every=1", "evaluation.max_prompts=3", "rollout.max_new_tokens=12"),
)
TABLE = Table(
    question="Which?", primary="ndcg", steps="3", decoding="sampled", tuning="none",
    control="ospo", curve="reward/mean",
    data={"esci": Data(label="ESCI", overrides=["dataset=esci"])},
    rows={"ospo": Row(label="OSPO", overrides=["estimator=ospo"])},
    scores={"ndcg": Score(label="nDCG@10", measure="ndcg@10")},
    logged={"sum": Logged(label="sum", metric="reward/mean", reduce=Reduce.total, digits=6)},
    sizes={"smoke": Size(label="soak", overrides=[], seeds=[0])},
)  # fmt: skip
NUMBER = re.compile(r"-?\.?\d[\d.]*(?:e-?\d+)?")
ASIDE = re.compile(
    r"""<g\ id="[^"]*against-seconds.*?</svg> | "(time|perf)/[^,]*, | [\d.]+\ (s|min)\b
    | \d+\ times?\b | \b(?=\d*[a-f])[0-9a-f]{8,}\b""",
    re.DOTALL | re.VERBOSE,
)
"""Time, counts of looks at a run, and the names of runs and revisions."""
PROBLEM = re.compile(r".*(damaged|cannot be read|missing|unfinished|failed|interrupted).*")
"""A line of a page that says what is not shown, and why."""


def in_words(function, *args):
    """What a function says, behind how it ended: ``said``, ``refused`` or ``crashed``."""
    printed = StringIO()
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            shown = function(*args)
    except SystemExit as ended:
        return f"refused {ended.code}"
    except Exception as error:
        sentence = explain(error)
        return f"refused {sentence}" if sentence else f"crashed {traceback.format_exc()}"
    return f"said {printed.getvalue()}\n{shown}"


def tabled(folder):
    """The page of a declared table."""
    job = composed(*SMALL, *RUN)
    planned = PlannedJob(
        row="ospo", data="esci", seed=0, settings=("estimator=ospo",), overrides=("seed=0",),
        digest=job.digest, folder=folder, evaluation=job.evaluation, reads_validation=True,
    )  # fmt: skip
    return markdown(fill("table_soak", TABLE, "smoke", [planned], finished_runs(folder.parent)))


def loaded(folder):
    """What a notebook reads."""
    known = load_run(folder)
    shown = {key: known.summary[key] for key in ("measures", "credit", "figures", "steps")}
    return json.dumps([shown, *known.metrics], indent=1)


def reading(out, folder, beside, cache):
    """What every reader says of a run, from a process of its own."""
    found = {each.__name__: in_words(each, folder) for each in (tabled, loaded)}
    for main, *words in (
        (evaluate.main, f"run={folder}", "retriever=tfidf"),
        (report.main, f"run={folder}", f"out={beside}/a.html", "prompts=1"),
        (transfer.main, f"runs={folder}", f"out={beside}", "retrievers=[lsa]"),
    ):
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        sys.argv = [main.__module__, *words, f"cache={cache}"]
        said, pages = in_words(main), sorted(beside.glob("*.[hmcj]*"))  # html, md, csv, json
        found[main.__module__] = "\n".join([said, *(page.read_text() for page in pages)])
    out.write_text(json.dumps(found))


def numbers(said):
    """Every number that is shown, but those of time and names."""
    return NUMBER.findall(ASIDE.sub("", said))


def outcome(said, clean):
    """What a reader's words are, beside those about a run that nothing happened to."""
    if not said.startswith("said"):
        return said.split(" ", 1)[0]
    shown, problems = PROBLEM.subn("", said)
    if clean is None or numbers(said) == numbers(clean):
        return "identical"
    left = Counter(numbers(shown)) - Counter(numbers(clean))
    return "refused" if problems and not left else "silent"
