"""Credit where people already train: one module a trainer, each behind an extra of its own."""

__all__: list[str] = []
