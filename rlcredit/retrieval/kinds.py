"""What can be chosen about a sentence encoder."""

from enum import StrEnum, auto

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


class Pooling(StrEnum):
    """How token vectors become a text's vector, for models that do not say."""

    cls = auto()
    mean = auto()


class Role(StrEnum):
    """What a text is to the model, which may have a prompt for it."""

    query = auto()
    document = auto()


class Dtype(StrEnum):
    """What the transformer computes in; vectors are pooled, stored and compared in float32."""

    float32 = auto()
    bfloat16 = auto()
    """Faster on processors that multiply it; then a score depends on its batch by up to 1e-3, and
    near ties swap: with MiniLM a reward moves by .002 to .004 on average (docs/results)."""
