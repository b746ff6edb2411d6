"""A seeded soak: runs are disturbed and damaged at random, and what every reader shows is compared.

In a case a run is started twice, killed, refused, moved or gone on with by two processes, and a
file of it may be damaged. Each reader must then show the numbers of a run that nothing happened to,
or refuse in a sentence; one that shows other numbers is silently wrong.
"""

import json
import random
import re
import shutil
import time
import traceback
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from rlcredit.commands.errors import explain
from rlcredit.commands.table_choice import finished_runs
from rlcredit.commands.tables import fill
from rlcredit.run.load import load_run
from rlcredit.tables.declare import Data, Logged, Reduce, Row, Score, Size, Table
from rlcredit.tables.jobs import PlannedJob
from rlcredit.tables.render import markdown
from tests.e2e.running import ROOT, SMALL, composed, run
from tests.forked import FORKED, command

RUN = (
    "estimator=ospo",
    "trainer.steps=3",
    "trainer.prompts_per_step=2",
    "trainer.checkpoint_every=1",
    "evaluation.max_prompts=3",
    "rollout.max_new_tokens=12",
)
TABLE = Table(
    question="Which?",
    primary="ndcg",
    steps="3",
    decoding="sampled",
    tuning="none",
    control="ospo",
    curve="reward/mean",
    data={"esci": Data(label="ESCI", overrides=["dataset=esci"])},
    rows={"ospo": Row(label="OSPO", overrides=["estimator=ospo"])},
    scores={"ndcg": Score(label="nDCG@10", measure="ndcg@10")},
    logged={"sum": Logged(label="sum", metric="reward/mean", reduce=Reduce.total, digits=6)},
    sizes={"smoke": Size(label="soak", overrides=[], seeds=[0])},
)
DISTURBED = ("killed", "stopped", "twice", "refused", "foreign", "moved", "two processes")
DAMAGED = ("digit", "line", "lost", "cut", "older")
NUMBER = re.compile(r"-?\.?\d[\d.]*(?:e-?\d+)?")
OF_TIME = re.compile(
    r"""<g\ id="[^"]*against-seconds.*?</svg> | "(time|perf)/[^,]*, | [\d.]+\ (s|min)\b | \d+\ times?\b
    | [0-9a-f]{8}-[0-9a-f]{8}""",
    re.DOTALL | re.VERBOSE,
)


def in_words(function, *args):
    """What a function says, behind how it ended: ``said``, ``refused`` or ``crashed``."""
    try:
        with redirect_stdout(StringIO()) as printed:
            shown = function(*args)
    except (SystemExit, Exception) as error:
        stopped = isinstance(error, SystemExit)
        sentence = f"stopped by {error.code}" if stopped else explain(error)
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


def sitting(out, folder, *words):
    """A run in a process of its own, which writes how it ended to a file."""
    out.write_text(in_words(lambda: run(folder, *RUN, *words) and ""))


def numbers(said):
    """Every number that is shown, but those that tell time, name a run or count looks at it."""
    return NUMBER.findall(OF_TIME.sub("", said))


