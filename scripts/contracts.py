"""Which published versions of other trainers still have what the integrations rely on.

``python -m scripts.contracts [package==version ...]`` downloads wheels, reads a few files of
each, and installs and runs nothing; without words, the newest version of every package.
"""

import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from rlcredit.integrations.contract import CONTRACTS, Contract


def wheel(requirement: str, folder: Path) -> Path:
    """Download a wheel without what it depends on.

    Raises:
        SystemExit: With pip's words, if there is none.
    """
    words = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    words.append("--ignore-requires-python")  # nothing of it is run
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, requirement], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{requirement} cannot be downloaded: {done.stderr.strip()}")
    (found,) = folder.glob("*.whl")
    return found


def moved(contract: Contract, path: Path) -> list[str]:
    """What has moved in a wheel."""
    with zipfile.ZipFile(path) as files:
        if contract.file not in files.namelist():
            return [f"there is no {contract.file}"]
        return contract.moved_in(files.read(contract.file).decode())


def main() -> None:
    """Print a line a version; exit with 1 if one has moved.

    Raises:
        SystemExit: Always.
    """
    by_name: dict[str, list[Contract]] = {}
    for contract in CONTRACTS:
        by_name.setdefault(contract.package, []).append(contract)
    wanted = sys.argv[1:] or list(by_name)
    failed = False
    for requirement in wanted:
        name = requirement.split("==")[0]
        if name not in by_name:
            sys.exit(f"there is no contract with {name}; there are some with {', '.join(by_name)}")
        with TemporaryDirectory() as folder:
            path = wheel(requirement, Path(folder))
            found = [line for contract in by_name[name] for line in moved(contract, path)]
        failed |= bool(found)
        print(f"{path.name}: {'; '.join(found) or 'holds'}", flush=True)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
