"""Signals that ask a run to stop, and those that do not."""

import signal

import pytest

from rlcredit.run.stop import stop_request


class Insisted(Exception):  # noqa: N818
    """What the handler raises that was there before."""


@pytest.fixture
def before():
    """Handlers that act at once; the tests' own come back."""

    def act(number, frame):
        raise Insisted

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    theirs = {number: signal.signal(number, act) for number in numbers}
    yield
    for number, handler in theirs.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_the_first_signal_is_noted_with_its_status_and_another_acts_at_once(before, number, status):
    with stop_request() as request:
        signal.raise_signal(number)
        assert (request.number, request.exit_status) == (number, status)
        with pytest.raises(Insisted):
            signal.raise_signal(signal.SIGTERM)


def test_the_second_hangup_of_a_closed_terminal_is_noted_too(before):
    with stop_request() as request:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert request.exit_status == 129
    with pytest.raises(Insisted):
        signal.raise_signal(signal.SIGHUP)  # what was there before is back


def test_a_hangup_that_is_ignored_stays_ignored(before):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    with stop_request() as request:
        signal.raise_signal(signal.SIGHUP)
        assert request.number is None
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
