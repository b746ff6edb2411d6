"""The text of a coalition: the response with the other segments deleted."""

from collections.abc import Sequence

from rlcredit.text.spans import Span


def coalition_text(text: str, spans: Sequence[Span], members: Sequence[bool]) -> str:
    """What is left of a text when the segments outside a coalition are deleted.

    A run of neighbouring members is the original slice from its first to its last segment. Between
    two runs stands the original separator that follows the earlier run. The full coalition is the
    original slice from the first to the last segment, the empty one is "".

    >>> coalition_text("a; b, c", [Span(0, 1), Span(3, 4), Span(6, 7)], [True, False, True])
    'a; c'

    Args:
        text: The response.
        spans: M disjoint segments in text order.
        members: Which of them are in the coalition, M of them.

    Raises:
        ValueError: If the two lengths differ.
    """
    if len(spans) != len(members):
        raise ValueError(f"{len(members)} memberships for {len(spans)} segments")
    size = sum(members)
    if not size:
        return ""
    first = members.index(True)
    if all(members[first : first + size]):  # one run: most coalitions are
        return text[spans[first].start : spans[first + size - 1].end]
    chosen = [index for index, member in enumerate(members) if member]
    pieces = []
    for index in chosen:
        start, end = spans[index]
        followed = index + 1 < len(spans) and index != chosen[-1]
        pieces.append(text[start : spans[index + 1].start if followed else end])
    return "".join(pieces)
