"""Write a small collection in BEIR's layout: a folder that any other program may have made.

python make_collection.py <folder>
"""

import json
import sys
from pathlib import Path

COLOURS = ("red", "blue", "green", "grey", "white")
KINDS = ("kettle", "lamp", "tent", "chair", "jacket", "bottle", "rug", "radio")
FITS = {"a camp": "canvas", "the hall": "oak", "a boat": "steel", "winter": "wool", "tea": "glass"}


def lines(path: Path, records: list[dict]) -> None:
    """One JSON object per line."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def main(folder: Path) -> None:
    """Products of three words; a query says two of them and what the third must fit."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    made = [(colour, kind, place) for colour in COLOURS for kind in KINDS for place in FITS]
    ids = {words: f"d{number}" for number, words in enumerate(made)}
    corpus = [
        {"_id": ids[colour, kind, place], "title": f"{colour} {FITS[place]} {kind}", "text": ""}
        for colour, kind, place in made
    ]
    lines(folder / "corpus.jsonl", corpus)
    queries = [(words, f"{words[0]} {words[1]} for {words[2]}") for words in made]
    texts = [{"_id": f"q{number}", "text": text} for number, (_, text) in enumerate(queries)]
    lines(folder / "queries.jsonl", texts)
    for split, part in (("train", 0), ("dev", 8), ("test", 9)):
        rows = ["query-id\tcorpus-id\tscore"]
        for number, (words, _) in enumerate(queries):
            side = number % 10
            if side == part or (part == 0 and side < 8):
                rows.append(f"q{number}\t{ids[words]}\t1")
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
