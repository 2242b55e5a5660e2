"""Whose turn it is in a lane: the order in which a wallet's ready payouts are sent.

Fast goes before Standard and Standard before Slow, and waiting helps: with every ``AGEING`` that a payout is ready
its level rises by one, up to that of Fast:

    level now = max(0, level - (now - ready since) // AGEING)        Fast 0, Standard 1, Slow 2

Of the same level initiators take turns, of one initiator its batches (what belongs to none is one more of them), and
of one batch the longest ready goes first. So a million payouts of one batch delay nobody else for long: behind what is
ahead in its own batch, a payout waits until its level is 0 and then for one payout of every other one a turn.

Turns are counted as start-time fair queueing does: who comes back after a pause has saved nothing up. They live in the
worker's memory only: after a restart everybody is equal again.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from outlay.core.seams import MINUTE, Instant

AGEING: Instant = 5 * MINUTE
"""How long a payout is ready until its level rises by one."""

LEVELS: Mapping[str, int] = {"Fast": 0, "Standard": 1, "Slow": 2}
"""The level of each priority; the lowest goes first."""


class Queued(Protocol):
    """A ready payout, as far as its turn depends on it."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def flow(self) -> str:
        """What it takes turns with, from ``flow_of``."""

    @property
    def level(self) -> int:
        """That of its priority."""

    @property
    def ready_at(self) -> Instant:
        """Since when it has been ready."""


Q = TypeVar("Q", bound=Queued)


def flow_of(initiator_id: str, batch_id: str | None) -> str:
    """Return the name of the queue that a payout stands in: its initiator's batch, or what belongs to none."""
    return f"{initiator_id}/{batch_id or ''}"


def level_of(priority: object) -> int:
    """Return the level of a priority; one that is not known is Standard."""
    return LEVELS.get(str(priority), LEVELS["Standard"])


def level_now(row: Queued, now: Instant) -> int:
    """Return the level a payout has by now."""
    return max(0, row.level - max(0, now - row.ready_at) // AGEING)


class _Shares:
    """Turns of several parties: the one with the lowest start goes next."""

    def __init__(self, taken: Mapping[str, int] | None = None, clock: int = 0) -> None:
        self._taken = dict(taken or {})  # when each party's next turn may start; none: whenever it comes
        self._clock = clock

    def copy(self) -> "_Shares":
        return _Shares(self._taken, self._clock)

    def start(self, name: str) -> int:
        return max(self._clock, self._taken.get(name, 0))

    def take(self, name: str) -> None:
        self._clock = self.start(name)
        self._taken[name] = self._clock + 1
        if len(self._taken) > 1000:  # what is not ahead of the clock says nothing
            self._taken = {each: at for each, at in self._taken.items() if at > self._clock}


class Turns:
    """Whose turn it is in one lane."""

    def __init__(self) -> None:
        """Begin with everybody equal."""
        self._initiators = _Shares()
        self._flows: dict[str, _Shares] = {}  # by initiator

    def took(self, row: Queued) -> None:
        """Count a turn that was taken."""
        initiator = _initiator(row)
        self._initiators.take(initiator)
        self._flows.setdefault(initiator, _Shares()).take(row.flow)

    def order(self, rows: Iterable[Q], now: Instant) -> list[Q]:
        """Return payouts in the order in which they should go; nothing is counted yet."""
        levels: dict[int, dict[str, dict[str, list[Q]]]] = {}
        for row in rows:
            flows = levels.setdefault(level_now(row, now), {}).setdefault(_initiator(row), {})
            flows.setdefault(row.flow, []).append(row)
        names = sorted({name for waiting in levels.values() for name in waiting})
        shares = {name: self._flows.get(name, _Shares()).copy() for name in names}
        initiators = self._initiators.copy()
        return [row for level in sorted(levels) for row in _alternate(levels[level], initiators, shares)]


def _initiator(row: Queued) -> str:
    return row.flow.partition("/")[0]


def _alternate(
    waiting: dict[str, dict[str, list[Q]]], initiators: _Shares, shares: Mapping[str, _Shares]
) -> Iterator[Q]:
    """Yield the payouts of one level, given by initiator and flow, in the order of turns."""
    for flows in waiting.values():
        for rows in flows.values():
            rows.sort(key=lambda row: (row.ready_at, row.id), reverse=True)  # the next one is at the end
    heap = [(initiators.start(name), name) for name in waiting]
    inner = {name: [(shares[name].start(flow), flow) for flow in flows] for name, flows in waiting.items()}
    for each in (heap, *inner.values()):
        heapq.heapify(each)
    while heap:
        _, name = heapq.heappop(heap)
        _, flow = heapq.heappop(inner[name])
        yield waiting[name][flow].pop()
        initiators.take(name)
        shares[name].take(flow)
        if waiting[name][flow]:
            heapq.heappush(inner[name], (shares[name].start(flow), flow))
        if inner[name]:
            heapq.heappush(heap, (initiators.start(name), name))


def columns_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a stored transfer says about its turn.

    Args:
        values: columns of the transfer, ``initiator_id`` and ``intent`` among them.
    """
    return {
        "flow": flow_of(values["initiator_id"], values.get("batch_id")),
        "level": level_of(values["intent"].get("priority")),
    }


def page_size(parties: Sequence[object], *, least: int, all_of_them: int) -> int:
    """Return how many payouts of each party to look at, so that about ``all_of_them`` are looked at together."""
    return max(least, -(-all_of_them // max(1, len(parties))))
