"""Segmenters that cut what the task does not count are refused before anything is trained."""

import pytest

from rlcredit.tasks import ESCI, HM
from rlcredit.tasks.players import refuse_without_players, valid_share
from rlcredit.text.segmenters import Phrases, Sentences, Windows


@pytest.fixture(scope="module", params=[ESCI, HM])
def task(request):
    return request.param(max_train=80, max_validation=1, max_test=1).load()


def test_phrases_and_windows_as_short_as_phrases_always_count(task):
    for segmenter in (Phrases(), Windows(num_words=3), Windows(num_words=1)):
        assert valid_share(segmenter, task) == 1
        refuse_without_players(segmenter, task)


@pytest.mark.parametrize(
    ("segmenter", "said"), [(Sentences(), "sentences: 0%"), (Windows(), r"windows: [23]\d%")]
)
def test_segments_that_the_rules_do_not_count_are_refused_with_the_segmenter_to_take(
    task, segmenter, said
):
    with pytest.raises(ValueError, match=f"segmenter={said} of .*Take segmenter=phrases"):
        refuse_without_players(segmenter, task)
