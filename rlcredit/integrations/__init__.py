"""Credit where people already train: one module a trainer.

TRL's is behind an extra. Those of prime-rl, slime and SkyRL are handed what they need of the
trainer and import nothing of it.
"""

__all__: list[str] = []
