"""Rewards: a prompt and a text in, a number out."""

from rlcredit.retrieval.measures import NDCG, AveragePrecision, Recall, ReciprocalRank
from rlcredit.rewards.base import Reward
from rlcredit.rewards.function import Function
from rlcredit.rewards.model import RewardModel
from rlcredit.rewards.ranking import Ranking
from rlcredit.rewards.sum import WeightedSum
from rlcredit.rewards.verifier import Verifier

__all__ = [
    "NDCG",
    "AveragePrecision",
    "Function",
    "Ranking",
    "Recall",
    "ReciprocalRank",
    "Reward",
    "RewardModel",
    "Verifier",
    "WeightedSum",
]
