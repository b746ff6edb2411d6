"""Processes of tests, forked from one that has imported everything: a start costs no import.

They are processes that are killed, ranks, and commands.
"""

import multiprocessing
import os
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["tests.e2e.running", "torch.distributed.fsdp"])


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What became of a command: its exit status, and all that it and its processes printed."""

    status: int
    said: str


def command(program, *words, folder, search=(), environment=None, forget=()):
    """``python program words`` in a folder, with more folders in ``sys.path``, more variables.

    Packages to forget are imported anew, from where the program would find them.
    """
    output = Path(folder) / "output.txt"
    given = (program, words, folder, search, environment or {}, forget, output)
    process = FORKED.Process(target=_command, args=given)
    process.start()
    process.join(timeout=120)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"{program} {words} still runs; it said {output.read_text()}")
    return Ended(status=process.exitcode, said=output.read_text())


def _command(program, words, folder, search, environment, forget, output):
    with output.open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    os.environ |= environment
    os.chdir(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] in forget]:
        del sys.modules[name]
    sys.path[:0] = [str(Path(program).parent), *map(str, search)]
    sys.argv = [str(program), *words]
    runpy.run_path(str(program), run_name="__main__")
