"""Reports: from a run's record to statistics, tables and what a person reads."""

__all__: list[str] = []
