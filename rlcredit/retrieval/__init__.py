"""..."""

from rlcredit.retrieval.base import Retriever

__all__ = ["Retriever"]
