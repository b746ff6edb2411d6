import pytest

from rlcredit.trainer import pairing
from tests.composing import built, names


def check_pairing(estimator, loss, *, group_size=8, num_candidates=0, scores_parts=True):
    pairing.check_pairing(
        estimator,
        loss,
        group_size=group_size,
        num_candidates=num_candidates,
        scores_parts=scores_parts,
    )


FINE = {"dapo", "grpo", "dr_grpo", "cispo", "grpo_lambda", "position_weights", "top_entropy"}
COARSE = {"gspo", "lpo", "lpo_reverse"}
OF_CANDIDATES = {"shape", "shape_loo", "winner_takes_all"}
OF_TOKENS = {"otb", "otb_released"}
OF_ROLLOUTS = {"grpo", "dr_grpo", "maxk", "maxrl", "rloo", "lpo", "lpo_reverse", "setpo"}


def test_every_loss_is_named_here():
    assert set(names("loss")) == FINE | COARSE


@pytest.mark.parametrize("estimator", sorted(set(names("estimator")) - OF_CANDIDATES))
def test_credit_within_a_rollout_is_refused_by_losses_of_whole_rollouts(estimator):
    for loss in FINE:
        check_pairing(
            built("estimator", estimator), built("loss", loss), group_size=8, num_candidates=0
        )
    for loss in COARSE:
        if estimator in OF_ROLLOUTS:
            check_pairing(
                built("estimator", estimator), built("loss", loss), group_size=8, num_candidates=0
            )
        else:
            with pytest.raises(ValueError, match="use loss=dapo"):
                check_pairing(
                    built("estimator", estimator),
                    built("loss", loss),
                    group_size=8,
                    num_candidates=0,
                )


def test_setpo_over_a_finer_base_is_refused_too():
    nested = built("estimator", "setpo", ("estimator@estimator.base=ospo",))
    with pytest.raises(ValueError, match="SetPO credits each segment"):
        check_pairing(nested, built("loss", "lpo"))


def test_groups_that_are_too_small_are_refused_with_the_smallest_that_works():
    for estimator, smallest in (("grpo", 2), ("setpo", 3), ("maxk", 5)):
        pair = built("estimator", estimator), built("loss", "dapo")
        check_pairing(*pair, group_size=smallest)
        with pytest.raises(ValueError, match=f"group_size >= {smallest}"):
            check_pairing(*pair, group_size=smallest - 1)


@pytest.mark.parametrize("estimator", sorted(OF_CANDIDATES))
def test_credit_of_candidates_needs_a_task_of_sets(estimator):
    pair = built("estimator", estimator), built("loss", "dapo")
    check_pairing(*pair, num_candidates=4)
    with pytest.raises(ValueError, match=r"set dataset\.candidates=4"):
        check_pairing(*pair)


@pytest.mark.parametrize("estimator", sorted(set(names("estimator")) - OF_CANDIDATES))
def test_a_task_of_sets_is_for_credit_of_candidates_or_whole_responses(estimator):
    pair = built("estimator", estimator), built("loss", "dapo")
    if estimator in OF_ROLLOUTS | OF_TOKENS:
        check_pairing(*pair, num_candidates=4)
        return
    with pytest.raises(ValueError, match=r"or dataset\.candidates=0"):
        check_pairing(*pair, num_candidates=4)


@pytest.mark.parametrize("estimator", sorted(names("estimator")))
def test_verified_answers_are_for_credit_of_whole_responses(estimator):
    pair = built("estimator", estimator), built("loss", "dapo")
    if estimator in OF_ROLLOUTS | OF_TOKENS | {"vine"}:  # which continues answers to their end
        check_pairing(*pair, scores_parts=False)
        return
    with pytest.raises(ValueError, match="verifies whole answers"):
        check_pairing(*pair, scores_parts=False)
