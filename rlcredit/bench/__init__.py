"""The credit bench: worlds small enough to sum over, where what an estimator should do is known."""

from rlcredit.bench.exact import OBJECTIVES, optimum, truth
from rlcredit.bench.worlds import World, worlds

__all__ = ["OBJECTIVES", "World", "optimum", "truth", "worlds"]
