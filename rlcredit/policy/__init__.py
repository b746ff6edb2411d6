"""Policies: causal language models with their tokenizers, from scratch or pretrained."""

from rlcredit.policy.hf import HF, Dtype
from rlcredit.policy.tiny import Tiny

__all__ = ["HF", "Dtype", "Tiny"]
