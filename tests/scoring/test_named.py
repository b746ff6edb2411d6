"""A name means in Python what it means on the command line."""

import pytest

from rlcredit.estimators import Sum
from rlcredit.scoring.named import CANDIDATES, ESTIMATORS, estimator_named
from tests.composing import built, names

LISTWISE = {"lpo", "lpo_reverse"}
OF_POLICY = {"otb", "otb_released", "vine"}


@pytest.mark.parametrize("name", [*ESTIMATORS, *CANDIDATES])
def test_a_name_is_the_estimator_that_its_file_describes(name):
    assert estimator_named(name) == built("estimator", name)


def test_every_estimator_of_the_command_line_has_its_name():
    assert {*ESTIMATORS, *CANDIDATES} | LISTWISE | OF_POLICY == set(names("estimator"))


def test_candidates_share_out_the_utility_that_is_given():
    assert estimator_named("shape", utility=Sum()).utility == Sum()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("osop", "did you mean 'ospo'"),
        ("lpo", r"lpo_advantages under a plain policy loss"),
        ("otb", "no policy is at hand"),
    ],
)
def test_another_name_is_refused_with_the_remedy(name, said):
    with pytest.raises(ValueError, match=said):
        estimator_named(name)
