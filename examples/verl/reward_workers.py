"""How many reward workers a run of verl needs, from the core seconds of one response here.

python reward_workers.py <responses of a step> <seconds of sampling of a step> [estimator]
"""

import math
import resource
import sys
import time

import torch
from own_credit import credit_of, searched

from rlcredit.integrations.told import scored_alone
from rlcredit.scoring.responses import of_texts
from rlcredit.types import Randomness

_MEASURED = 200


def main(responses: int, seconds: float, estimator: str) -> None:
    """Score responses of the task's teacher one by one, as a reward worker does."""
    torch.set_num_threads(1)
    credit, task = credit_of(estimator), searched().task
    spent, asked = 0.0, 0
    for number, prompt in enumerate(task.train[:_MEASURED]):
        text = task.teacher(prompt, Randomness(seed=0, step=0).generator("teacher", number))
        read = of_texts([prompt], [[text]])
        begin = time.process_time()
        _, record = scored_alone(credit, read, step=0, number=number)
        spent += time.process_time() - begin
        asked += len(record.rewards)
    count = min(_MEASURED, len(task.train))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    each = spent / count
    print(f"a response and its parts: {asked / count:.1f} rewards, {1000 * each:.1f} ms")
    print(f"this process, with data and index: {memory:.0f} MiB; a worker imports verl, 240 more")
    needed = math.ceil(2 * responses * each / seconds)  # twice: responses end in bursts
    print(f"{responses} responses in {seconds:g} s: reward.num_workers={needed} or more")


if __name__ == "__main__":
    words = sys.argv[1:]
    main(int(words[0]), float(words[1]), words[2] if len(words) > 2 else "ospo")
