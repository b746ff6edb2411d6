"""What becomes of a file that can be made again and is damaged."""

import logging
import os
from pathlib import Path

_log = logging.getLogger(__name__)


def set_aside(path: Path, error: Exception) -> None:
    """Rename a damaged file to ``<name>.damaged``, with a warning, also where that fails."""
    aside = path.with_suffix(".damaged")
    try:
        os.replace(path, aside)
    except OSError as refusal:
        _log.warning(
            "%s is damaged (%s) and cannot be set aside (%s); made anew", path, error, refusal
        )
        return
    _log.warning("%s is damaged (%s); set aside as %s, made anew", path, error, aside.name)
