import ir_measures
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcredit.retrieval.measures import (
    NDCG,
    AveragePrecision,
    Measure,
    Recall,
    ReciprocalRank,
    order,
    rank_grades,
)

GAINS = {3: 100, 2: 10, 1: 1}
CUTOFFS = [1, 3, 10]
PAIRS = [
    *[(NDCG(cutoff=k), ir_measures.nDCG(gains=GAINS) @ k) for k in CUTOFFS],
    (NDCG(cutoff=None), ir_measures.nDCG(gains=GAINS)),
    (NDCG(cutoff=4, gains={1: 1, 2: 2, 3: 7}), ir_measures.nDCG(gains={1: 1, 2: 2, 3: 7}) @ 4),
    (ReciprocalRank(), ir_measures.RR(rel=3)),
    (ReciprocalRank(min_grade=1), ir_measures.RR(rel=1)),
    *[(Recall(cutoff=k), ir_measures.R(rel=3) @ k) for k in CUTOFFS],
    (Recall(min_grade=2), ir_measures.R(rel=2) @ 10),
    (AveragePrecision(), ir_measures.AP(rel=3)),
    *[(AveragePrecision(cutoff=k), ir_measures.AP(rel=3) @ k) for k in CUTOFFS],
]


@st.composite
def searches(draw):
    """Queries over one catalogue: scores with ties, grades, unjudged and missing documents."""
    num_documents = draw(st.integers(1, 16))
    ids = [f"d{i}" for i in draw(st.permutations(range(num_documents)))]
    score = st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 0.25, 0.5, 1.0, 1e-30, 3.4e5])
    row = st.tuples(
        st.lists(score, min_size=num_documents, max_size=num_documents),
        st.lists(st.integers(0, 3), min_size=num_documents, max_size=num_documents),
        st.lists(st.integers(0, 3), max_size=3),
    )
    return ids, draw(st.lists(row, min_size=1, max_size=3))


def oracle(ids, rows):
    """What ir_measures finds: a measure of theirs -> its value for each query."""
    qrels, run = [], []
    for query, (scores, grades, missing) in enumerate(rows):
        judged = {
            **dict(zip(ids, grades, strict=True)),
            **{f"x{i}": g for i, g in enumerate(missing)},
        }
        qrels += [ir_measures.Qrel(str(query), d, g) for d, g in judged.items() if g]
        qrels.append(ir_measures.Qrel(str(query), "nothing", 0))
        run += [
            ir_measures.ScoredDoc(str(query), d, s)
            for d, s in zip(ids, scores, strict=True)
            if s > -np.inf
        ]
    measures = [theirs for _, theirs in PAIRS]
    calculated = ir_measures.iter_calc(measures, qrels, run)
    found = {(each.measure, each.query_id): each.value for each in calculated}
    queries = [str(query) for query in range(len(rows))]
    return {each: [found.get((each, query), 0.0) for query in queries] for each in measures}


def in_order(scores, grades, *, depth=None):
    columns = order(scores, depth=depth)
    rows = zip(columns, scores.gather(1, columns), grades, strict=True)
    return torch.cat([rank_grades(own[None], best[None], all_of) for own, best, all_of in rows])


def ours(measure, ids, rows, *, depth=None):
    columns = sorted(range(len(ids)), key=lambda i: ids[i], reverse=True)
    scores = torch.tensor([[scores[i] for i in columns] for scores, _, _ in rows])
    grades = torch.tensor([[grades[i] for i in columns] for _, grades, _ in rows])
    judged = [[*grades, *missing] for _, grades, missing in rows]
    width = max(len(row) for row in judged)
    padded = torch.tensor([row + [0] * (width - len(row)) for row in judged])
    return measure(in_order(scores, grades, depth=depth), padded)


@settings(deadline=None)
@given(search=searches())
def test_measures_equal_ir_measures_ties_and_missing_documents_included(search):
    values = oracle(*search)
    for measure, theirs in PAIRS:
        expected = pytest.approx(values[theirs], abs=1e-6)
        assert ours(measure, *search).tolist() == expected, measure
        assert ours(measure, *search, depth=measure.cutoff).tolist() == expected, measure


