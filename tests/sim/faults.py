"""What goes wrong, when, and in which states payouts were at that moment. All of it is drawn from the run's seed."""

import random
from collections.abc import Callable, Collection, Sequence

from outlay.core.faultpoint import LABELS, RARE_LABELS

COMMIT = ("db.busy", "db.lost", "db.kept", "db.unknown_lost", "db.unknown_kept", "db.full")
ANSWERS = ("signer.unreachable", "signer.answer_lost", "signer.disk_full")
NODE = (
    "rpc.lag",
    "rpc.lie",
    "rpc.split",
    "rpc.reorder",
    "rpc.duplicate",
    "rpc.drop_request",
    "rpc.drop_answer",
    "rpc.rate_limit",
    "rpc.wrong_chain",
    "rpc.slow",
)
SENDS = (
    "send.known",
    "send.nonce_too_low",
    "send.underpriced",
    "send.insufficient_funds",
    "send.refused",
    "send.unknown_words",
)
CHAIN = (
    "reorg.pool",
    "reorg.lost",
    "reorg.competitor",
    "finality.stalls",
    "fees.spike",
    "pool.evicted",
    "token.paused",
)
CLOCK = ("clock.forward", "clock.back")
NOT_PASSED = "deliver.before_mark"
"""Nothing is delivered in a run here."""
RARE = tuple(f"crash.{label}" for label in RARE_LABELS)
CRASH = (*(f"crash.{label}" for label in LABELS if label != NOT_PASSED), *RARE)
KILL = ("kill.worker", "kill.api", "kill.signer")
RESTORED = "db.restored"
"""An older copy of the database takes its place: everything but the signer begins again, with recovery."""

PORTS: dict[str, tuple[str, ...]] = {
    "write": COMMIT,
    "read": ("db.read",),
    "delay": ("db.slow",),
    "signer": ANSWERS,
    **{kind: (kind,) for kind in CRASH},
}
"""Faults that strike at a contact of the engine with the world, each time with the run's chance for it."""

EVENTS = (*NODE, *SENDS, *CHAIN, *CLOCK, *KILL, RESTORED)
"""Faults that begin at an instant of the run."""

KINDS = (*COMMIT, "db.read", "db.slow", *ANSWERS, *EVENTS, *CRASH)
NEEDS = {
    "reorg.competitor": "fees.spike",
    "crash.replace.after_commit": "fees.spike",
    "crash.recover.after_records": RESTORED,
    "crash.recover.after_slots": RESTORED,
}
"""What brings about the moment in which another kind can strike."""
HOT = (5, 12)
"""How many kinds one run has, at least and at most."""
CHANCES = (0.03, 0.1, 0.3)
CRASH_CHANCES = (0.1, 0.4)
CRASHES_MAX = 3
"""How often one label kills in one run: a process that dies each time would never come past it."""
TARGETS = 3
"""Cells that one run aims at: kinds that strike when a payout is in a certain state."""
TARGET_CHANCE = 0.5
STATES = ("held", "ready", "assigned", "signed", "broadcast", "mined")
"""The states in which a payout rests between two commits, before it ends."""
STRIKES = (1, 3)
"""How often a kind that begins at an instant does so, at least and at most."""


class Faults:
    """The faults of one run."""

    def __init__(
        self,
        seed: int,
        chance: random.Random,
        *,
        on_strike: Callable[[str], None],
        states: Callable[[], Collection[str]],
        only: Sequence[str] = (),
    ) -> None:
        """Draw what goes wrong.

        Args:
            seed: of the run; runs in a row aim at every cell in turn.
            chance: where everything is drawn from.
            on_strike: is told of each fault.
            states: tells the states of payouts that have not ended.
            only: these kinds and no others, if any is given.
        """
        self._chance, self._on_strike, self._states = chance, on_strike, states
        kinds = set(chance.sample(KINDS, chance.randint(*HOT)))
        numbers = range(seed * TARGETS, (seed + 1) * TARGETS)
        self.targets = {} if only else {KINDS[n % len(KINDS)]: STATES[n // len(KINDS) % len(STATES)] for n in numbers}
        kinds |= self.targets.keys()
        kinds |= {NEEDS[kind] for kind in kinds & NEEDS.keys()}
        self.kinds = tuple(only) or tuple(kind for kind in KINDS if kind in kinds)
        self.live = False
        self.struck: dict[str, int] = {}
        self._rates = {
            kind: 1.0 if kind in RARE else chance.choice(CRASH_CHANCES if kind in CRASH else CHANCES)
            for kind in self.kinds
        }

    def ask(self, port: str) -> str | None:
        """Tell which fault strikes at a port now, if any."""
        if not self.live:
            return None
        for kind in PORTS.get(port, ()):
            rate = self._rates.get(kind)
            if rate is None or (kind in CRASH and self.struck.get(kind, 0) >= CRASHES_MAX):
                continue
            if kind in self.targets:
                rate = TARGET_CHANCE if self.aims(kind) else rate / 4
            if self._chance.random() < rate:
                self.strike(kind)
                return kind
        return None

    def aims(self, kind: str) -> bool:
        """Tell whether this is a moment for which the run has chosen a kind."""
        return kind not in self.targets or self.targets[kind] in self._states()

    def strike(self, kind: str) -> None:
        """Note that a fault strikes now."""
        self.struck[kind] = self.struck.get(kind, 0) + 1
        self._on_strike(kind)

    def plan(self, length_s: float) -> list[tuple[float, str]]:
        """Return when the faults begin that are not tied to a port, seconds from the start of the storm."""
        found = []
        for kind in self.kinds:
            if kind in EVENTS:
                for _ in range(1 if kind == RESTORED else self._chance.randint(*STRIKES)):
                    found.append((self._chance.uniform(0, length_s), kind))
        return sorted(found)
