"""What is stopped: the signer's freezes as far as this database has heard of them, and networks."""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from outlay.core.audit import ENGINE, FROZEN, LIFTED, NETWORK_FROZEN, SIGNER, Entry
from outlay.store import audit
from outlay.store.database import Unit
from outlay.store.schema import network_state, signer_mark, stop

_EVERYTHING = sa.select(stop).order_by(stop.c.at, stop.c.id)
_NETWORK = sa.select(network_state).where(network_state.c.network == sa.bindparam("network"))
_MARK = sa.select(signer_mark)


def everything(unit: Unit) -> Sequence[sa.Row[Any]]:
    """Return every stop, oldest first."""
    return unit.execute(_EVERYTHING).all()


def replace(unit: Unit, stops: Collection[dict[str, Any]]) -> None:
    """Make the table say exactly this: rows with id, scope, subject, reason and at."""
    before = {row.id: {"scope": row.scope, "subject": row.subject} for row in everything(unit)}
    after = {each["id"]: {"scope": each["scope"], "subject": each["subject"]} for each in stops}
    unit.execute(sa.delete(stop))
    if stops:
        unit.execute(sa.insert(stop), list(stops))
    entries = [Entry(SIGNER, FROZEN, name, after=what) for name, what in after.items() if name not in before]
    entries += [Entry(SIGNER, LIFTED, name, before=what) for name, what in before.items() if name not in after]
    audit.add_many(unit, entries, now=max((each["at"] for each in stops), default=0))


def forget(unit: Unit, stop_id: str) -> None:
    """Take one stop off the list: a record lifts it."""
    unit.execute(sa.delete(stop).where(stop.c.id == stop_id))


def why_stopped(
    unit: Unit, *, network: str | None = None, wallet_id: str | None = None, identity_id: str | None = None
) -> str | None:
    """Return why nothing may be signed for these, or None."""
    return Stops(unit).why(network=network, wallet_id=wallet_id, identity_id=identity_id)


class Stops:
    """What is stopped, as one unit reads it, each once."""

    def __init__(self, unit: Unit) -> None:
        """Read the stops."""
        self._unit, self._stops = unit, everything(unit)
        self._networks: dict[str, str | None] = {}

    def why(
        self, *, network: str | None = None, wallet_id: str | None = None, identity_id: str | None = None
    ) -> str | None:
        """Return why nothing may be signed for these, or None."""
        named = {("all", ""), ("network", network), ("wallet", wallet_id), ("identity", identity_id)}
        for row in self._stops:
            if (row.scope, row.subject) in named:
                what = "everything" if row.scope == "all" else f"{row.scope} {row.subject}"
                return f"{what} is frozen: {row.reason}"
        frozen = None if network is None else self._frozen_network(network)
        return None if frozen is None else f"network {network} is frozen: {frozen}"

    def _frozen_network(self, network: str) -> str | None:
        if network not in self._networks:
            state = find_network(self._unit, network)
            self._networks[network] = None if state is None else state.frozen_reason
        return self._networks[network]


def find_network(unit: Unit, network: str) -> sa.Row[Any] | None:
    """Return what is known of a network, or None before its first final block was seen."""
    return unit.execute(_NETWORK, {"network": network}).one_or_none()


def networks(unit: Unit) -> Sequence[sa.Row[Any]]:
    """Return what is known of every network."""
    return unit.execute(sa.select(network_state).order_by(network_state.c.network)).all()


def note_final(unit: Unit, network: str, *, number: int, hash: str) -> None:
    """Note the newest final block."""
    values = {"final_number": number, "final_hash": hash}
    if find_network(unit, network) is None:
        unit.execute(sa.insert(network_state).values(network=network, **values))
    else:
        unit.execute(sa.update(network_state).where(network_state.c.network == network).values(**values))


def freeze_network(unit: Unit, network: str, *, reason: str, now: int) -> bool:
    """Stop a network until a person has looked; the first reason stays. Return whether it was not stopped before."""
    frozen = (
        sa.update(network_state)
        .where(network_state.c.network == network, network_state.c.frozen_reason.is_(None))
        .values(frozen_reason=reason, frozen_at=now)
    )
    if unit.execute(frozen).rowcount != 1:
        return False
    audit.add(unit, Entry(ENGINE, NETWORK_FROZEN, network), now=now)
    return True


def unfreeze_network(unit: Unit, network: str) -> None:
    """Let a network go on; its final blocks are learned anew."""
    values = {"frozen_reason": None, "frozen_at": None, "final_number": None, "final_hash": None}
    unit.execute(sa.update(network_state).where(network_state.c.network == network).values(**values))


def mark(unit: Unit) -> tuple[str, int]:
    """Return journal id and number of the newest journal entry whose effect is here; ("", 0) before the first."""
    row = unit.execute(_MARK).one_or_none()
    return ("", 0) if row is None else (row.journal_id, row.sequence)


def set_mark(unit: Unit, *, journal_id: str, sequence: int) -> None:
    """Note how far the signer's journal is known; never backwards within one journal."""
    row = unit.execute(_MARK).one_or_none()
    if row is None:
        unit.execute(sa.insert(signer_mark).values(id=1, journal_id=journal_id, sequence=sequence))
    elif row.journal_id != journal_id or row.sequence < sequence:
        unit.execute(sa.update(signer_mark).values(journal_id=journal_id, sequence=sequence))