def test_measures_of_a_catalogue_equal_ir_measures():
    generator = torch.Generator().manual_seed(0)
    ids = [f"p{i:04d}" for i in torch.randperm(1920, generator=generator).tolist()]
    rows = []
    for _ in range(4):
        scores = (torch.rand(1920, generator=generator) * 60).round() / 4
        grades = (torch.rand(1920, generator=generator) * 40 - 36).clamp(min=0).ceil().clamp(max=3)
        scores[scores < 3] = -torch.inf
        rows.append((scores.tolist(), grades.int().tolist(), [3, 1]))
    values = oracle(ids, rows)
    for measure, theirs in PAIRS:
        assert ours(measure, ids, rows).tolist() == pytest.approx(values[theirs], abs=1e-6)


def test_hand_computed_values():
    ranked = torch.tensor([[0, 3, 1, 3, 0], [0, 0, 0, 0, 0]])
    judged = torch.tensor([[3, 1, 3, 3], [3, 2, 0, 0]])
    log2 = np.log2
    gain = 100 / log2(3) + 1 / log2(4) + 100 / log2(5)
    ideal = 100 + 100 / log2(3) + 100 / log2(4) + 1 / log2(5)
    assert NDCG()(ranked, judged).tolist() == pytest.approx([gain / ideal, 0.0], abs=1e-12)
    assert ReciprocalRank()(ranked, judged).tolist() == [0.5, 0.0]
    assert ReciprocalRank(cutoff=1)(ranked, judged).tolist() == [0.0, 0.0]
    assert Recall(cutoff=3)(ranked, judged).tolist() == pytest.approx([1 / 3, 0.0])
    assert AveragePrecision()(ranked, judged).tolist() == pytest.approx([1 / 3, 0.0])


def test_nothing_retrieved_or_nothing_relevant_is_exactly_zero():
    scores = torch.full((1, 4), -torch.inf)
    ranked = in_order(scores, torch.tensor([[3, 3, 2, 1]]))
    for measure, _ in PAIRS:
        assert measure(ranked, torch.tensor([[3, 3, 2, 1]])).tolist() == [0.0]
        assert (
            measure(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 2, dtype=torch.long)) == 0
        )
        assert measure(torch.zeros(1, 0, dtype=torch.long), torch.tensor([[3]])).tolist() == [0.0]


def test_order_is_descending_with_the_earlier_column_first():
    scores = torch.tensor([[0.5, -torch.inf, 1.0, 0.5, -2.0, -0.0, 0.0, -1.0]])
    assert order(scores).tolist() == [[2, 0, 3, 5, 6, 7, 4, 1]]
    assert order(scores, depth=3).tolist() == [[2, 0, 3]]


@settings(deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=30), st.integers(1, 30))
def test_order_equals_a_stable_sort_at_every_depth(values, depth):
    scores = torch.tensor([values])
    stable = torch.sort(scores, dim=1, descending=True, stable=True).indices
    assert torch.equal(order(scores), stable)
    assert torch.equal(order(scores, depth=depth), stable[:, :depth])


def test_names_and_protocol():
    measures = [NDCG(), NDCG(cutoff=None), ReciprocalRank(), Recall(), AveragePrecision(cutoff=5)]
    assert [m.name for m in measures] == ["nDCG@10", "nDCG", "RR", "R@10", "AP@5"]
    assert all(isinstance(m, Measure) for m in measures)


@pytest.mark.parametrize("measure", [NDCG, ReciprocalRank, Recall, AveragePrecision])
def test_a_cutoff_below_one_is_refused(measure):
    with pytest.raises(ValueError, match="cutoff=0"):
        measure(cutoff=0)


def test_grades_without_a_gain_are_refused():
    for ranked, judged in [(4, 3), (3, 4), (0, -1), (2, 3), (3, 2)]:
        missing = ({ranked, judged} - {3, 0}).pop()
        with pytest.raises(
            ValueError, match=rf"grades \[{missing}\] have no gain .*measure\.gains"
        ):
            NDCG(gains={3: 1})(torch.tensor([[ranked]]), torch.tensor([[judged]]))
    with pytest.raises(ValueError, match="no gain is negative"):
        NDCG(gains={1: -1})
    with pytest.raises(ValueError, match="min_grade=0"):
        Recall(min_grade=0)
