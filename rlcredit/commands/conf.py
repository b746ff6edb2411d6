"""Where the YAML files lie: inside the package in a wheel, beside it in a checkout."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import rlcredit


def conf_folder() -> Path:
    """The absolute folder ``conf``, found from the package that is running.

    A search path of Hydra's kind ``pkg://`` would find it by name instead, and so read the files of
    another checkout where one is installed in the same environment.

    Raises:
        FileNotFoundError: If neither place has it.
    """
    package = Path(rlcredit.__file__).resolve().parent
    places = (package / "conf", package.parent / "conf")
    for place in places:
        if (place / "train.yaml").is_file():
            return place
    raise FileNotFoundError(
        f"neither {places[0]} nor {places[1]} holds train.yaml; install rlcredit again"
    )


@contextmanager
def composing(folder: Path) -> Iterator[None]:
    """Hydra over a folder of configs; whatever Hydra read before is read again afterwards.

    Args:
        folder: Absolute; what it does not hold is read from ``conf/``.
    """
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().hydra = None
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = before
