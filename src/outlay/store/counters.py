"""The counters of many payouts that are judged together: read with few statements, kept in memory, written once.

Whoever judges in order asks ``beside`` and ``has_queue``, then says what became of the payout: ``open`` or ``queue``.
``write`` makes the tables say so. In between nothing else may touch the counters; the lock on them sees to that.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from outlay.core.policy import Policy, Velocity
from outlay.core.seams import Instant
from outlay.core.velocity import EMPTY, Window, entry_of, window_start
from outlay.store.database import Unit
from outlay.store.prepared import Prepared
from outlay.store.schema import (
    counter_correction,
    counter_entry,
    organization,
    transfer,
    velocity_counter,
    velocity_entry,
    waiting,
)
from outlay.store.velocity import Entry, columns_of, counter_row, key_of

KEYS_MAX = 500
"""Counters read with one statement."""

_KEYS: sa.BindParameter[Any] = sa.bindparam("keys", expanding=True)
_BEFORE = counter_entry.alias("before")
_LAST_BEFORE = (
    sa.select(sa.func.max(counter_entry.c.signed_at))
    .where(
        counter_entry.c.policy_id == velocity_counter.c.policy_id,
        counter_entry.c.scope_key == velocity_counter.c.scope_key,
        counter_entry.c.signed_at <= sa.bindparam("start"),
    )
    .correlate(velocity_counter)
    .scalar_subquery()
)
# Each counter with its running totals at the start of the window: no two signatures have one instant.
_COUNTERS = (
    sa.select(velocity_counter, _BEFORE.c.total_value, _BEFORE.c.total_count, _BEFORE.c.total_unknown)
    .join_from(
        velocity_counter,
        _BEFORE,
        sa.and_(
            _BEFORE.c.policy_id == velocity_counter.c.policy_id,
            _BEFORE.c.scope_key == velocity_counter.c.scope_key,
            _BEFORE.c.signed_at == _LAST_BEFORE,
        ),
        isouter=True,
    )
    .where(velocity_counter.c.policy_id == sa.bindparam("policy_id"), velocity_counter.c.scope_key.in_(_KEYS))
    .order_by(velocity_counter.c.scope_key)
    .with_for_update(of=velocity_counter)
)
_CORRECTED = sa.select(counter_correction.c.scope_key, counter_correction.c.value).where(
    counter_correction.c.policy_id == sa.bindparam("policy_id"),
    counter_correction.c.scope_key.in_(_KEYS),
    counter_correction.c.signed_at > sa.bindparam("start"),
)
_QUEUES = (
    sa.select(waiting.c.scope_key)
    .where(waiting.c.policy_id == sa.bindparam("policy_id"), waiting.c.scope_key.in_(_KEYS))
    .distinct()
)
_ANY_QUEUE = sa.select(waiting.c.place).limit(1)
_ADD_PLACES = (
    sa.update(organization)
    .values(admitted=organization.c.admitted + sa.bindparam("more"))
    .returning(organization.c.admitted)
)
_WRITE_OPEN = Prepared(
    sa.update(velocity_counter).where(
        velocity_counter.c.policy_id == sa.bindparam("of_policy"),
        velocity_counter.c.scope_key == sa.bindparam("of_key"),
    )
)
_ADD_ENTRIES, _ADD_ROWS = Prepared(sa.insert(velocity_entry)), Prepared(sa.insert(counter_entry))
_ADD_WAITING = Prepared(sa.insert(waiting))
_WAIT = Prepared(sa.update(transfer).where(transfer.c.id == sa.bindparam("of_id")))


@dataclass(slots=True)
class _Counter:
    opened: Window = EMPTY
    signed: Window = EMPTY  #: within the policy's window
    is_stored: bool = False
    has_changed: bool = False
    has_queue: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One payout and where it counts, or waits."""

    transfer_id: str
    wallet_id: str
    recipient: str
    initiator_id: str
    value: int | None  #: 10**-8 USD; None: not known

    def entry(self, place: int) -> Entry:
        """Return its entry, with its place in the order of admission."""
        return Entry(
            transfer_id=self.transfer_id,
            admitted=place,
            wallet_id=self.wallet_id,
            recipient=self.recipient,
            initiator_id=self.initiator_id,
            value=self.value,
            state="open",
            signed_at=None,
        )


