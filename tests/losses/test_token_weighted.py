"""The mask of highest entropies and its wrapper: quantiles, ties, splits, and what it refuses."""

from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from rlcredit.credit.entropy import entropy_ranks
from rlcredit.losses import LPO, ClippedSurrogate, TokenWeighted
from rlcredit.losses.surrogate import Ratio
from tests.composing import built
from tests.strategies import DOUBLE, make_batch

entropies = st.lists(
    st.one_of(st.sampled_from([0.25, 0.5, 1.5]), st.floats(0, 4, width=16)), min_size=2, max_size=30
)


@given(entropies, st.sampled_from([0.05, 0.2, 0.25, 0.5, 0.8, 1.0]))
def test_the_mask_is_that_of_the_quantile(row, share):
    entropy = torch.tensor([[row]], dtype=DOUBLE)
    mask = torch.ones_like(entropy, dtype=torch.bool)
    found = entropy_ranks(entropy, mask) <= share
    places = (1 - share) * (len(row) - 1)
    if abs(places - round(places)) < 1e-9:  # which neighbour a rounded quantile falls to is chance
        threshold = entropy.flatten().sort().values[round(places)]
    else:
        threshold = torch.quantile(entropy.flatten(), 1 - share)
    assert torch.equal(found, entropy >= threshold)


def test_masked_tokens_do_not_count_and_rounding_breaks_no_tie():
    entropy = torch.tensor([[[9.0, 1.0, 2.0], [3.0, 2.0 + 1e-12, 9.0]]], dtype=DOUBLE)
    mask = torch.tensor([[[0, 1, 1], [1, 1, 0]]]).bool()
    ranks = entropy_ranks(entropy, mask)
    assert ranks[0, 0].tolist() == pytest.approx([0, 1, 1 / 3])
    assert ranks[0, 1].tolist() == pytest.approx([0, 1 / 3, 0])


def test_all_of_the_tokens_is_the_plain_loss():
    logprobs, batch = make_batch()
    whole = TokenWeighted(loss=ClippedSurrogate(), top_entropy=1.0)(logprobs, batch)
    assert torch.equal(whole.value, ClippedSurrogate()(logprobs, batch).value)
    assert whole.metrics["loss/kept_share"] == 1
    nothing = TokenWeighted(loss=ClippedSurrogate())(logprobs, batch)
    assert torch.equal(nothing.value, whole.value)


def test_other_tokens_have_no_policy_gradient_and_the_divergence_keeps_its_own():
    logprobs, batch = make_batch()
    plain = ClippedSurrogate(kl_coef=0.1)
    loss = TokenWeighted(loss=plain, top_entropy=0.2)
    assert loss.needs == replace(plain.needs, entropy_rank=True)
    kept = batch.response_mask & (batch.entropy_rank <= 0.2)
    leaf = logprobs.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf, batch).value, leaf)
    (of_all,) = torch.autograd.grad(plain(leaf, batch).value, leaf)
    silent = replace(batch, advantages=torch.zeros_like(batch.advantages))
    (of_divergence,) = torch.autograd.grad(plain(leaf, silent).value, leaf)
    assert torch.equal(found[kept], of_all[kept])  # the denominators are those of all tokens
    assert torch.equal(found[~kept], of_divergence[~kept])
    share = loss(logprobs, batch).metrics["loss/kept_share"]
    assert share == kept.sum() / batch.response_mask.sum()
    with pytest.raises(ValueError, match="entropy_rank"):
        loss(logprobs, replace(batch, entropy_rank=None))


def test_presets_wrap_any_surrogate_of_tokens():
    assert built("loss", "top_entropy") == TokenWeighted(
        loss=built("loss", "dapo"), top_entropy=0.2
    )
    other = built("loss", "top_entropy", ("loss@loss.loss=grpo",))
    assert other.loss == built("loss", "grpo")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"loss": LPO()}, "LPO as it is set here reads one advantage per rollout"),
        ({"loss": ClippedSurrogate(ratio=Ratio.sequence)}, r"loss@loss\.loss=dapo"),
        ({"loss": ClippedSurrogate(), "top_entropy": 0.0}, r"loss\.top_entropy=0\.0"),
        ({"loss": ClippedSurrogate(), "position_decay": 2.0}, r"loss\.position_decay=2\.0"),
    ],
)
def test_what_it_cannot_weigh_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        TokenWeighted(**settings)
