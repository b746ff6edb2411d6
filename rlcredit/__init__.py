"""rlcredit: which tokens of a generated text earned its reward?"""

__version__ = "0.1.0"
