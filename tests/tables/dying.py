"""A worker that the kernel kills; a module of its own, so that a new process reads it at once."""

import os
import signal


def die(outputs, conf):
    """In place of a worker's start."""
    os.kill(os.getpid(), signal.SIGKILL)
