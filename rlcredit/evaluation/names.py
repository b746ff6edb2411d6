"""What people call methods, data sets, retrievers and measures, on pages, plots and consoles."""

import re
from collections.abc import Mapping

from rlcredit.evaluation.cells import Cell, Source

METHODS: Mapping[str, str] = {
    "dr_grpo": "Dr. GRPO",
    "grpo": "GRPO",
    "loo": "leave-one-out",
    "lpo": "LPO forward",
    "lpo_reverse": "LPO reverse",
    "maxk": "MaxK",
    "maxrl": "MaxRL",
    "ospo": "OSPO",
    "ospo_owen": "OSPO (Owen)",
    "ospo_rank": "OSPO (rank)",
    "ospo_released": "OSPO as released",
    "otb": "OTB",
    "otb_released": "OTB as released",
    "prefix": "prefix",
    "random_credit": "random credit",
    "rloo": "RLOO",
    "scar": "SCAR",
    "setpo": "SetPO",
    "shape": "ShapE",
    "shape_loo": "ShapE (leave-one-out)",
    "vine": "VinePPO",
    "winner_takes_all": "winner takes all",
}
DATA: Mapping[str, str] = {
    "beir": "BEIR",
    "countdown": "Countdown",
    "esci": "ESCI",
    "gsm8k": "GSM8K",
    "hm": "H&M",
}
RETRIEVERS: Mapping[str, str] = {
    "bm25": "BM25",
    "char_ngram": "character n-grams",
    "hnsw": "HNSW",
    "ivf": "IVF",
    "lsa": "LSA",
    "minilm": "MiniLM",
    "mpnet": "MPNet",
    "simcse": "SimCSE",
    "tfidf": "TF-IDF",
}
SOURCES: Mapping[Source, str] = {
    Source.sampled: "sampled",
    Source.greedy: "greedy",
    Source.query: "raw query",
    Source.rm3: "RM3",
    Source.oracle: "oracle",
}
POLICY = (Source.sampled, Source.greedy)
"""Texts that the policy wrote; the others do not change by training."""
_MEANS = {"rr": "MRR", "ap": "MAP", "r": "recall", "ndcg": "nDCG", "pass": "Pass"}
"""What people call the mean of a measure."""
_CELL = re.compile(rf"(?:([^/]+)/)?(.+?)(?:_({'|'.join(Source)}))?")


def method_name(name: str) -> str:
    """``OSPO`` for ``ospo``; a method of one's own keeps its name. Settings behind it stay."""
    first, space, settings = name.partition(" ")
    return METHODS.get(first, first) + space + settings


def data_name(name: str) -> str:
    """``H&M`` for ``hm``; data of one's own keep their name."""
    return DATA.get(name, name)


def run_name(name: str) -> str:
    """``OSPO on H&M`` for ``hm/ospo``."""
    data, _, method = name.partition("/")
    return f"{method_name(method)} on {data_name(data)}"


def retriever_name(name: str) -> str:
    """``BM25`` for ``bm25``; a retriever of one's own keeps its name."""
    return RETRIEVERS.get(name, name)


def mean_name(measure: str) -> str:
    """The mean of a measure: ``MRR`` for ``RR``, ``nDCG@10, worst of k`` of candidates."""
    whole, _, of_set = measure.partition("-")
    kind, at, depth = whole.partition("@")
    name = _MEANS.get(kind.lower(), kind.replace("_", " ")) + at + depth
    return f"{name}, {of_set.replace('-', ' ')}" if of_set else name


def cell_name(cell: Cell) -> str:
    """``nDCG@10, sampled, BM25``."""
    return _joined(cell.measure, SOURCES[cell.source], cell.retriever)


def measure_name(name: str) -> str:
    """``nDCG@10, sampled, BM25`` for ``bm25/ndcg@10_sampled``, as in metrics and summaries."""
    found = _CELL.fullmatch(name)
    if found is None:
        return name
    retriever, measure, source = found.groups()
    return _joined(measure, SOURCES[Source(source)] if source else "", retriever or "")


def source_of(name: str) -> Source:
    """Who wrote the texts of a measure; sampled by the policy where its name does not say."""
    found = _CELL.fullmatch(name)
    return Source(found[3]) if found and found[3] else Source.sampled


def _joined(measure: str, source: str, retriever: str) -> str:
    parts = (mean_name(measure), source, retriever_name(retriever))
    return ", ".join(part for part in parts if part)
