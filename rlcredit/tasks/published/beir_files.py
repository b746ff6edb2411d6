"""Collections in BEIR's layout (arXiv:2104.08663): corpus.jsonl, queries.jsonl, qrels/<split>.tsv.

Judgements are read in BEIR's three columns (query-id, corpus-id, score) and in TREC's four
(query-id, 0, document-id, grade): exports of TREC and of ir_datasets are read as they are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from pathlib import Path

from rlcredit.tasks.published.cleaning import clean
from rlcredit.tasks.published.json_lines import read_lines, text_of
from rlcredit.text.words import is_word

CORPUS, QUERIES, QRELS = "corpus.jsonl", "queries.jsonl", "qrels"
SPLITS = {"train": ("train",), "validation": ("dev", "validation"), "test": ("test",)}
"""Split -> names that its file of judgements may have."""
TITLE_WORDS = 16
"""Words of a text that stand for the title of a document without one."""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """All that a folder holds."""

    texts: Mapping[str, str]
    """document_id -> title and text, cleaned and cut."""
    titles: Mapping[str, str]
    """document_id -> title, or the first words of the text."""
    queries: Mapping[str, str]
    """query_id -> text, cleaned."""
    judgements: Mapping[str, Mapping[str, Mapping[str, int]]]
    """split -> query_id -> document_id -> grade as the file has it."""


def read_collection(folder: Path, *, max_words: int | None) -> Collection:
    """Read a folder whole.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a line is damaged, an id is given twice or is not one word, or a judgement is
            of a query or a document that the folder does not have.
    """
    texts, titles = {}, {}
    for document, title, text in _records(_one_of(folder, CORPUS), ("title", "text")):
        whole = " ".join(part for part in (title, text) if part)
        texts[document] = whole if max_words is None else " ".join(whole.split()[:max_words])
        titles[document] = title or " ".join(text.split()[:TITLE_WORDS])
    queries = {query: text for query, text in _records(_one_of(folder, QUERIES), ("text",))}
    judgements = {}
    for split, file in qrels_files(folder).items():
        judgements[split] = _judgements(file, queries, texts)
    return Collection(texts=texts, titles=titles, queries=queries, judgements=judgements)


def qrels_files(folder: Path) -> dict[str, Path]:
    """The file of judgements of each split that has one.

    Raises:
        FileNotFoundError: If there is none.
    """
    found = {
        split: file
        for split, names in SPLITS.items()
        for name in names
        for suffix in (".tsv", ".txt", ".qrels")
        if (file := folder / QRELS / f"{name}{suffix}").is_file()
    }
    if not found:
        raise FileNotFoundError(
            f"{folder / QRELS} holds no judgements; BEIR's layout has train.tsv, dev.tsv or "
            "test.tsv there, with a query, a document and a grade in each line"
        )
    return found


def content_of(folder: Path) -> tuple[str, ...]:
    """A hash of each file that is read.

    Raises:
        FileNotFoundError: If a file is missing.
    """
    files = [_one_of(folder, CORPUS), _one_of(folder, QUERIES), *qrels_files(folder).values()]
    found = []
    for file in files:
        with file.open("rb") as opened:
            digest = file_digest(opened, lambda: blake2b(digest_size=16)).hexdigest()
        found.append(f"{file.relative_to(folder)} {digest}")
    return tuple(found)


def _one_of(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise FileNotFoundError(
        f"{folder} has no {name} (nor {name}.gz); dataset.path must be a folder in BEIR's layout: "
        f"{CORPUS}, {QUERIES} and {QRELS}/"
    )


def _records(file: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Id and texts of each line; an optional column that is missing is empty."""
    seen: dict[str, int] = {}
    for row, record in read_lines(file):
        key = text_of(record, "_id", row, file)
        if not is_word(key):
            raise ValueError(f"line {row} of {file}: _id {key!r} is not one word, as an id must be")
        if key in seen:
            raise ValueError(f"line {row} of {file}: _id {key!r} stands in line {seen[key]} too")
        seen[key] = row
        given = record if "title" in record else {**record, "title": ""}
        yield (key, *(clean(text_of(given, column, row, file)) for column in columns))
    if not seen:
        raise ValueError(f"{file} has no line; it must hold one JSON object per line")


def _judgements(
    file: Path, queries: Mapping[str, str], documents: Mapping[str, str]
) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for row, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        fields = line.split()
        if not fields or (row == 1 and fields[-1] in ("score", "grade", "relevance")):
            continue
        if len(fields) not in (3, 4) or not fields[-1].lstrip("-").isdecimal():
            raise ValueError(
                f"line {row} of {file} is no judgement but {line!r:.80}; expected query-id, "
                "document-id, grade, or TREC's query-id, 0, document-id, grade"
            )
        query, document, grade = fields[0], fields[-2], int(fields[-1])
        for what, key, known in (("query", query, queries), ("document", document, documents)):
            if key not in known:
                raise ValueError(
                    f"line {row} of {file} judges the {what} {key!r}, which is not in the folder; "
                    "judgements and files must be of one collection"
                )
        if document in found.setdefault(query, {}):
            raise ValueError(f"line {row} of {file} judges {query} and {document} a second time")
        found[query][document] = grade
    if not found:
        raise ValueError(f"{file} holds no judgement")
    return found
