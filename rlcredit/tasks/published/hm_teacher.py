"""A teacher for published histories: it names attributes of what was bought before and next."""

from collections.abc import Mapping, Sequence, Set

from rlcredit.tasks.published.hm_files import Article
from rlcredit.tasks.teachers import PhraseSource, PhraseTeacher

NEXT, BEFORE, ANY = 0.3, 0.3, 0.4
"""How often a phrase is about the next purchase, the history, or any training customer's next
purchase."""


def attribute_teacher(
    histories: Mapping[str, tuple[str, Sequence[str]]],
    articles: Mapping[str, Article],
    *,
    hidden: Set[str],
) -> PhraseTeacher:
    """Demonstrations from types, colours, patterns, departments, sections and garment groups.

    Args:
        histories: prompt_id -> next purchase and history, of the training customers.
        articles: What the articles say of themselves.
        hidden: Held-out customers' next purchases, which no demonstration may draw on.
    """

    def said(bought: Sequence[str]) -> tuple[str, ...]:
        seen = (article for article in bought if article not in hidden)
        return tuple(phrase for article in seen for phrase in articles[article].attributes)

    anything = said([target for target, _ in histories.values()])
    return PhraseTeacher(
        sources={
            prompt_id: (
                PhraseSource(weight=NEXT, phrases=said([target])),
                PhraseSource(weight=BEFORE, phrases=said(history)),
                PhraseSource(weight=ANY, phrases=anything),
            )
            for prompt_id, (target, history) in histories.items()
        }
    )
