"""Credit where people already train: one module a trainer.

Those of TRL and verifiers are behind extras. Those of prime-rl, slime, SkyRL and verl are handed
what they need of the trainer and import nothing of it; what verl imports is a module beside its
own.
"""

__all__: list[str] = []
