"""Breadth-first search over all interleavings: what is found first has the fewest faults, then the fewest steps."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tests.explorer.model import (
    CANCELED,
    CLOSED,
    CONFIRMED,
    FAILED,
    INITIAL,
    LATER,
    OPEN,
    VOID,
    Model,
    State,
    canonical,
)

Check = Callable[[State], bool]
"""Tells whether a state is as it must be."""


def _paid(s: State, payout: int) -> list[int]:
    """Return the nonces at which a payout was paid, on the chain as it is."""
    return [nonce for nonce, (of, number, ok) in enumerate(s.chain) if of == payout and ok and number != VOID]


def _bytes_stored(s: State) -> bool:
    return s.recovering or all(
        nonce < len(s.slots)
        and s.slots[nonce].payout == payout
        and (s.slots[nonce].state == CLOSED or (number, True) in s.slots[nonce].rows)
        for nonce, payout, number in s.known
    )


def _released_unsigned(s: State) -> bool:
    return s.recovering or all(
        nonce < len(s.slots)
        and s.slots[nonce].payout == payout
        and (s.slots[nonce].state != CLOSED or s.ends[payout] != OPEN)
        for nonce, payout, _ in s.journal
    )


def _one_slot(s: State) -> bool:
    bound = [slot.payout for slot in s.slots if slot.state != CLOSED]
    return len(set(bound)) == len(bound)


MONEY: Mapping[str, Check] = {
    "paid twice": lambda s: all(len(_paid(s, payout)) <= 1 for payout in (0, 1)),
    "confirmed, but not finally paid": lambda s: all(
        end != CONFIRMED or any(nonce < s.final for nonce in _paid(s, payout)) for payout, end in enumerate(s.ends)
    ),
    "failed or canceled, but paid": lambda s: all(
        end not in (FAILED, CANCELED) or not _paid(s, payout) for payout, end in enumerate(s.ends)
    ),
}
"""What can be seen on the chain."""

RULES: Mapping[str, Check] = {
    "sent, but not stored": _bytes_stored,
    "left the signer, but is not in its journal": lambda s: s.known <= s.journal,
    "signed, but free to be bound again": _released_unsigned,
    "two slots for one payout": _one_slot,
    "a payout attempt after a void": lambda s: all(number != LATER for _, _, number in s.journal),
}
"""What the rules promise, so that a single broken one is seen even where another still saves the money."""

STUCK = "no end can be reached"

ALL: Mapping[str, Check] = {**MONEY, **RULES}


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found."""

    states: int
    seconds: float
    violation: str | None  #: name of the broken promise, or ``STUCK``
    trace: tuple[str, ...]  #: the simplest way there
    ends: frozenset[tuple[str, str]]  #: how the two payouts stood in the states that were searched

    def __str__(self) -> str:
        """Show it on one line."""
        length = f", {len(self.trace)} steps" if self.trace else ""
        return f"{self.states} states in {self.seconds:.1f} s: {self.violation or 'no violation'}{length}"


class _Node:
    """A state that was reached, and from where."""

    __slots__ = ("before", "parent", "reaches", "state")

    def __init__(self, state: State, parent: "_Node | None") -> None:
        self.state, self.parent = state, parent
        self.before: list[_Node] = []  #: over steps that are no faults
        self.reaches = False  #: an end, without faults


def explore(model: Model, checks: Mapping[str, Check] = ALL, *, faults_max: int = 3, start: State = INITIAL) -> Found:
    """Search every reachable state for a broken promise, then for one from which the payouts cannot end.

    States are looked at in the order of the faults, then of the steps it takes to get there: what is found first is
    the simplest. A state that was reached with fewer faults stands for the same with more. The second search asks:
    if no further fault happens, is there a way on which both payouts end?

    Args:
        model: the rules.
        checks: the promises.
        faults_max: how many faults one run has at most.
        start: where to begin.
    """
    began = time.perf_counter()
    root = _Node(start, None)
    nodes = {start: root}
    level = deque([root])
    for faults in range(faults_max + 1):
        worse: dict[State, _Node] = {}  # reached by a fault from here; the first way counts
        while level:
            node = level.popleft()
            for name, holds in checks.items():
                if not holds(node.state):
                    return _found(began, len(nodes), name, _trace(model, node))
            for _, after, is_fault in model.steps(node.state, faults < faults_max):
                state = canonical(after)
                if is_fault:
                    worse.setdefault(state, node)
                    continue
                following = nodes.get(state)
                if following is None:
                    following = nodes[state] = _Node(state, node)
                    level.append(following)
                following.before.append(node)
        for state, node in worse.items():
            if state not in nodes:
                nodes[state] = _Node(state, node)
                level.append(nodes[state])
    stuck = _first_stuck(nodes.values())
    if stuck is not None:
        return _found(began, len(nodes), STUCK, _trace(model, stuck))
    return _found(began, len(nodes), None, (), frozenset(state.ends for state in nodes))


def _found(
    began: float,
    states: int,
    violation: str | None,
    trace: tuple[str, ...],
    ends: frozenset[tuple[str, str]] = frozenset(),
) -> Found:
    seconds = time.perf_counter() - began
    return Found(states=states, seconds=seconds, violation=violation, trace=trace, ends=ends)


def _first_stuck(nodes: Iterable[_Node]) -> _Node | None:
    """Return the first state from which no end can be reached without faults, or None."""
    ends = [node for node in nodes if OPEN not in node.state.ends]
    for node in ends:
        node.reaches = True
    while ends:
        for before in ends.pop().before:
            if not before.reaches:
                before.reaches = True
                ends.append(before)
    return next((node for node in nodes if not node.reaches), None)


def _trace(model: Model, node: _Node) -> tuple[str, ...]:
    steps: list[str] = []
    while node.parent is not None:
        ways = model.steps(node.parent.state, True)
        steps.append(next(label for label, after, _ in ways if canonical(after) == node.state))
        node = node.parent
    return tuple(reversed(steps))
