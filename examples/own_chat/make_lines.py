"""Write conversations with a right answer each, a JSON object a line.

python make_lines.py <file>
"""

import json
import sys
from pathlib import Path


def line(first: int, second: int) -> dict:
    """A conversation that ends with the user's message, and what a right answer says."""
    turns = [
        {"role": "system", "content": "Answer with the number alone, behind ####."},
        {"role": "user", "content": "What is 1 + 1?"},
        {"role": "assistant", "content": "#### 2"},
        {"role": "user", "content": f"What is {first} + {second}?"},
    ]
    return {"prompt": turns, "answer": str(first + second)}


if __name__ == "__main__":
    made = [line(first, second) for first in range(12) for second in range(12)]
    Path(sys.argv[1]).write_text("".join(json.dumps(each) + "\n" for each in made))
