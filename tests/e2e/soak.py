"""A seeded soak: runs are disturbed and damaged at random, and what every reader shows is compared.

In a case a run is started twice, killed, refused, moved or gone on with by two processes, and a
file of it may be damaged. Each reader must then show the numbers of a run that nothing happened to,
or refuse in a sentence; one that shows other numbers is silently wrong.
"""

import json
import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.readers import RUN, in_words, numbers, outcome, reading
from tests.e2e.running import run
from tests.forked import FORKED

DISTURBED = ("killed", "stopped", "twice", "refused", "foreign", "moved", "two processes")
DAMAGED = ("digit", "line", "lost", "cut", "older")


def sitting(out, folder, *words):
    """A run in a process of its own, which writes how it ended to a file."""
    out.write_text(in_words(lambda: run(folder, *RUN, *words) and ""))


def in_a_process(function, out, *args):
    """A process that has begun, and where it writes what it says."""
    process = FORKED.Process(target=function, args=(out, *args))
    process.start()
    return process, out


def ended(process, out):
    """What a process said."""
    process.join(timeout=300)
    assert process.exitcode is not None, "a process does not end"
    return out.read_text() if out.exists() else f"refused by {process.exitcode}"


@dataclass(kw_only=True)
class Soak:
    """Cases one after another, in the same place, so that what is said can be compared."""

    work: Path
    cache: Path
    draw: random.Random
    counts: dict = field(default_factory=lambda: {k: Counter() for k in (*DISTURBED, *DAMAGED)})
    faults: list = field(default_factory=list)

    def __post_init__(self):
        """Two runs that nothing happens to, which must read alike, and one that is half done."""
        self.folder, self.half = self.work / "case" / "run", self.work / "half"
        ended(*self.start())  # makes the warm start
        readings = []
        for _ in range(2):
            shutil.rmtree(self.folder.parent)
            began = time.monotonic()
            assert ended(*self.start()).startswith("said")
            self.took = time.monotonic() - began
            readings.append(self.readings())
        other, self.clean = readings
        for name, said in self.clean.items():
            assert said.startswith("said"), said
            assert numbers(said) == numbers(other[name]), f"two clean runs differ in {name}"
        process, _ = self.start(folder=self.half)
        while process.is_alive() and not (self.half / "checkpoints/step-000002").exists():
            time.sleep(0.01)
        process.kill()

    def start(self, *words, folder=None):
        """A sitting of the run."""
        out, folder = self.work / f"{time.monotonic_ns()}.txt", folder or self.folder
        return in_a_process(sitting, out, folder, f"cache={self.cache}", *words)

    def readings(self):
        """What every reader says."""
        out, beside = self.work / f"{time.monotonic_ns()}.json", self.work / "beside"
        return json.loads(ended(*in_a_process(reading, out, self.folder, beside, self.cache)))

    def disturbed(self, kind):
        """Something happens to a run that may be under way; what its sittings say."""
        if kind == "twice":
            return [ended(*each) for each in [self.start(), self.start()]]
        if kind == "two processes":
            return [ended(*self.start("trainer=ddp", "trainer.timeout_s=120"))]
        if kind == "refused" and (self.folder / "run_id").exists():
            return [must_refuse(ended(*self.start("seed=1")))]
        if kind == "foreign":
            other = self.work / "foreign" / "metrics.jsonl"
            other.parent.mkdir(exist_ok=True)
            other.write_text("mine")
            said = must_refuse(ended(*self.start(folder=other.parent)))
            return [said if [*other.parent.iterdir()] == [other] else "crashed a foreign folder"]
        elsewhere = self.folder.with_name("elsewhere" if kind == "moved" else "run")
        if self.folder.exists():
            self.folder.rename(elsewhere)
        process, out = self.start(folder=elsewhere)
        process.join(timeout=self.draw.uniform(0, 1.1 * self.took))
        (process.terminate if kind == "stopped" else process.kill)()
        said = ended(process, out)
        if elsewhere.exists():
            elsewhere.rename(self.folder)
        return [said]

    def damage(self, kind):
        """One file of the run is damaged; which."""
        path = self.draw.choice([p for p in sorted(self.folder.rglob("*")) if p.is_file()])
        held, older = path.read_bytes(), self.half / path.relative_to(self.folder)
        digits = [place for place, byte in enumerate(held) if byte in b"0123456789"]
        lines = held.splitlines(keepends=True)
        if kind == "older" and older.exists():
            shutil.copyfile(older, path)
        elif kind == "line" and lines:
            lost = self.draw.randrange(len(lines))
            path.write_bytes(b"".join(lines[:lost] + lines[lost + 1 :]))
        elif kind == "digit" and digits:
            place = self.draw.choice(digits)
            other = self.draw.choice([digit for digit in b"0123456789" if digit != held[place]])
            path.write_bytes(held[:place] + bytes([other]) + held[place + 1 :])
        elif kind == "lost":
            path.unlink()
        else:
            path.write_bytes(held[: self.draw.randrange(len(held) + 1)])
        return f"{kind} {path.relative_to(self.folder)}"

    def case(self):
        """One run, and how what was done to it ended."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)
        happened = self.draw.sample(DISTURBED, self.draw.randrange(3))
        said = [text for kind in happened for text in self.disturbed(kind)]
        damages = self.draw.sample(DAMAGED, self.draw.random() < 0.8)
        if not self.folder.exists() or self.draw.random() < 0.7:
            said.append(ended(*self.start()))
        done = [*happened, *(self.damage(kind) for kind in damages)]
        readings = {"again": ended(*self.start())}
        if readings["again"].startswith("said"):
            readings |= self.readings()
        # the last bits of two processes differ, and no digit can be told from another
        compared = {} if "two processes" in happened else self.clean
        ends = {outcome(text, compared.get(name)) for name, text in readings.items()}
        ends |= {"crashed" for text in said if text.startswith("crashed")}
        worst = next(each for each in ("silent", "crashed", "refused", "identical") if each in ends)
        for kind in (*happened, *damages):
            self.counts[kind][worst] += 1
        if worst in ("silent", "crashed"):
            shutil.copytree(self.folder.parent, self.work / "faults" / f"{len(self.faults)}")
            self.faults.append({"case": done, "said": said, "read": readings})
        return worst


def must_refuse(said):
    """What was said, which must be a refusal."""
    return said if said.startswith("refused") else f"crashed for want of a refusal: {said}"


def soak(work, cache, *, seconds, seed):
    """Cases until the time is up; counts by kind and outcome, and whatever went wrong."""
    work.mkdir(parents=True, exist_ok=True)
    made, tried = Soak(work=work, cache=cache, draw=random.Random(seed)), Counter()
    until, found = time.monotonic() + seconds, {}
    while time.monotonic() < until:
        tried[made.case()] += 1
        found = {"seed": seed, "cases": sum(tried.values()), "outcomes": tried}
        found |= {"by_kind": made.counts, "faults": made.faults}
        (work / "soak.json").write_text(json.dumps(found, indent=1))
    return found
