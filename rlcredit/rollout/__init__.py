"""Rollouts: sampling responses, scoring them and their parts, and watching their health."""

from rlcredit.rollout.health import rollout_metrics
from rlcredit.rollout.hf import HFRollout
from rlcredit.rollout.vllm import VLLMRollout

__all__ = ["HFRollout", "VLLMRollout", "rollout_metrics"]
