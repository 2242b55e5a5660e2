"""Cases take turns, so that whatever else the machine does falls on all of them."""

import time
from collections.abc import Callable, Mapping

Repeat = Callable[[int], None]
"""Does one thing as often as it is told."""

_TRIAL_S = 0.02


def rates(cases: Mapping[str, Repeat], *, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return how often a second each case does its thing, one figure a round.

    Args:
        cases: each does its thing n times.
        rounds: how often each is measured.
        seconds: about how long one measurement takes.
    """
    counts = {name: _count(case, seconds) for name, case in cases.items()}
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            found[name].append(counts[name] / _timed(case, counts[name]))
    return found


def _count(case: Repeat, seconds: float) -> int:
    """Return how many fit into ``seconds``; warms the case up."""
    count = 1
    while (elapsed := _timed(case, count)) < _TRIAL_S:
        count *= 2
    return max(1, round(count * seconds / elapsed))


def _timed(case: Repeat, count: int) -> float:
    began = time.perf_counter()
    case(count)
    return time.perf_counter() - began
