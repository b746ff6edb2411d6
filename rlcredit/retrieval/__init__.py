"""Search: retrievers and their indexes, measures of rankings, and encoders of texts."""

from rlcredit.retrieval.approximate import HNSW, IVF
from rlcredit.retrieval.base import Encoder, Index, Retriever
from rlcredit.retrieval.bm25 import BM25
from rlcredit.retrieval.dense import Dense
from rlcredit.retrieval.encoders import Hashing, Sentence
from rlcredit.retrieval.linear import LSA, TFIDF

__all__ = [
    "BM25",
    "HNSW",
    "IVF",
    "LSA",
    "TFIDF",
    "Dense",
    "Encoder",
    "Hashing",
    "Index",
    "Retriever",
    "Sentence",
]
