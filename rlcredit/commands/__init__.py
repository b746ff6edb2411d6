"""What a person types: one module a command. The only package that knows Hydra."""

__all__: list[str] = []
