"""Signals, games and batches to test with; and Hypothesis strategies over them."""

from dataclasses import replace

import hypothesis.strategies as st
import torch
from hypothesis import settings

from rlcredit.credit.entropy import entropy_ranks
from rlcredit.types import (
    CandidateRewards,
    CoalitionGame,
    Randomness,
    Segments,
    Signals,
    UpdateBatch,
)

DOUBLE = torch.float64
settings.register_profile("rlcredit", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("rlcredit")


def reals(low=-3.0, high=3.0):
    """Finite numbers, some of them equal, zero or tiny."""
    return st.one_of(
        st.sampled_from([0.0, 0.5, 1.0]),
        st.floats(low, high, allow_nan=False, width=32),
    )


@st.composite
def tables(draw, smallest=0, largest=5):
    """A game's table, values[S] with v(empty) = 0; and its number of players."""
    n = draw(st.integers(smallest, largest))
    values = draw(st.lists(reals(), min_size=2**n, max_size=2**n))
    return torch.tensor([0.0, *values[1:]], dtype=DOUBLE), n


def windows_of(values, n):
    """The windows of a game's table: [a, b] = v(players a..b)."""
    table = torch.zeros(n, n, dtype=DOUBLE)
    for a in range(n):
        for b in range(a, n):
            table[a, b] = values[sum(1 << i for i in range(a, b + 1))]
    return table


def make_layout(lengths, *, num_tokens=None, eos=True):
    """Segment ids [1, G, T] and response mask for token counts of segments, one list a response.

    A separator follows each segment but the last, an end-of-sequence token the last.
    """
    rows = []
    for response in lengths:
        row = []
        for segment, length in enumerate(response):
            row += [segment] * length
            row += [-1] if segment < len(response) - 1 or eos else []
        rows.append(row)
    width = num_tokens or max(len(row) for row in rows)
    ids = torch.full((1, len(rows), width), -1)
    mask = torch.zeros(1, len(rows), width, dtype=torch.bool)
    for g, row in enumerate(rows):
        ids[0, g, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[0, g, : len(row)] = True
    return ids, mask


def make_segments(ids, num_segments):
    """Segments with the given tokens; all valid and first; spans are of no account here."""
    present = torch.stack([(ids == m).any(dim=-1) for m in range(num_segments)], dim=-1)
    spans = torch.zeros(*present.shape, 2, dtype=torch.long)
    return Segments(spans=spans, mask=present, valid=present, first=present.clone(), ids=ids)


def make_game(plan, players, value, *, generator=None):
    """The coalitions of ``plan``, each scored by ``value(p, g, member columns) -> float``."""
    num_prompts, group_size, num_segments = players.shape
    generator = generator or torch.Generator().manual_seed(0)
    rows, sampled = [], torch.zeros(num_prompts, group_size, dtype=torch.bool)
    for p in range(num_prompts):
        for g in range(group_size):
            columns = players[p, g].nonzero().flatten()
            compact = plan(len(columns), generator)
            sampled[p, g] = plan.is_sampled(len(columns))
            wide = torch.zeros(len(compact), num_segments, dtype=torch.bool)
            wide[:, columns] = compact
            rows.append(wide)
    count = max(len(r) for r in rows)
    members = torch.zeros(len(rows), count, num_segments, dtype=torch.bool)
    evaluated = torch.zeros(len(rows), count, dtype=torch.bool)
    rewards = torch.zeros(len(rows), count, dtype=DOUBLE)
    for b, wide in enumerate(rows):
        members[b, : len(wide)] = wide
        evaluated[b, : len(wide)] = True
        for c, row in enumerate(wide):
            chosen = tuple(row.nonzero().flatten().tolist())
            where = divmod(b, group_size)
            rewards[b, c] = value(*where, chosen) if chosen else 0.0
    shape = (num_prompts, group_size)
    return CoalitionGame(
        players=players,
        members=members.reshape(*shape, count, num_segments),
        rewards=rewards.reshape(*shape, count),
        evaluated=evaluated.reshape(*shape, count),
        sampled=sampled,
    )


def random_value(seed):
    """A game with synergies, the same for every call with the same seed."""
    generator = torch.Generator().manual_seed(seed)
    single = torch.rand(64, 64, generator=generator, dtype=DOUBLE)
    pair = torch.rand(64, 64, generator=generator, dtype=DOUBLE) - 0.5

    def value(p, g, chosen):
        own = sum(float(single[(p * 8 + g) % 64, m]) for m in chosen)
        return own + sum(float(pair[i, j]) for i in chosen for j in chosen if i < j) / 4

    return value


def make_signals(
    needs, *, num_prompts=3, group_size=4, num_segments=5, seed=0, dtype=torch.float32
):
    """A batch of responses of 0 to M segments with every signal that ``needs`` names."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high, *shape):
        return torch.randint(low, high, shape, generator=generator)

    ids, mask = [], []
    for _ in range(num_prompts):
        lengths = []
        for _ in range(group_size):
            lengths.append(draw(1, 4, int(draw(1, num_segments + 1, 1))).tolist())
        rows, kept = make_layout(lengths, num_tokens=num_segments * 4 + 1)
        ids.append(rows)
        mask.append(kept)
    ids, mask = torch.cat(ids), torch.cat(mask)
    segments = make_segments(ids, num_segments)
    first = segments.mask.clone()
    first[:, :, 1] &= draw(0, 2, num_prompts, group_size).bool()
    segments = replace(segments, first=first)
    value = random_value(seed)
    rewards = torch.rand(num_prompts, group_size, generator=generator, dtype=DOUBLE)
    signals = Signals(
        rewards=rewards.to(dtype),
        response_mask=mask,
        segments=segments,
        randomness=Randomness(seed=seed, step=3),
    )
    if needs.coalitions is not None:
        players = segments.first if needs.first_copies else segments.mask
        game = make_game(needs.coalitions, players, value, generator=generator)
        whole = torch.tensor(
            [
                [
                    value(p, g, tuple(players[p, g].nonzero().flatten().tolist()))
                    for g in range(group_size)
                ]
                for p in range(num_prompts)
            ],
            dtype=DOUBLE,
        )
        game = replace(game, rewards=game.rewards.to(dtype))
        signals = replace(signals, rewards=whole.to(dtype), game=game)
    if needs.candidates:
        signals = _with_candidates(signals, generator, dtype)
    if needs.embeddings:
        embeddings = torch.rand(num_prompts, group_size, 6, generator=generator, dtype=DOUBLE)
        signals = replace(signals, embeddings=embeddings.to(dtype))
    return _of_policy(signals, needs, generator, dtype)


def _of_policy(signals, needs, generator, dtype):
    """What the policy is asked besides: values of states, distributions of tokens."""
    if needs.continuations:
        shape = (*signals.rewards.shape, signals.segments.mask.shape[-1] + 1)
        values = torch.rand(shape, generator=generator, dtype=DOUBLE)
        signals = replace(signals, state_values=values.to(dtype))
    if needs.sum_pi_squared:
        shape = signals.response_mask.shape
        chance, rest = torch.rand(2, *shape, generator=generator, dtype=DOUBLE)
        squares = chance.square() + (1 - chance).square() * rest
        signals = replace(
            signals, logprobs=chance.log().to(dtype), sum_pi_squared=squares.to(dtype)
        )
    return signals


def _with_candidates(signals, generator, dtype):
    """The first three segments as candidates; a response of fewer has some missing."""
    ids = torch.where(signals.segments.ids < 3, signals.segments.ids, -1)
    mask = signals.segments.mask[..., :3]
    rewards = torch.rand(mask.shape, generator=generator, dtype=DOUBLE) * mask
    candidates = CandidateRewards(
        rewards=rewards.to(dtype), mask=mask, candidate_ids=ids, num_asked=3
    )
    return replace(signals, candidates=candidates, rewards=rewards.amax(dim=-1).to(dtype))


def make_batch(*, num_prompts=3, group_size=4, num_tokens=6, seed=0, constant=False, ref=True):
    """Log-probs and what a loss may see besides; padded responses of 0 to T tokens."""
    generator = torch.Generator().manual_seed(seed)
    shape = (num_prompts, group_size, num_tokens)

    def normal(*size):
        return torch.randn(size, generator=generator, dtype=DOUBLE)

    lengths = torch.randint(1, num_tokens + 1, shape[:2], generator=generator)
    lengths[0, 0] = num_tokens
    mask = torch.arange(num_tokens) < lengths.unsqueeze(-1)
    advantages = normal(num_prompts, group_size, 1).expand(shape) if constant else normal(*shape)
    old = -normal(*shape).abs()
    entropy = torch.rand(shape, generator=torch.Generator().manual_seed(seed + 1), dtype=DOUBLE)
    batch = UpdateBatch(
        advantages=torch.where(mask, advantages, 0),
        response_mask=mask,
        old_logprobs=old,
        rollout_logprobs=old.clone(),
        ref_logprobs=-normal(*shape).abs() if ref else None,
        entropy_rank=entropy_ranks(entropy, mask),
        num_tokens=int(mask.sum()),
        num_rollouts=num_prompts * group_size,
        num_prompts=num_prompts,
    )
    return old + 0.3 * normal(*shape), batch
