"""TREC run files and judgements of an evaluation, from which anyone can compute any measure.

trec/test.qrels                         judgements of the split
trec/test-after/bm25.greedy.run.gz      one ranking per prompt
trec/test-after/bm25.sampled-0.run.gz   one file per sample: a run holds a prompt once

The runs of an evaluation are tens of megabytes of repeated ids, hence gzip; ir-measures reads it.
"""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rlcredit.evaluation.expansion import reward_for
from rlcredit.files import replace_file, whole_file, writing
from rlcredit.rewards.ranking import RankingReward
from rlcredit.text.words import is_word
from rlcredit.types import Prompt

DEPTH = 1000
"""Documents per ranking, as at TREC; evaluations look no deeper, so that the files say it all."""


def write_qrels(path: Path, prompts: Sequence[Prompt]) -> None:
    """``query 0 document grade``, the grades as they are judged (ESCI: 3 2 1 0).

    Raises:
        ValueError: If an id holds white space, which the format cannot say.
        OSError: If the file cannot be written.
    """
    lines = [
        f"{_word(prompt.prompt_id)} 0 {_word(document)} {grade}\n"
        for prompt in prompts
        for document, grade in sorted(prompt.relevance.items())
    ]
    replace_file(path, "".join(lines))


def write_runs(
    folder: Path,
    prompts: Sequence[Prompt],
    texts: Mapping[str, Sequence[Sequence[str]]],
    rewards: Mapping[str, RankingReward],
) -> None:
    """A run file for each retriever and each column of texts.

    Scores are written as the shortest decimals that read back as the same float32, so that ties
    stay ties.

    Args:
        folder: Of this phase of this split.
        prompts: P of them.
        texts: Who wrote -> [P][n] search texts; column k of n > 1 goes to ``<who>-<k>``.
        rewards: Retriever name -> its reward.

    Raises:
        OSError: If a file cannot be written.
    """
    for retriever, reward in rewards.items():
        for who, rows in texts.items():
            for k in range(len(rows[0])):
                name = f"{retriever}.{who}" + (f"-{k}" if len(rows[0]) > 1 else "")
                own = reward_for(who, reward)
                ranked = own.run(prompts, [row[k] for row in rows], depth=DEPTH)
                text = "".join(_lines(prompts, ranked, name)).encode()
                # no time stamp: the same rankings are the same file
                packed = gzip.compress(text, compresslevel=4, mtime=0)
                path = folder / f"{name}.run.gz"
                with writing(path), whole_file(path) as new:
                    new.write_bytes(packed)


def _lines(
    prompts: Sequence[Prompt], ranked: Sequence[Sequence[tuple[str, float]]], name: str
) -> list[str]:
    return [
        f"{_word(prompt.prompt_id)} Q0 {_word(document)} {rank} {np.float32(score)!s} {name}\n"
        for prompt, ranking in zip(prompts, ranked, strict=True)
        for rank, (document, score) in enumerate(ranking, 1)
    ]


def _word(identifier: str) -> str:
    if not is_word(identifier):
        raise ValueError(
            f"id {identifier!r} holds white space (or nothing), which a TREC file cannot say; give "
            "prompts and documents ids of one word"
        )
    return identifier
