"""Slow and obvious forms of the values, straight from their definitions, over a game's table."""

from itertools import combinations, pairwise, permutations
from math import factorial


def shapley(values, n):
    """Mean marginal contribution over all orders of joining."""
    credit = [0.0] * n
    for order in permutations(range(n)):
        coalition = 0
        for player in order:
            grown = coalition | 1 << player
            credit[player] += float(values[grown]) - float(values[coalition])
            coalition = grown
    return [c / factorial(n) for c in credit]


def owen(values, unions):
    """Mean marginal contribution over the orders in which no union is interrupted."""
    n = len(unions)
    credit, count = [0.0] * n, 0
    for order in permutations(range(n)):
        labels = [unions[player] for player in order]
        changes = sum(a != b for a, b in pairwise(labels))
        if changes + 1 > len(set(labels)):
            continue
        count += 1
        coalition = 0
        for player in order:
            grown = coalition | 1 << player
            credit[player] += float(values[grown]) - float(values[coalition])
            coalition = grown
    return [c / count for c in credit]


def runs(coalition, n):
    """Maximal runs of neighbours in a coalition of players on a path."""
    found, start = [], None
    for i in range(n + 1):
        inside = i < n and bool(coalition >> i & 1)
        if inside and start is None:
            start = i
        if not inside and start is not None:
            found.append((start, i - 1))
            start = None
    return found


def path_restricted(windows, n):
    """Table of the game in which a coalition earns what its connected runs earn."""
    return [sum(float(windows[a, b]) for a, b in runs(s, n)) for s in range(2**n)]


def released_window(windows, n, evaluated):
    """OSPO's released sum over pairs of evaluated coalitions, by enumeration of all coalitions."""
    known = {0: 0.0}
    for a, b in combinations(range(n + 1), 2):
        if evaluated(a, b - 1):
            known[sum(1 << i for i in range(a, b))] = float(windows[a, b - 1])
    credit, weights = [0.0] * n, [0.0] * n
    for coalition, value in known.items():
        for player in range(n):
            grown = coalition | 1 << player
            if grown == coalition or grown not in known:
                continue
            size = bin(coalition).count("1")
            weight = factorial(size) * factorial(n - size - 1) / factorial(n)
            credit[player] += weight * (known[grown] - value)
            weights[player] += weight
    return credit, weights
