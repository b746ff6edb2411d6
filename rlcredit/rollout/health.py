"""Is the run healthy? Figures about what the policy writes, which credit alone does not show."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlcredit.credit.group import equal_rewards
from rlcredit.credit.masked import masked_mean
from rlcredit.text.copying import WordRuns
from rlcredit.text.words import words
from rlcredit.types import Metrics, Rollouts, Signals


def rollout_metrics(
    rollouts: Rollouts, signals: Signals, *, documents: WordRuns | None = None
) -> Metrics:
    """Figures about a batch of responses, their segments and their rewards.

    A share of segments is 0 where no response has a segment. ``reward/group_std`` is the mean over
    groups of the population std within a group; ``reward/std`` is taken over all responses.

    Args:
        rollouts: P x G responses.
        signals: Of the same responses.
        documents: Of the catalogue, where the task has one.
    """
    rewards = signals.rewards
    lengths = rollouts.response_mask.sum(-1).to(rewards.dtype)
    empty = [[not text.strip() for text in group] for group in rollouts.texts]
    metrics = {
        "response/length_tokens": lengths.mean(),
        "response/sampled_tokens": lengths.sum() + signals.num_extra_tokens,
        "response/truncated_share": _share(~rollouts.finished),
        "response/empty_share": _share(torch.tensor(empty)),
        "response/distinct_share": _distinct(rollouts),
        "text/prompt_copied_share": prompt_copied_share(rollouts),
        "text/repeated_share": repeated_share(rollouts),
        "reward/mean": rewards.mean(),
        "reward/std": rewards.std(correction=0),
        "reward/group_std": rewards.std(1, correction=0).mean(),
        "reward/zero_share": _share(rewards == 0),
        "reward/equal_groups_share": _share(equal_rewards(rewards)),
        "reward/evaluations": torch.tensor(float(signals.num_evaluations)),
    }
    if documents is not None:
        metrics["text/document_copied_share"] = document_copied_share(rollouts, documents)
        metrics["text/unknown_share"] = unknown_share(rollouts, documents)
    if signals.counts is not None:
        metrics |= signals.counts.metrics()
    return metrics | _segment_metrics(signals) | _candidate_metrics(signals)


def prompt_copied_share(rollouts: Rollouts) -> Float[Tensor, ""]:
    """Share of all responses' words that stand in their query; 0 without words.

    A word is a run of letters and digits, case aside. What an instruction says around the query
    does not count; a verified problem is a query as it stands.
    """
    copied = total = 0
    for prompt, group in zip(rollouts.prompts, rollouts.texts, strict=True):
        read = set(words(prompt.query or prompt.text))
        written = [word for text in group for word in words(text)]
        copied += sum(word in read for word in written)
        total += len(written)
    return torch.tensor(copied / max(1, total))


def document_copied_share(rollouts: Rollouts, documents: WordRuns) -> Float[Tensor, ""]:
    """Share of all responses' words in runs of three that stand in one document's text.

    A policy that has learnt titles by heart shows here; 0 without words.
    """
    flags = [flag for group in rollouts.texts for text in group for flag in documents.copied(text)]
    return torch.tensor(sum(flags) / max(1, len(flags)))


def repeated_share(rollouts: Rollouts) -> Float[Tensor, ""]:
    """Share of all responses' words that the same response has said before; 0 without words."""
    said = [words(text) for group in rollouts.texts for text in group]
    total = sum(map(len, said))
    return torch.tensor((total - sum(len(set(own)) for own in said)) / max(1, total))


def unknown_share(rollouts: Rollouts, documents: WordRuns) -> Float[Tensor, ""]:
    """Share of all responses' words that no document of the catalogue holds; 0 without words."""
    said = [word for group in rollouts.texts for text in group for word in words(text)]
    return torch.tensor(sum(word not in documents.numbers for word in said) / max(1, len(said)))


def perplexity(
    logprobs: Float[Tensor, "P G T"], response_mask: Bool[Tensor, "P G T"]
) -> Float[Tensor, ""]:
    """``exp`` of the mean surprise of a token, in a model's eyes; 1 without tokens.

    With the log-probs of the starting policy it says how far the texts have left its language; of
    a policy that stays where it started it is ``exp`` of its entropy, in expectation.

    Args:
        logprobs: Of each response token, in nats.
        response_mask: Which tokens are responses'.
    """
    return (-masked_mean(logprobs.flatten(), response_mask.flatten())).exp()


def _segment_metrics(signals: Signals) -> Metrics:
    segments = signals.segments
    if segments is None:
        return {}
    metrics = {
        "segments/per_response": segments.mask.sum(-1).float().mean(),
        "segments/valid_share": _share(segments.valid, among=segments.mask),
        "segments/duplicate_share": _share(~segments.first, among=segments.mask),
    }
    if signals.game is not None:
        metrics["segments/players_per_response"] = signals.game.players.sum(-1).float().mean()
        metrics["coalitions/sampled_share"] = _share(signals.game.sampled)
    return metrics


def _candidate_metrics(signals: Signals) -> Metrics:
    candidates = signals.candidates
    if candidates is None:
        return {}
    complete = candidates.complete
    rewards = torch.where(candidates.mask & complete.unsqueeze(-1), candidates.rewards, 0)
    metrics = {
        "candidates/per_response": candidates.mask.sum(-1).float().mean(),
        "candidates/complete_share": _share(complete),
        "candidates/mean_reward": rewards.sum(-1).mean() / candidates.num_asked,
    }
    if candidates.first is not None:
        metrics["candidates/distinct_share"] = _share(candidates.first, among=candidates.mask)
    return metrics


def _distinct(rollouts: Rollouts) -> Float[Tensor, ""]:
    """Different texts of a group, as a share of its responses."""
    shares = [len(set(group)) / len(group) for group in rollouts.texts]
    return torch.tensor(sum(shares) / len(shares))


def _share(flags: Bool[Tensor, "*A"], among: Bool[Tensor, "*A"] | None = None) -> Float[Tensor, ""]:
    """Mean of the flags, over the entries of ``among`` where it is given."""
    chosen = flags if among is None else flags[among]
    return chosen.float().mean() if chosen.numel() else torch.zeros(())
