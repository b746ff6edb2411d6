"""What a person types: one module a command, and how components come from configs. Knows Hydra."""

__all__: list[str] = []
