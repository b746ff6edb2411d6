"""Small evaluations and a task, made by hand."""

import numpy as np
import pytest

from rlcredit.evaluation.cells import Cell, Source
from rlcredit.evaluation.credit_check import CreditCheck
from rlcredit.evaluation.evaluate import Evaluation
from rlcredit.retrieval.base import Documents
from rlcredit.scoring.samples import Completion, SegmentCredit
from rlcredit.tasks.base import SearchTask
from rlcredit.text.response import TextRules
from rlcredit.types import Prompt

RETRIEVERS = ("tfidf", "bm25")
MEASURES = ("nDCG@10", "RR", "R@10")
SHIFT = {"before": 0.0, "after": 0.125}


@pytest.fixture
def make_evaluation():
    def make(phase, *, num_prompts=40, split="test", example="tent, [red]x[/red]"):
        rng = np.random.default_rng(5)
        scores = {}
        for retriever in RETRIEVERS:
            for measure in MEASURES:
                for source in Source:
                    shift = SHIFT[phase] if source in (Source.sampled, Source.greedy) else 0.0
                    values = rng.random(num_prompts) / 2 + shift
                    scores[Cell(retriever, measure, source)] = tuple(values.tolist())
        segments = (
            SegmentCredit(text="tent", credit=0.25, counts=True),
            SegmentCredit(text="[red]x[/red]", credit=-0.125, counts=False),
        )
        completion = Completion(
            prompt_id="q0",
            prompt="find: [bold]boots\x1b[31m",
            response=example,
            reward=0.5,
            segments=segments,
        )
        return Evaluation(
            split=split,
            phase=phase,
            prompt_ids=tuple(f"q{i}" for i in range(num_prompts)),
            scores=scores,
            responses={
                Source.sampled: tuple(("a, b", "ü") for _ in range(num_prompts)),
                Source.greedy: tuple(("a",) for _ in range(num_prompts)),
            },
            credit=CreditCheck(
                rho={f"q{i}": 0.1 + 0.01 * i for i in range(20)}, counted=70, skipped=10
            ),
            examples=(completion,),
        )

    return make


@pytest.fixture
def task():
    def prompt(i):
        return Prompt(prompt_id=f"q{i}", text="t", query="t", relevance={"d0": 3})

    return SearchTask(
        name="esci",
        source="generated",
        documents=Documents(ids=("d0", "d1"), texts=("red tent", "blue [boot]")),
        train=tuple(prompt(i) for i in range(3)),
        validation=(prompt(3),),
        test=(prompt(4),),
        rules=TextRules(),
        teacher=lambda prompt, generator: "tent",
        counts={"products": 1920, "queries dropped [no Exact]": 2},
        digest="0123456789abcdef",
    )
