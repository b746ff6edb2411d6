"""RM3: a query expanded with the words of what it finds, the usual baseline of query writing."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlcredit.retrieval.bm25 import terms_of


@dataclass(frozen=True, kw_only=True)
class RM3:
    """Pseudo-relevance feedback by relevance model 3 (Abdul-Jaleel et al., TREC 2004, "UMass").

        P(t) = w P(t | query) + (1 - w) P(t | feedback)
        P(t | feedback) ~ sum over documents d of  score(d) tf(t, d) / |d|,  its largest terms

    with BM25 scores as the documents' weights, as Anserini does; its defaults are the defaults
    here. The expanded query is a text, so that every retriever can be asked with it: a term stands
    there once for each ``1 / length`` of its weight (derived here; the rounding is the only loss).

    Raises:
        ValueError: If a count is below 1, or ``query_weight`` not in [0, 1].
    """

    num_documents: int = 10
    num_terms: int = 10
    query_weight: float = 0.5
    """w: how much of the expanded query is the query itself."""
    length: int = 100
    """Words of the expanded query, up to rounding."""

    def __post_init__(self) -> None:
        """Check the settings."""
        for name in ("num_documents", "num_terms", "length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is below 1; 10, 10, 100 are usual")
        if not 0 <= self.query_weight <= 1:
            raise ValueError(f"query_weight={self.query_weight} is not in [0, 1]; 0.5 is usual")

    def weights(self, query: str, found: Sequence[tuple[str, float]]) -> Mapping[str, float]:
        """P(t) of the expanded query's terms; the query's own alone where nothing was found.

        Args:
            query: Its stop words are left out.
            found: Text and score of the retrieved documents, best first.
        """
        own = _shares(Counter(terms_of(query)))
        feedback: defaultdict[str, float] = defaultdict(float)
        for text, score in found[: self.num_documents]:
            for term, share in _shares(Counter(terms_of(text))).items():
                feedback[term] += share * score
        largest = sorted(feedback, key=lambda term: (-feedback[term], term))[: self.num_terms]
        added = _shares({term: feedback[term] for term in largest})
        if not added or not own:
            return own or added
        return {
            term: self.query_weight * own.get(term, 0.0)
            + (1 - self.query_weight) * added.get(term, 0.0)
            for term in dict.fromkeys([*own, *added])
        }

    def __call__(self, query: str, found: Sequence[tuple[str, float]]) -> str:
        """The expanded query as a text; the query as it stands where nothing was found."""
        if not found:
            return query
        counts = {
            term: round(weight * self.length) for term, weight in self.weights(query, found).items()
        }
        return " ".join(term for term, count in counts.items() for _ in range(count))


def _shares(counts: Mapping[str, int | float]) -> dict[str, float]:
    total = sum(counts.values())
    return {term: count / total for term, count in counts.items()} if total else {}