class Counters:
    """What counts in each counter, as it was read and as it became."""

    def __init__(self, unit: Unit, now: Instant) -> None:
        """Keep the unit and its instant."""
        self._unit, self._now = unit, now
        self._known: dict[tuple[str, str], _Counter] = {}
        self._any_queue: bool | None = None
        self._places = 0
        self._openings: list[tuple[int, Opening]] = []
        self._rows: list[tuple[str, str, str]] = []
        self._waiting: list[tuple[str, str, int, str]] = []

    def expect(self, policies: Iterable[Policy], keys: Mapping[str, Iterable[str]]) -> None:
        """Read and lock counters that are going to be asked for.

        Args:
            policies: those with a velocity rule are looked at, in the order of their ids.
            keys: the counters of each policy, by its id.
        """
        if self._any_queue is None:
            self._any_queue = self._unit.execute(_ANY_QUEUE).first() is not None
        for policy in sorted(policies, key=lambda each: each.id):
            if not isinstance(policy.rule, Velocity):
                continue
            fresh = sorted({key for key in keys.get(policy.id, ()) if (policy.id, key) not in self._known})
            start = window_start(self._now, policy.rule.timeframe)
            for at in range(0, len(fresh), KEYS_MAX):
                self._read(policy.id, fresh[at : at + KEYS_MAX], start)

    def _read(self, policy_id: str, keys: list[str], start: Instant) -> None:
        counters = {key: _Counter() for key in keys}
        self._known.update({(policy_id, key): counter for key, counter in counters.items()})
        names = {"policy_id": policy_id, "keys": keys}
        stored = self._unit.execute(_COUNTERS, {**names, "start": start}).all()
        for row in stored:
            counter = counters[row.scope_key]
            counter.is_stored = True
            counter.opened = Window(row.open_value, row.open_count, row.open_unknown)
            counter.signed = Window(row.signed_value, row.signed_count, row.signed_unknown)
            if row.total_count is not None:
                before = Window(row.total_value, row.total_count, row.total_unknown)
                counter.signed = counter.signed.minus(before)
        if stored:
            for row in self._unit.execute(_CORRECTED, {**names, "start": start}):
                counters[row.scope_key].signed = counters[row.scope_key].signed.minus(entry_of(row.value))
        if self._any_queue:
            for row in self._unit.execute(_QUEUES, names):
                counters[row.scope_key].has_queue = True

    def beside(self, policy: Policy, opening: Opening) -> Window:
        """Return what counts beside a payout: every open entry, and what was signed within the window."""
        counter = self._known[policy.id, key_of(policy, opening)]
        return counter.opened.plus(counter.signed)

    def has_queue(self, policy: Policy, opening: Opening) -> bool:
        """Tell whether payouts wait for room in the counter."""
        return self._known[policy.id, key_of(policy, opening)].has_queue

    def open(self, policies: Iterable[Policy], opening: Opening) -> None:
        """Count a payout that was allowed or held, in the counter of each of ``policies`` (those that count it)."""
        self._places += 1
        self._openings.append((self._places, opening))
        this = entry_of(opening.value)
        for policy in policies:
            key = key_of(policy, opening)
            counter = self._known[policy.id, key]
            counter.opened = counter.opened.plus(this)
            counter.has_changed = True
            self._rows.append((policy.id, key, opening.transfer_id))

    def queue(self, counters: Iterable[tuple[str, str]], transfer_id: str) -> None:
        """Have a payout wait for room in counters, given by policy id and scope key, behind those that wait there."""
        self._places += 1
        for policy_id, key in sorted(counters):
            self._known[policy_id, key].has_queue = True
            self._waiting.append((policy_id, key, self._places, transfer_id))

    def write(self) -> None:
        """Store what was counted; once."""
        if not self._places:
            return
        base = self._unit.execute(_ADD_PLACES, {"more": self._places}).scalar_one() - self._places
        entries = {opening.transfer_id: opening.entry(base + place) for place, opening in self._openings}
        if entries:
            _ADD_ENTRIES.run(self._unit, [columns_of(entry) for entry in entries.values()])
        self._write_counters()
        if self._rows:
            _ADD_ROWS.run(
                self._unit,
                [counter_row(policy_id, key, entries[transfer_id], None) for policy_id, key, transfer_id in self._rows],
            )
        if self._waiting:
            rows = [
                {"policy_id": policy_id, "scope_key": key, "place": base + place, "transfer_id": transfer_id}
                for policy_id, key, place, transfer_id in self._waiting
            ]
            _ADD_WAITING.run(self._unit, rows)
            places = {row["transfer_id"]: row["place"] for row in rows}
            _WAIT.run(self._unit, [{"of_id": each, "wait_place": place} for each, place in places.items()])

    def _write_counters(self) -> None:
        changed, fresh = [], []
        for (policy_id, key), counter in sorted(self._known.items()):
            if not counter.has_changed:
                continue
            values: dict[str, Any] = {
                "open_value": counter.opened.value,
                "open_count": counter.opened.count,
                "open_unknown": counter.opened.unknown,
            }
            if counter.is_stored:
                changed.append({"of_policy": policy_id, "of_key": key, **values})
            else:
                signed = {"last_at": 0, "signed_value": 0, "signed_count": 0, "signed_unknown": 0}
                fresh.append({"policy_id": policy_id, "scope_key": key, **values, **signed})
        _WRITE_OPEN.run(self._unit, changed)
        if fresh:
            self._unit.execute(sa.insert(velocity_counter), fresh)
