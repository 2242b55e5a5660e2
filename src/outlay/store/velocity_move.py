"""Payouts of pools that come to count for another wallet: their entries and counters follow, in few statements.

Only an open entry moves, and it keeps its place in the order of admission. It leaves the counters that do not count
the new wallet's payouts, and enters those that do, as if it had been asked for from that wallet. It only goes where
there is room for it beside everything that is open there: so a payout that was let in is not refused later because of
a wallet it was moved to, and no cap is broken by moving.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from outlay.core.errors import InvariantBroken
from outlay.core.policy import Block, Facts, NoAction, Policy, Velocity, counts, evaluate
from outlay.core.seams import Instant
from outlay.core.velocity import Scope, Window, entry_of
from outlay.store.counters import Counters, Opening
from outlay.store.database import Unit
from outlay.store.schema import counter_entry, velocity_counter, velocity_entry
from outlay.store.velocity import Entry, counter_row, key_of

_IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_ENTRIES = sa.select(velocity_entry).where(velocity_entry.c.transfer_id.in_(_IDS), velocity_entry.c.state == "open")
_COUNTED = sa.select(counter_entry.c.transfer_id, counter_entry.c.policy_id, counter_entry.c.scope_key).where(
    counter_entry.c.transfer_id.in_(_IDS)
)
_COUNTERS = (
    sa.select(velocity_counter)
    .where(
        velocity_counter.c.policy_id == sa.bindparam("policy_id"),
        velocity_counter.c.scope_key.in_(sa.bindparam("keys", expanding=True)),
    )
    .with_for_update()
)
_WRITE_ENTRY = sa.update(velocity_entry).where(velocity_entry.c.transfer_id == sa.bindparam("of_transfer"))
_DROP = sa.delete(counter_entry).where(
    counter_entry.c.policy_id == sa.bindparam("of_policy"),
    counter_entry.c.scope_key == sa.bindparam("of_key"),
    counter_entry.c.transfer_id == sa.bindparam("of_transfer"),
)
_WRITE_COUNTER = sa.update(velocity_counter).where(
    velocity_counter.c.policy_id == sa.bindparam("of_policy"), velocity_counter.c.scope_key == sa.bindparam("of_key")
)
_Key = tuple[str, str]
"""A counter: policy id and scope key."""


class Moves:
    """Open entries that may come to count for other wallets, within one unit; ``write`` makes the tables say so."""

    def __init__(
        self,
        unit: Unit,
        policies: Iterable[Policy],
        tags: Mapping[str, Collection[str]],
        transfer_ids: Collection[str],
        *,
        now: Instant,
    ) -> None:
        """Read what is counted of these payouts.

        Args:
            unit: the write unit.
            policies: all active policies.
            tags: of every wallet they may count for, by its id.
            transfer_ids: the payouts.
            now: the database's clock.
        """
        self._unit, self._tags = unit, tags
        self._policies = [each for each in policies if isinstance(each.rule, Velocity)]
        self._counters = Counters(unit, now)
        self._entries: dict[str, Entry] = {}
        self._counted: dict[str, set[_Key]] = {}
        self._shifts: dict[_Key, tuple[int, int, int]] = {}  #: value, count and unknown that moved in, less out
        self._added: dict[tuple[str, _Key], bool] = {}  #: entry and counter -> whether it is to be in it
        self._moved: dict[str, str] = {}
        if transfer_ids:
            names = {"ids": sorted(transfer_ids)}
            self._entries = {row.transfer_id: Entry(**row._mapping) for row in unit.execute(_ENTRIES, names)}
            for row in unit.execute(_COUNTED, names):
                self._counted.setdefault(row.transfer_id, set()).add((row.policy_id, row.scope_key))
        mine = [each for each in self._policies if each.rule.scope is Scope.WALLET]  # type: ignore[union-attr]
        self._counters.expect(mine, {each.id: [f"wallet:{wallet}" for wallet in tags] for each in mine})

    def fits(self, transfer_id: str, wallet_id: str, *, asked: bool) -> bool:
        """Tell whether a payout may count for a wallet: no velocity rule that it newly meets there triggers.

        Args:
            transfer_id: the payout.
            wallet_id: the wallet.
            asked: people have approved it: a rule that asks people is then no reason against the wallet.
        """
        entry = self._entries.get(transfer_id)
        if entry is None:
            return False
        there = replace(entry, wallet_id=wallet_id)
        held = self._counted.get(transfer_id, set())
        for policy in self._policies:
            if isinstance(policy.action, NoAction) or (asked and not isinstance(policy.action, Block)):
                continue
            key = (policy.id, key_of(policy, there))
            if key in held or not counts(policy, wallet_id, self._tags[wallet_id]):
                continue
            self._counters.expect([policy], {policy.id: [key[1]]})
            opening = _opening(there)
            # What waits for room there was asked for earlier or is as large: it is not passed.
            if self._counters.has_queue(policy, opening):
                return False
            beside = self._shifted(key, self._counters.beside(policy, opening))
            if evaluate(policy, Facts(value=entry.value, recipient=entry.recipient), beside).triggered:
                return False
        return True

    def _shifted(self, key: _Key, window: Window) -> Window:
        """Return a window with what was moved in and out so far."""
        value, count, unknown = self._shifts.get(key, (0, 0, 0))
        return Window(window.value + value, window.count + count, window.unknown + unknown)

    def move(self, transfer_id: str, wallet_id: str) -> None:
        """Have a payout count for a wallet from now on.

        Raises:
            InvariantBroken: nothing is open of it.
        """
        entry = self._entries.get(transfer_id)
        if entry is None:
            raise InvariantBroken(f"transfer {transfer_id} has no open velocity entry: it cannot be moved")
        there = replace(entry, wallet_id=wallet_id)
        wanted = {
            (policy.id, key_of(policy, there))
            for policy in self._policies
            if counts(policy, wallet_id, self._tags[wallet_id])
        }
        held = self._counted.get(transfer_id, set())
        known = {policy.id for policy in self._policies}
        # Counters of policies that are in force no more stay as they are.
        for key in sorted({key for key in held if key[0] in known} - wanted):
            self._shift(entry, key, -1)
        for key in sorted(wanted - held):
            self._shift(entry, key, 1)
        self._counted[transfer_id] = {key for key in held if key[0] not in known} | wanted
        self._entries[transfer_id] = there
        self._moved[transfer_id] = wallet_id

    def _shift(self, entry: Entry, key: _Key, sign: int) -> None:
        this, (value, count, unknown) = entry_of(entry.value), self._shifts.get(key, (0, 0, 0))
        self._shifts[key] = (value + sign * this.value, count + sign * this.count, unknown + sign * this.unknown)
        place = (entry.transfer_id, key)
        if self._added.get(place) is (sign < 0):
            del self._added[place]  # back where it was
        else:
            self._added[place] = sign > 0

    def write(self) -> None:
        """Store what was moved; once."""
        if self._moved:
            rows = [{"of_transfer": each, "wallet_id": wallet} for each, wallet in sorted(self._moved.items())]
            self._unit.execute(_WRITE_ENTRY, rows)
        gone = [
            {"of_policy": key[0], "of_key": key[1], "of_transfer": each}
            for (each, key), into in sorted(self._added.items())
            if not into
        ]
        fresh = [
            counter_row(key[0], key[1], self._entries[each], None)
            for (each, key), into in sorted(self._added.items())
            if into
        ]
        self._write_counters()
        if gone:
            self._unit.execute(_DROP, gone)
        if fresh:
            self._unit.execute(sa.insert(counter_entry), fresh)

    def _write_counters(self) -> None:
        keys: dict[str, list[str]] = {}
        for policy_id, key in sorted(self._shifts):
            keys.setdefault(policy_id, []).append(key)
        changed, fresh = [], []
        for policy_id, names in keys.items():
            stored = {
                row.scope_key: row for row in self._unit.execute(_COUNTERS, {"policy_id": policy_id, "keys": names})
            }
            for key in names:
                row = stored.get(key)
                opened = Window() if row is None else Window(row.open_value, row.open_count, row.open_unknown)
                columns = _open_columns(self._shifted((policy_id, key), opened))
                if row is None:
                    signed = {"last_at": 0, "signed_value": 0, "signed_count": 0, "signed_unknown": 0}
                    fresh.append({"policy_id": policy_id, "scope_key": key, **columns, **signed})
                else:
                    changed.append({"of_policy": policy_id, "of_key": key, **columns})
        if changed:
            self._unit.execute(_WRITE_COUNTER, changed)
        if fresh:
            self._unit.execute(sa.insert(velocity_counter), fresh)


def _opening(entry: Entry) -> Opening:
    return Opening(
        transfer_id=entry.transfer_id,
        wallet_id=entry.wallet_id,
        recipient=entry.recipient,
        initiator_id=entry.initiator_id,
        value=entry.value,
    )


def _open_columns(window: Window) -> dict[str, Any]:
    return {"open_value": window.value, "open_count": window.count, "open_unknown": window.unknown}
