"""Runs from a program or a notebook: imports what they need when one is started."""

from collections.abc import Sequence
from importlib import import_module

from rlcredit.run.load import SavedRun, load_run


def train(overrides: Sequence[str] = ()) -> SavedRun:
    """Train a policy as ``rlcredit train`` does, in this process, and read what the run left.

    A run that was killed goes on where it stopped when it is called again; one that has finished is
    read. With ``trainer.processes`` above 1 the program needs ``if __name__ == "__main__":``.

    Example, a minute of two cores::

        run = train(["estimator=ospo", "dataset=esci", "size=smoke", "tracker=jsonl"])
        run.metrics_frame()["reward/mean"].plot()

    Args:
        overrides: Words of the command line, each one a text.

    Raises:
        ModuleNotFoundError: If the extra ``train`` is not installed.
        ValueError: If a word is none, or asks for a sweep; if settings do not go together.
    """
    if isinstance(overrides, str):
        raise ValueError(f"overrides={overrides!r} is one text; give a list of words")
    if flags := [word for word in overrides if word.startswith("-")]:
        raise ValueError(
            f"{flags[0]} is a flag of the command line, which this call does not take; for a sweep "
            "call it once for each run"
        )
    try:
        command = import_module("rlcredit.commands.train")
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in ("", "rlcredit"):
            raise
        raise ModuleNotFoundError(
            f"training needs {missing}, which is not installed; install it by: pip install "
            "'rlcredit[train]'",
            name=error.name,
        ) from error
    return load_run(command.start(overrides))
