"""prime-rl's orchestrator, with the credit of rlcredit behind the algorithm ``grpo``."""

import re
from difflib import SequenceMatcher
from typing import Any

from rlcredit import Credit
from rlcredit.integrations.prime_rl import install
from rlcredit.text import Windows

MODEL = "Qwen/Qwen3-0.6B"
_TAG = re.compile(r"<reversed_text>(.*?)</reversed_text>", re.DOTALL)


def score(texts: list[str], rows: list[dict[str, Any]]) -> list[float]:
    """How like its row's answer is what stands in a text's tags: verifiers' reverse-text."""
    found = [_TAG.search(text) for text in texts]
    written = [match.group(1).strip() if match else "" for match in found]
    return [
        SequenceMatcher(None, text, row["answer"]).ratio()
        for text, row in zip(written, rows, strict=True)
    ]


def row_of(trace: Any) -> dict[str, Any]:
    """The task of a trace: its prompt, and the columns that the reward reads."""
    task = trace.task.data
    return {"prompt": task.prompt_text, "answer": task.answer}


def main() -> None:
    """Start the orchestrator as ``orchestrator`` does."""
    from prime_rl.entrypoints.orchestrator import main
    from prime_rl.orchestrator import algo
    from transformers import AutoTokenizer

    install(
        algo,
        credit=Credit(reward=score, estimator="ospo", segmenter=Windows(num_words=4)),
        tokenizer=AutoTokenizer.from_pretrained(MODEL),
        prompt=row_of,
    )
    main()


if __name__ == "__main__":
    main()
