"""Each alarm rings once, on means over steps, and a resumed run knows what has rung."""

import pytest

from rlcredit.run.watch import ALARMS, Watch


def heard(metric, values, watch=None):
    watch = watch or Watch()
    return [said for step, value in enumerate(values) for said in watch(step, {metric: value})]


@pytest.mark.parametrize(
    ("metric", "well", "ill", "said"),
    [
        ("segments/valid_share", [1.0] * 5 + [0.6] * 9, [1.0] * 5 + [0.3] * 9, "44% of the segm"),
        ("credit/mean_abs", [0.0] * 4 + [1e-9], [0.0] * 5, "credit of every segment has been 0"),
        (
            "text/repeated_share",
            [0.1] * 5 + [0.29] * 9,
            [0.1] * 9 + [0.5] * 9,
            "34% of the words w",
        ),
        ("text/unknown_share", [0.3] * 9 + [0.1] * 9, [0.0] * 5 + [0.25] * 9, "in no document, 0%"),
        ("text/perplexity", [4.0] * 5 + [29.0] * 9, [4.0] * 5 + [40.0] * 9, "perplexity of 32.8"),
        ("segments/per_response", [6.0] * 5 + [3.1] * 9, [6.0] * 5 + [2.9] * 9, "the segmentation"),
    ],
)
def test_an_alarm_rings_once_when_its_figure_is_wrong_and_never_before(metric, well, ill, said):
    assert heard(metric, well) == []
    (sentence,) = heard(metric, ill)
    assert said in sentence
    assert sentence.startswith("step ")


def test_several_alarms_ring_at_one_step():
    watch = Watch()
    metrics = {"segments/valid_share": 0.0, "credit/mean_abs": 0.0}
    assert [len(watch(step, metrics)) for step in range(7)] == [0, 0, 0, 0, 2, 0, 0]


def test_a_resumed_run_goes_on_where_the_watch_was():
    for at in range(1, 12):
        values = [6.0] * 5 + [3.5, 2.0, 1.0, 1.0, 1.0, 1.0]
        watch = Watch()
        before = heard("segments/per_response", values[:at], watch)
        after = heard("segments/per_response", values[at:], Watch.from_carry(watch.carry()))
        assert len(before) + len(after) == 1


def test_what_became_of_the_texts_is_one_line_over_all_sittings():
    watch = Watch()
    for share in [0.1] * 5 + [0.2] * 3:
        watch(1, {"text/repeated_share": share, "text/unknown_share": 0.05})
    again = Watch.from_carry(watch.carry())
    for share in [0.3] * 5:
        again(2, {"text/repeated_share": share, "text/unknown_share": 0.0})
    said = "words of responses: repeated 10% -> 30%, in no document 5% -> 0%"
    assert again.texts() == said
    assert Watch().texts() is None


def test_no_two_alarms_watch_one_metric():
    assert len({alarm.metric for alarm in ALARMS}) == len(ALARMS)
