"""Search texts that say what the query does not."""

ENOUGH = 20  # words


def score(texts: list[str], rows: list[dict]) -> list[float]:
    """Give each text the share of so many words that it adds to the query."""
    said = [set(text.replace(",", " ").split()) for text in texts]
    asked = [set(row["query"].split()) for row in rows]
    return [min(len(a - b), ENOUGH) / ENOUGH for a, b in zip(said, asked, strict=True)]
