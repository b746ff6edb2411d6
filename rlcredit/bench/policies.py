"""Policies over a tree: their log-probabilities, exactly, and how these move with parameters."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlcredit.bench.tree import Tree


@runtime_checkable
class TreePolicy(Protocol):
    """Parameters to the logits of every state, for every question. Differentiable."""

    def num_parameters(self, tree: Tree, num_questions: int) -> int:
        """D, the length of the parameter vector."""
        ...

    def logits(
        self, parameters: Float[Tensor, " D"], tree: Tree, num_questions: int
    ) -> Float[Tensor, "Q S A"]:
        """Logits of every action; those that a state does not offer are not read."""
        ...


@dataclass(frozen=True, kw_only=True)
class Tabular:
    """A number for each action that each state offers, for each question: no sharing at all."""

    def num_parameters(self, tree: Tree, num_questions: int) -> int:
        """Count the actions of all states, for each question."""
        return num_questions * int(tree.allowed.sum())

    def logits(
        self, parameters: Float[Tensor, " D"], tree: Tree, num_questions: int
    ) -> Float[Tensor, "Q S A"]:
        """Pick each offered action's own parameter; 0 for the others."""
        offered = tree.allowed.expand(num_questions, -1, -1)
        place = offered.flatten().long().cumsum(dim=0).reshape(offered.shape) - 1
        return torch.where(offered, parameters[place.clamp(min=0)], 0)


@dataclass(frozen=True, kw_only=True)
class Recurrent:
    """A tiny autoregressive network (Elman 1990): all states and questions share its weights.

    h = tanh(U h_before + e(token)), logits = W h; a question is the h before the first token.
    """

    width: int = 5

    def num_parameters(self, tree: Tree, num_questions: int) -> int:
        """Count the weights: questions, U, and two tables of tokens, each of rows of the width."""
        num_actions = tree.allowed.shape[1]
        return self.width * (num_questions + self.width + 2 * num_actions)

    def logits(
        self, parameters: Float[Tensor, " D"], tree: Tree, num_questions: int
    ) -> Float[Tensor, "Q S A"]:
        """Run the network along every prefix of the tree."""
        width, num_actions = self.width, tree.allowed.shape[1]
        rows = (num_questions, width, num_actions, num_actions)
        start, within, tokens, out = parameters.unflatten(0, (-1, width)).split(rows)
        hidden: dict[tuple[int, ...], Tensor] = {(): start}
        for prefix in tree.prefixes[1:]:  # each after the one that it continues
            before = hidden[prefix[:-1]]
            hidden[prefix] = torch.tanh(before @ within + tokens[prefix[-1]])
        return torch.stack([hidden[prefix] for prefix in tree.prefixes], dim=1) @ out.T


def action_logprobs(
    policy: TreePolicy, parameters: Float[Tensor, " D"], tree: Tree, num_questions: int
) -> Float[Tensor, "Q S A"]:
    """Log-probabilities in nats of every action in every state; -inf where not offered."""
    logits = policy.logits(parameters, tree, num_questions)
    return logits.masked_fill(~tree.allowed, -torch.inf).log_softmax(dim=-1)


def token_logprobs(
    policy: TreePolicy, parameters: Float[Tensor, " D"], tree: Tree, num_questions: int
) -> Float[Tensor, "Q R T"]:
    """Log-probabilities in nats of the tokens of every response; 0 on padding."""
    table = action_logprobs(policy, parameters, tree, num_questions)
    # padding reads an action that its state offers, so that no gradient is 0 times infinity
    actions = torch.where(tree.mask, tree.tokens, _any_action(tree)[tree.states])
    return torch.where(tree.mask, table[:, tree.states, actions], 0)


def token_scores(
    policy: TreePolicy, parameters: Float[Tensor, " D"], tree: Tree, num_questions: int
) -> Float[Tensor, "Q R T D"]:
    """Gradient of log pi(token) in the parameters, by autograd; 0 on padding."""

    def states(parameters: Tensor) -> Tensor:
        table = action_logprobs(policy, parameters, tree, num_questions)
        return torch.where(tree.allowed, table, 0)

    table = torch.func.jacrev(states)(parameters)
    scores = table[:, tree.states, tree.tokens]
    return torch.where(tree.mask.unsqueeze(-1), scores, 0)


def _any_action(tree: Tree) -> Int[Tensor, " S"]:
    return tree.allowed.to(torch.uint8).argmax(dim=-1)
