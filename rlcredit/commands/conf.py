"""Where the YAML files lie: inside the package in a wheel, beside it in a checkout."""

from pathlib import Path

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
