"""Segments, rewards and games of responses written by hand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.credit.coalitions import LeaveOneOut, Windows
from rlcredit.credit.spread import segment_credit
from rlcredit.estimators import GRPO, OSPO, Additive, Max, values
from rlcredit.retrieval.base import Documents
from rlcredit.retrieval.bm25 import BM25
from rlcredit.retrieval.measures import NDCG
from rlcredit.rewards.base import scores_parts
from rlcredit.rewards.ranking import Ranking
from rlcredit.rollout.health import rollout_metrics
from rlcredit.scoring.scorer import Scorer, reads_segments
from rlcredit.text.response import Compose, TextRules
from rlcredit.text.segmenters import Phrases
from rlcredit.types import Needs, Prompt, Randomness, Rollouts, Signals
from tests.rollout.toy import DOUBLE, Letters, letters, written

RULES = TextRules(max_phrases=4, max_words=2, unique=True)
RANDOMNESS = Randomness(seed=1, step=2)
ALL = Needs(coalitions=Windows())


def scored(
    rollouts: Rollouts,
    needs: Needs = ALL,
    *,
    rules: TextRules = RULES,
    offset: int = 0,
    reward: Letters | None = None,
) -> Signals:
    scorer = Scorer(reward=reward or Letters(), rules=rules, segmenter=Phrases())
    return scorer(rollouts, needs, randomness=RANDOMNESS, offset=offset)


def test_segments_are_those_of_the_scored_text_in_the_response_s_characters():
    text = "<answer>ab, c d e, ab</answer>"
    signals = scored(written([text, "xy"]), Needs())
    segments = signals.segments
    assert segments is not None
    assert segments.spans[0, 0].tolist() == [[8, 10], [12, 17], [19, 21]]
    assert segments.spans[0, 1].tolist() == [[0, 2], [0, 0], [0, 0]]
    assert segments.mask[0].tolist() == [[True] * 3, [True, False, False]]
    assert segments.valid[0].tolist() == [[True, False, True], [True, False, False]]
    assert segments.first[0].tolist() == [[True, True, False], [True, False, False]]
    ids = [-1] * 8 + [0, 0, -1, -1] + [1] * 5 + [-1, -1] + [2, 2] + [-1] * 10
    assert segments.ids[0, 0].tolist() == ids
    assert segments.ids[0, 1].tolist() == [0, 0] + [-1] * (len(ids) - 2)


def test_phrases_beyond_the_limit_are_no_segments():
    segments = scored(written(["a, b, c, d, e, f", "a"]), Needs()).segments
    assert segments is not None
    assert segments.mask[0, 0].tolist() == [True] * 4


def test_whole_responses_are_scored_in_one_call_by_the_rules():
    reward = Letters()
    signals = scored(written(["a, b c d, a, e", ""], ["xyz", "no  more"]), Needs(), reward=reward)
    assert reward.calls == [[("p0", "a, e"), ("p0", ""), ("p1", "xyz"), ("p1", "no more")]]
    assert signals.rewards.tolist() == [[0.02, 0.0], [0.03, 0.05]]
    assert signals.rewards.dtype == DOUBLE
    assert signals.game is None
    assert signals.num_evaluations == 4
    assert signals.randomness == RANDOMNESS


def test_every_coalition_has_the_reward_of_its_own_text():
    rollouts = written(["ab, c, dea", "f, gh"], ["k, l, m", "k, l"])
    reward = Letters()
    signals = scored(rollouts, reward=reward)
    game, segments = signals.game, signals.segments
    assert game is not None
    assert segments is not None
    assert len(reward.calls) == 2
    assert signals.num_evaluations == 4 + len(reward.calls[1])
    for p in range(2):
        for g in range(2):
            seen = set()
            for c in range(game.members.shape[2]):
                if not game.evaluated[p, g, c]:
                    assert game.rewards[p, g, c] == 0
                    continue
                kept = game.members[p, g, c].nonzero().squeeze(1).tolist()
                spans = [segments.spans[p, g, m].tolist() for m in kept]
                text = "".join(rollouts.texts[p][g][start:end] for start, end in spans)
                assert float(game.rewards[p, g, c]) == letters(text)
                seen.add(tuple(kept))
            n = len(rollouts.texts[p][g].split(","))
            expected = {tuple(range(a, b)) for a in range(n) for b in range(a + 1, n + 1)}
            assert seen == expected | {()}
            assert not game.members[p, g, 0].any()
            assert game.members[p, g, 1].tolist() == segments.mask[p, g].tolist()
            assert game.rewards[p, g, 1] == signals.rewards[p, g]


def test_invalid_segments_and_later_copies_are_no_players_and_leave_every_coalition():
    reward = Letters()
    rollouts = written(["a, b c d, e, a, f", "z"])
    signals = scored(
        rollouts,
        Needs(coalitions=LeaveOneOut(), first_copies=True),
        reward=reward,
        rules=TextRules(max_words=2, unique=True),
    )
    game = signals.game
    assert game is not None
    assert game.players[0, 0].tolist() == [True, False, True, False, True]
    assert game.members[0, 0, 1].tolist() == [True, False, True, False, True]
    assert [text for _, text in reward.calls[1]] == ["e, f", "a, f", "a, e"]
    assert game.rewards[0, 0].tolist() == [0.0, 0.03, 0.02, 0.02, 0.02]


WORDS = TextRules(known_words=("boat", "red", "tent"), new_words=True)
SAID = (
    "red tent, tent red, boat, blue boat",
    "boat, tent, red, red tent",
    "tent\ufffd, red, red, boat",
)


@pytest.mark.parametrize("value", [values.Shapley(), values.Owen()], ids=repr)
def test_every_coalition_is_read_by_the_rules_of_words_as_a_response_would_be(value):
    ospo = OSPO(value=value, construction=Additive())
    scorer = Scorer(reward=Letters(), rules=WORDS, segmenter=Phrases())
    signals = scorer(written(SAID), ospo.needs, randomness=RANDOMNESS)
    game, segments = signals.game, signals.segments
    assert game is not None
    assert segments is not None
    assert signals.rewards[0].tolist() == [letters("redtentboat")] * 2 + [letters("redboat")]
    assert segments.valid[0].tolist() == [[True] * 3 + [False], [True] * 4, [False] + [True] * 3]
    for g, text in enumerate(SAID):
        phrases = text.split(", ")
        for members, known, reward in zip(
            game.members[0, g].tolist(), game.evaluated[0, g], game.rewards[0, g], strict=True
        ):
            own = ", ".join(p for p, plays in zip(phrases, members, strict=True) if plays)
            if known:
                assert float(reward) == letters(WORDS.search_text(own, query=""))
    credit = ospo(signals).credit
    assert credit is not None
    shares = segment_credit(credit, segments.ids, 4)[0]
    torch.testing.assert_close(shares.nansum(-1), signals.rewards[0])
    # whoever says the same words earns the same, though only the first of them is in the text
    assert shares[0, 0] == pytest.approx(float(shares[0, 1]))
    assert shares[0, 3] == shares[2, 0] == 0  # unknown words


def test_coalitions_are_charged_for_their_own_words_and_shares_add_up(tmp_path):
    documents = Documents(ids=("a", "b"), texts=("red tent", "blue boat"))
    ranking = Ranking(measure=NDCG(), utility=Max(), word_cost=0.01, unknown_cost=0.1)
    reward = ranking.bind(BM25().index(documents, cache=tmp_path), catalogue=documents)
    ospo = OSPO(value=values.Shapley(), construction=Additive())
    rules = TextRules(max_words=2, new_words=True)
    scorer = Scorer(reward=reward, rules=rules, segmenter=Phrases())
    made = written(["red tent, xyzzy, a b c d, tent", "blue"])
    (prompt,) = made.prompts
    wanted = replace(prompt, relevance={"a": 3})
    signals = scorer(replace(made, prompts=(wanted,)), ospo.needs, randomness=RANDOMNESS)
    # eight words, five of them unknown: "a b c d" is too long to count, and costs
    assert signals.rewards.tolist() == [[pytest.approx(1 - 0.08 - 0.5), pytest.approx(-0.01)]]
    segments, credit = signals.segments, ospo(signals).credit
    assert segments is not None
    assert credit is not None
    shares = segment_credit(credit, segments.ids, 4)[0, 0]
    # the players' own text has four words, one unknown; their shares add up to what it earns
    assert signals.game is not None
    assert float(signals.game.rewards[0, 0, 1]) == pytest.approx(1 - 0.04 - 0.1)
    assert shares.tolist() == pytest.approx([0.48, -0.11, 0.0, 0.49], abs=1e-5)


class Priced:
    """A reward for each text, by hand; a copy earns .1."""

    prices: ClassVar = {"red, red, tent": 0.5, "red, tent": 0.4, "tent": 0.3, "red": 0.2, "": 0.0}

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Float[Tensor, " N"]:
        return torch.tensor([self.prices[text] for text in texts], dtype=DOUBLE)


@pytest.mark.parametrize(
    ("value", "credit"),
    [(values.LeaveOneOut(), [0.1, 0, 0.2]), (values.Shapley(), [0.15, 0, 0.25])],
    ids=repr,
)
def test_copies_that_are_scored_and_do_not_play_are_in_no_value_of_the_game(value, credit):
    ospo = OSPO(value=value, construction=Additive())
    scorer = Scorer(reward=Priced(), rules=TextRules(), segmenter=Phrases())
    signals = scorer(written(["red, red, tent", ""]), ospo.needs, randomness=RANDOMNESS)
    game = signals.game
    assert game is not None
    assert signals.rewards.tolist() == [[0.5, 0.0]]
    assert game.members[0, 0, 1].tolist() == [True, False, True]
    assert game.rewards[0, 0, :2].tolist() == [0.0, 0.4]
    found, segments = ospo(signals).credit, signals.segments
    assert found is not None
    assert segments is not None
    per_segment = segment_credit(found, segments.ids, 3)[0, 0]
    torch.testing.assert_close(per_segment, torch.tensor(credit, dtype=DOUBLE))


def test_a_game_without_the_copies_costs_one_reward_only_where_they_are_scored():
    asked = {}
    for rules in (TextRules(), TextRules(unique=True)):
        for first in (True, False):
            needs = Needs(coalitions=LeaveOneOut(), first_copies=first)
            signals = scored(written(["a, a, b", ""]), needs, rules=rules)
            asked[rules.unique, first] = signals.num_evaluations - 2
    assert asked == {(False, True): 3, (True, True): 2, (False, False): 3, (True, False): 3}


def test_copies_play_where_the_first_is_not_asked_for():
    game = scored(written(["a, a, b", "z"])).game
    assert game is not None
    assert game.players[0, 0].tolist() == [True, True, True]


def test_a_separator_stands_between_the_runs_of_a_coalition():
    reward = Letters()
    plain = TextRules()
    scored(written(["a; b, c d", "z"]), Needs(coalitions=LeaveOneOut()), reward=reward, rules=plain)
    assert reward.calls[1] == [("p0", "c d"), ("p0", "a; b")]


def test_groups_of_equal_rewards_are_skipped_only_where_their_credit_is_zero():
    rollouts = written(["a, b", "c, d"], ["a, b", "c"])
    asked = []
    for skips in (True, False):
        reward = Letters()
        needs = Needs(coalitions=Windows(), skips_equal_groups=skips)
        game = scored(rollouts, needs, reward=reward).game
        assert game is not None
        asked.append([name for name, _ in reward.calls[1]])
        assert game.evaluated[0].tolist() == [[True, True] + [not skips] * 2] * 2
        assert game.evaluated[1].tolist() == [[True] * 4, [True, True, False, False]]
        assert game.rewards[0, 0, :2].tolist() == [0.0, 0.02]
    assert asked == [["p1"] * 2, ["p0"] * 4 + ["p1"] * 2]


class Rounded(Letters):
    """A reward in float32, a unit in the last place more for texts that begin with z."""

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Float[Tensor, " N"]:
        exact = super().__call__(prompts, texts).float()
        more = torch.tensor([text.startswith("z") for text in texts])
        return torch.where(more, exact.nextafter(torch.ones(())), exact)


def test_groups_whose_rewards_differ_by_rounding_are_skipped_as_equal_ones_are():
    reward = Rounded()
    needs = Needs(coalitions=Windows(), skips_equal_groups=True)
    signals = scored(written(["a, b", "z, y"], ["a, b", "z"]), needs, reward=reward)
    assert signals.rewards[0].unique().numel() == 2
    assert {name for name, _ in reward.calls[1]} == {"p1"}
    metrics = rollout_metrics(written(["a, b", "z, y"], ["a, b", "z"]), signals)
    assert metrics["reward/equal_groups_share"] == 0.5


def test_a_response_without_players_has_the_empty_coalition_alone():
    signals = scored(written(["one two three", "a, b"], ["", "c"]))
    game, segments = signals.game, signals.segments
    assert game is not None
    assert segments is not None
    assert segments.mask[:, 0].tolist() == [[True, False], [False, False]]
    assert not game.players[:, 0].any()
    assert game.evaluated[:, 0].tolist() == [[True, False, False, False]] * 2
    assert game.rewards[:, 0].tolist() == [[0.0] * 4] * 2


def test_a_batch_without_any_segment_still_has_records():
    reward = Letters()
    signals = scored(written(["", " "]), reward=reward)
    assert signals.segments is not None
    assert signals.game is not None
    assert signals.segments.mask.tolist() == [[[False], [False]]]
    assert signals.game.members.shape == (1, 2, 2, 1)
    assert len(reward.calls) == 1


def test_a_plan_beyond_its_budget_is_sampled_from_the_response_s_own_stream():
    rollouts = written(["a, b, c, d", "e, f"], ["a, b, c, d", "g"])
    plan = Windows(budget=5)
    game = scored(rollouts, Needs(coalitions=plan), offset=3).game
    assert game is not None
    assert game.sampled.tolist() == [[True, False], [True, False]]
    for p in range(2):
        expected = plan(4, RANDOMNESS.generator("coalitions", (3 + p) * 2))
        assert game.members[p, 0].tolist() == expected.tolist()
    assert game.members[0, 0].tolist() != game.members[1, 0].tolist()


def test_the_same_coalitions_are_drawn_for_every_split_of_the_batch():
    groups = [["a, b, c, d", "e, f, g, h"], ["i, j, k, l", "m, n"], ["o, p, q", "r, s, t, u"]]
    needs = Needs(coalitions=Windows(budget=5))
    whole = scored(written(*groups), needs, offset=4).game
    assert whole is not None
    for p, group in enumerate(groups):
        part = scored(written(group), needs, offset=4 + p).game
        assert part is not None
        assert torch.equal(part.members[0], whole.members[p])
        assert torch.equal(part.rewards[0], whole.rewards[p])


def test_expanding_puts_the_query_before_every_coalition():
    reward = Letters()
    rules = replace(RULES, compose=Compose.expand)
    game = scored(written(["a, b", "c"]), rules=rules, reward=reward).game
    assert game is not None
    assert reward.calls[0] == [("p0", "p0 a, b"), ("p0", "p0 c")]
    assert reward.calls[1] == [("p0", "p0 a"), ("p0", "p0 b"), ("p0", "p0")]
    assert game.rewards[0, :, 0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "value", [values.Shapley(), values.Owen(), values.Myerson(), values.LeaveOneOut()]
)
def test_what_the_query_earns_alone_is_no_segment_s_credit(value):
    """Efficient values share out R(response) - R(query); letters add up, so each earns its own."""
    rules = replace(RULES, compose=Compose.expand)
    estimator = OSPO(value=value, construction=Additive())
    reward = Letters()
    rollouts = written(["a, bb, ccc", "a"], ["dd, e", "x"])
    signals = scored(rollouts, estimator.needs, rules=rules, reward=reward)
    credit = estimator(signals).credit
    assert credit is not None
    assert signals.segments is not None
    shares = segment_credit(credit, signals.segments.ids, signals.segments.mask.shape[2])
    alone = reward(rollouts.prompts, [prompt.query for prompt in rollouts.prompts])
    assert (alone > 0).all()
    assert torch.allclose(shares.nansum(-1), signals.rewards - alone[:, None], atol=1e-6)


def count_vowels(texts: Sequence[str]) -> Float[Tensor, "N D"]:
    return torch.tensor([[float(text.count(vowel)) for vowel in "aei"] for text in texts])


def test_embeddings_are_of_the_scored_texts_and_only_where_they_are_needed():
    scorer = Scorer(reward=Letters(), rules=RULES, segmenter=Phrases(), encoder=count_vowels)
    rollouts = written(["<answer>aa, i</answer>", "e"], ["", "x, y"])
    signals = scorer(rollouts, Needs(embeddings=True), randomness=RANDOMNESS)
    assert signals.embeddings is not None
    assert signals.embeddings.tolist() == [[[2, 0, 1], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]]]
    assert scorer(rollouts, Needs(), randomness=RANDOMNESS).embeddings is None


def test_what_cannot_be_computed_is_refused():
    with pytest.raises(ValueError, match="choose encoder"):
        scored(written(["a", "b"]), Needs(embeddings=True))
    with pytest.raises(ValueError, match=r"dataset\.candidates=4"):
        scored(written(["a", "b"]), Needs(candidates=True))


def test_a_reward_that_fails_is_not_hidden():
    def broken(prompts: Sequence, texts: Sequence[str]) -> Float[Tensor, " N"]:
        raise RuntimeError("the index is gone")

    scorer = Scorer(reward=broken, rules=RULES, segmenter=Phrases())
    with pytest.raises(RuntimeError, match="the index is gone"):
        scorer(written(["a", "b"]), Needs(), randomness=RANDOMNESS)


def test_the_union_of_a_segment_is_the_sentence_it_begins_in():
    rules = TextRules()
    signals = scored(written(["<answer>a, b. c, d! e</answer>", "a, b"]), rules=rules)
    assert signals.game is not None
    assert signals.game.unions is not None
    # "a", "b. c", "d! e"; the sentences begin at "a", "c" and "e".
    assert signals.game.unions[0].tolist() == [[0, 0, 1], [0, 0, 0]]


def test_no_segment_is_looked_for_in_responses_that_were_sampled_for_their_texts():
    whole = written(["<answer>ab, c d e, ab</answer>", "xy"])
    texts = replace(whole, char_spans=None)
    signals = scored(texts, Needs())
    assert signals.segments is None
    assert torch.equal(signals.rewards, scored(whole, Needs()).rewards)
    assert not {name for name in rollout_metrics(texts, signals) if name.startswith("segments/")}
    with pytest.raises(ValueError, match="sample with spans=True"):
        scored(texts, ALL)


class Whole(Letters):
    """A reward that means nothing for a part of a response."""


scores_parts.register(Whole, lambda reward: False)


def test_segments_are_of_use_where_parts_have_a_reward_or_the_estimator_credits_them():
    assert reads_segments(GRPO(), Letters())
    assert not reads_segments(GRPO(), Whole())
    assert reads_segments(OSPO(value=values.Shapley(), construction=Additive()), Whole())
