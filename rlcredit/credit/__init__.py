"""Pure tensor mathematics of credit: torch only, no I/O, no randomness without a generator."""