@dataclass(kw_only=True)
class Soak:
    """Cases one after another, in the same place, so that what is said can be compared."""

    work: Path
    cache: Path
    draw: random.Random
    took: float = 0.0
    """Seconds of a run that nothing happens to."""
    clean: dict = field(default_factory=dict)
    counts: dict = field(default_factory=lambda: {k: Counter() for k in (*DISTURBED, *DAMAGED)})
    faults: list = field(default_factory=list)

    def __post_init__(self):
        """Two runs that nothing happens to, which must read alike, and one that is half done."""
        self.folder, self.half = self.work / "case" / "run", self.work / "half"
        readings = []
        for _ in range(3):  # the first one makes the warm start
            shutil.rmtree(self.folder.parent, ignore_errors=True)
            began = time.monotonic()
            assert self.ended(*self.start()).startswith("said")
            self.took = time.monotonic() - began
            readings.append(self.readings())
        self.clean = readings[-1]
        for name, said in self.clean.items():
            assert said.startswith("said"), said
            assert numbers(said) == numbers(readings[-2][name]), f"two clean runs: {name}"
        process, _ = self.start(folder=self.half)
        while not (self.half / "checkpoints" / "step-000002").exists():
            time.sleep(0.01)
        process.kill()

    def start(self, *words, folder=None):
        """A sitting, and where it writes how it ended."""
        out = self.work / f"{time.monotonic_ns()}.txt"
        call = (out, folder or self.folder, f"cache={self.cache}", *words)
        process = FORKED.Process(target=sitting, args=call)
        process.start()
        return process, out

    def ended(self, process, out):
        process.join(timeout=240)
        assert process.exitcode is not None, "a sitting does not end"
        return out.read_text() if out.exists() else f"refused by {process.exitcode}"

    def stop(self, process, out, *, kill):
        """Send a signal at a random moment of a run."""
        process.join(timeout=self.draw.uniform(0, 1.1 * self.took))
        (process.kill if kill else process.terminate)()
        return self.ended(process, out)

    def readings(self):
        """What every reader says of the run."""
        found = {each.__name__: in_words(each, self.folder) for each in (tabled, loaded)}
        found["again"] = self.ended(*self.start())
        beside, cache = self.work / "beside", f"cache={self.cache}"
        for name, words in (
            ("evaluate", (f"run={self.folder}", "retriever=tfidf")),
            ("report", (f"run={self.folder}", f"out={beside}/a.html", "prompts=1")),
            ("transfer", (f"runs={self.folder}", f"out={beside}", "retrievers=[lsa]")),
        ):
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir()
            end = command(ROOT / f"scripts/{name}.py", *words, cache, folder=self.work)
            kind = "crashed" if "Traceback" in end.said else "refused" if end.status else "said"
            pages = sorted(beside.glob("*.[hmcj]*"))  # html, md, csv, json
            found[name] = "\n".join([f"{kind} {end.said}", *(page.read_text() for page in pages)])
        return found

    def disturbed(self, kind):
        """Something happens to a run that may be under way; what its sittings say."""
        if kind == "twice":
            return [self.ended(*each) for each in [self.start(), self.start()]]
        if kind == "two processes":
            return [self.ended(*self.start("trainer=ddp", "trainer.timeout_s=120"))]
        if kind == "refused":
            owned = (self.folder / "run_id").exists()
            return [self.ended(*self.start("seed=1"))] if owned else []
        if kind == "foreign":
            other = self.work / "foreign"
            other.mkdir(exist_ok=True)
            (other / "metrics.jsonl").write_text("mine")
            said = self.ended(*self.start(folder=other))
            mine = [path.name for path in other.iterdir()] == ["metrics.jsonl"]
            return [said if mine else "crashed: a foreign folder was changed"]
        if kind == "moved" and self.folder.exists():
            elsewhere = self.folder.with_name("elsewhere")
            self.folder.rename(elsewhere)
            said = self.stop(*self.start(folder=elsewhere), kill=True)
            elsewhere.rename(self.folder)
            return [said]
        return [self.stop(*self.start(), kill=kind != "stopped")]

    def damage(self, kind):
        """One file of the run is damaged; which."""
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        path = self.draw.choice(files)
        held, older = path.read_bytes(), self.half / path.relative_to(self.folder)
        digits = [place for place, byte in enumerate(held) if chr(byte).isdigit()]
        lines = held.splitlines(keepends=True)
        if kind == "lost":
            path.unlink()
        elif kind == "older" and older.exists():
            shutil.copyfile(older, path)
        elif kind == "line" and lines:
            lost = self.draw.randrange(len(lines))
            path.write_bytes(b"".join(lines[:lost] + lines[lost + 1 :]))
        elif kind == "digit" and digits:
            place = self.draw.choice(digits)
            other = self.draw.choice([d for d in b"0123456789" if d != held[place]])
            path.write_bytes(held[:place] + bytes([other]) + held[place + 1 :])
        else:
            path.write_bytes(held[: self.draw.randrange(len(held) + 1)])
        return f"{kind} {path.relative_to(self.folder)}"

    def case(self):
        """One run, and how what was done to it ended."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)
        happened = self.draw.sample(DISTURBED, self.draw.randrange(3))
        said = [text for kind in happened for text in self.disturbed(kind)]
        damages, when = [*self.draw.sample(DAMAGED, self.draw.randrange(2))], self.draw.random()
        if not self.folder.exists() or when < 0.7 or "two processes" in happened:
            said.append(self.ended(*self.start()))
        if "two processes" in happened:
            damages = []  # last bits differ, so a changed digit could not be told
        done = [self.damage(kind) for kind in damages]
        said.append(self.ended(*self.start()))
        readings = {} if said[-1].startswith("refused") else self.readings()
        outcome = self.outcome(said, readings, close="two processes" in happened)
        for kind in (*happened, *damages):
            self.counts[kind][outcome] += 1
        if outcome in ("crashed", "silent"):
            kept = self.work / "faults" / f"{len(self.faults)}"
            shutil.copytree(self.folder.parent, kept)
            wrong = {name: text for name, text in readings.items() if self.differs(name, text, 0)}
            self.faults.append({"case": [*happened, *done], "said": said, "read": wrong})
        return outcome

    def differs(self, name, text, within):
        ours, theirs = numbers(text), numbers(self.clean[name])
        if within and len(ours) == len(theirs):
            pairs = zip(ours, theirs, strict=True)
            return any(a != b and abs(float(a) - float(b)) > within for a, b in pairs)
        return ours != theirs

    def outcome(self, said, readings, *, close):
        """The worst of what was said."""
        ends = [text.split(" ", 1)[0] for text in (*said, *readings.values())]
        shown = {name: text for name, text in readings.items() if text.startswith("said")}
        if "crashed" in ends or "crashed:" in ends:
            return "crashed"
        if any(self.differs(name, text, 0.01 * close) for name, text in shown.items()):
            return "silent"
        return "refused" if "refused" in ends else "identical"


def soak(work, cache, *, seconds, seed):
    """Cases until the time is up; counts by kind and outcome, and whatever went wrong."""
    work.mkdir(parents=True, exist_ok=True)
    made, tried = Soak(work=work, cache=cache, draw=random.Random(seed)), Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        tried[made.case()] += 1
        found = {"seed": seed, "cases": sum(tried.values()), "outcomes": tried}
        found |= {"by_kind": made.counts, "faults": made.faults}
        (work / "soak.json").write_text(json.dumps(found, indent=1))
    return found
