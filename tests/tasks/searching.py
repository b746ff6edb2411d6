import numpy as np
from bm25s import BM25, tokenize


class Search:
    """BM25 over the pools, measured with nDCG@10 and gains 100, 10, 1."""

    def __init__(self, task):
        self.index = BM25()
        self.index.index(self.tokens(task.documents.texts), show_progress=False)
        rows = {document: row for row, document in enumerate(task.documents.ids)}
        self.test = [
            (prompt, np.array([rows[i] for i in prompt.pool[::-1]]), prompt.pool[::-1])
            for prompt in task.test
        ]

    @staticmethod
    def tokens(texts):
        return tokenize(list(texts), stopwords=None, show_progress=False, return_ids=False)

    def ndcg(self, write):
        return float(np.mean([self._one(*pool, write) for pool in self.test]))

    def _one(self, prompt, rows, ids, write):
        known = [w for w in self.tokens([write(prompt)])[0] if w in self.index.vocab_dict]
        if not known:
            return 0.0
        scores = self.index.get_scores(known)[rows]
        gains = np.array([(0, 1, 10, 100)[prompt.relevance.get(i, 0)] for i in ids], dtype=float)
        found = np.where(scores > 0, gains, 0)[np.argsort(-scores, kind="stable")][:10]
        discount = 1 / np.log2(np.arange(10) + 2)
        return float(found @ discount / (np.sort(gains)[::-1][:10] @ discount))
