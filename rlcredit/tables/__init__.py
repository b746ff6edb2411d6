"""Tables that carry their proof: declared before the runs, filled from run folders alone."""

from rlcredit.tables.declare import Claim, Data, Logged, Reduce, Row, Score, Size, Table

__all__ = ["Claim", "Data", "Logged", "Reduce", "Row", "Score", "Size", "Table"]
