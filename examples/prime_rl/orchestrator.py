"""prime-rl's orchestrator, with the credit of rlcredit behind the algorithm ``grpo``."""

import re
from typing import Any

from rlcredit import Credit
from rlcredit.integrations.prime_rl import install
from rlcredit.text import Sentences

MODEL = "Qwen/Qwen3-0.6B"


def score(texts: list[str], rows: list[dict[str, Any]]) -> list[float]:
    """1 where a text holds the answer; the environment's reward, of the text alone."""
    asked = zip(texts, rows, strict=True)
    return [float(str(row["answer"]) in re.findall(r"-?\d+", text)) for text, row in asked]


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
        credit=Credit(reward=score, estimator="ospo", segmenter=Sentences()),
        tokenizer=AutoTokenizer.from_pretrained(MODEL),
        prompt=row_of,
    )
    main()


if __name__ == "__main__":
    main()
