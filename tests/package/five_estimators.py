"""Credit of one batch by five estimators, by the base install alone: run it beside other pins.

Three responses to one query, each a list of phrases, are scored by BM25 and nDCG; so are the
coalitions of phrases that two of the estimators ask for. A token is a phrase or a comma.
"""

import sys
from pathlib import Path
from tempfile import gettempdir

import torch

from rlcredit import GRPO, OSPO, RLOO, CoalitionGame, Needs, Prefix, Segments, SetPO, Signals
from rlcredit.estimators import Max, Myerson, Weighted
from rlcredit.retrieval import BM25, Hashing
from rlcredit.retrieval.base import Documents
from rlcredit.rewards import NDCG, Ranking
from rlcredit.text import Phrases
from rlcredit.text.render import coalition_text
from rlcredit.types import Prompt

DOCUMENTS = Documents(
    ids=("p1", "p2", "p3", "p4"),
    texts=("red canvas tent", "blue canvas tent", "red wool hat", "steel camping stove"),
)
PROMPT = Prompt(prompt_id="q1", text="red tent", query="red tent", relevance={"p1": 3, "p2": 1})
RESPONSES = ("red, tent, stove", "hat, wool, steel", "blue, canvas, hat")
ESTIMATORS = {
    "GRPO": GRPO(),
    "RLOO": RLOO(),
    "OSPO": OSPO(value=Myerson(), construction=Weighted()),
    "Prefix": Prefix(),
    "SetPO": SetPO(base=GRPO()),
}
FORBIDDEN = ("hydra", "omegaconf", "wandb", "datasets", "sentence_transformers", "peft", "faiss")
"""What only the extra ``train`` may bring in; and transformers, which others install."""


def score(texts: list[str]) -> torch.Tensor:
    """nDCG of each text as a search."""
    ranking = Ranking(measure=NDCG(cutoff=4), utility=Max())
    reward = ranking.bind(BM25().index(DOCUMENTS, cache=Path(gettempdir())))
    return reward([PROMPT] * len(texts), texts)


def signals(needs: Needs) -> Signals:
    """What an estimator reads of the three responses; a phrase is one token, a comma is one."""
    spans = [Phrases()(text) for text in RESPONSES]
    present = torch.ones(1, 3, 3, dtype=torch.bool)
    segments = Segments(
        spans=torch.tensor([[[[s.start, s.end] for s in row] for row in spans]]),
        mask=present,
        valid=present,
        first=present,
        ids=torch.tensor([0, -1, 1, -1, 2]).expand(1, 3, 5),
    )
    game = None
    if needs.coalitions is not None:
        members = needs.coalitions(3, torch.Generator())
        texts = [
            coalition_text(text, row, member)
            for text, row in zip(RESPONSES, spans, strict=True)
            for member in members.tolist()
        ]
        game = CoalitionGame(
            players=present,
            members=members.expand(1, 3, *members.shape),
            rewards=score(texts).reshape(1, 3, len(members)),
            evaluated=torch.ones(1, 3, len(members), dtype=torch.bool),
            sampled=torch.zeros(1, 3, dtype=torch.bool),
        )
    return Signals(
        rewards=score(list(RESPONSES))[None],
        response_mask=torch.ones(1, 3, 5, dtype=torch.bool),
        segments=segments,
        game=game,
        embeddings=Hashing()(RESPONSES)[None],
    )


def advantages() -> dict[str, torch.Tensor]:
    """One value per token, by estimator."""
    return {name: each(signals(each.needs)).values[0] for name, each in ESTIMATORS.items()}


if __name__ == "__main__":
    for name, values in advantages().items():
        print(f"{name:<7}", [[round(value, 3) for value in row] for row in values.tolist()])
    print("rewards", [round(value, 3) for value in score(list(RESPONSES)).tolist()])
    loaded = sorted(set(FORBIDDEN) & set(sys.modules))
    sys.exit(f"the base imported {', '.join(loaded)}" if loaded else 0)
