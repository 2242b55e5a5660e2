"""A long history in short time: a deployment's payouts are copied, with all that belongs to them, within its database.

The copies lie before the originals: their instants are earlier, so running totals stay in order, and what they paid
came in before, so the ledger still equals the chain. Their nonces are below zero, where no lane looks. The signer's
journal does not get them.
"""

from collections.abc import Mapping
from typing import Any

import psycopg
import sqlalchemy as sa

from outlay.store import schema
from outlay.store.database import Database, Unit

_SUFFIX = "t.{c} || '~' || CAST(k.n AS VARCHAR(9))"
_EARLIER = "t.{c} - k.n * :span"
_PLACE = "t.{c} + k.n * :places"
_TOTAL = "(:copies - k.n) * {whole} + {own}"

_SUFFIXED: Mapping[str, tuple[str, ...]] = {
    "transfer": ("id", "external_id", "transaction_id", "approval_id", "tx_hash"),
    "transition": ("transfer_id",),
    "evaluation": ("id", "transfer_id"),
    "evidence": ("id", "subject"),
    "transaction": ("id", "transfer_id", "mined_hash"),
    "attempt": ("id", "transaction_id", "hash"),
    "posting": ("entry", "transfer_id"),
    "event": ("id", "subject"),
    "delivery": ("id", "event_id"),
    "velocity_entry": ("transfer_id",),
    "counter_entry": ("transfer_id",),
}
"""What is copied, and the columns that name something of the copied payout."""

_SHIFTED: Mapping[str, tuple[str, ...]] = {
    "transfer": ("requested_at", "resolved_at", "ready_at", "signed_at", "broadcast_at", "confirmed_at"),
    "velocity_entry": ("signed_at",),
    "counter_entry": ("signed_at",),
}
_NUMBERED = {"posting": "id", "event": "seq"}
"""Columns that the database counts up."""

_OF_PAYOUTS: Mapping[str, str] = {
    "evidence": "t.subject IN (SELECT id FROM transfer)",
    "transaction": "t.transfer_id IS NOT NULL",
    "posting": "t.transfer_id IS NOT NULL",
    "event": "t.subject IN (SELECT id FROM transfer)",
    "delivery": "t.event_id IN (SELECT id FROM event WHERE subject IN (SELECT id FROM transfer))",
}
_ORDER = (
    "delivery",
    "event",
    "evidence",
    "posting",
    "attempt",
    "transaction",
    "evaluation",
    "transition",
    "counter_entry",
    "velocity_entry",
    "transfer",
)
"""Those that are picked by another table go before it."""


def lengthen(db: Database, stored: int) -> int:
    """Copy what is stored until there are about ``stored`` payouts; return how many there are.

    The deployment must not run, and every payout of it must be confirmed.
    """
    with db.engine.begin() as unit:
        if db.engine.dialect.name == "postgresql":
            unit.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            unit.exec_driver_sql("SET LOCAL statement_timeout = 0")
        originals = unit.execute(sa.select(sa.func.count()).select_from(schema.transfer)).scalar_one()
        copies = max(0, stored // originals - 1)
        if copies:
            _copy(unit, copies)
    _settle(db)
    return int(originals * (copies + 1))


def size_mb(db: Database) -> float:
    """Return how much disk a database takes, MB."""
    with db.engine.connect() as unit:
        if db.engine.dialect.name == "postgresql":
            size = unit.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one()
        else:
            pages = unit.exec_driver_sql("PRAGMA page_count").scalar_one()
            size = pages * unit.exec_driver_sql("PRAGMA page_size").scalar_one()
        unit.rollback()
    return round(int(size) / 2**20, 1)


def _copy(unit: Unit, copies: int) -> None:
    entries, entry = schema.velocity_entry, schema.velocity_entry.c
    begun, ended = unit.execute(sa.select(sa.func.min(entry.signed_at), sa.func.max(entry.signed_at))).one()
    places = unit.execute(sa.select(schema.organization.c.admitted)).scalar_one()
    names = {"copies": copies, "span": ended - begun + 1, "places": places}
    assert unit.execute(sa.select(sa.func.count()).select_from(entries)).scalar_one() <= places
    _enter_ledger(unit, copies)
    for name in _ORDER:
        unit.execute(sa.text(_statement(unit, schema.metadata.tables[name])), names)
    _raise_totals(unit, copies)
    unit.execute(sa.update(schema.organization).values(admitted=places * (copies + 1)))


def _statement(unit: Unit, table: sa.Table) -> str:
    """Return the statement that copies a table's rows of payouts."""
    chosen: dict[str, str] = {}
    for column in table.columns:
        if _NUMBERED.get(table.name) == column.name:
            continue
        expression = "t.{c}"
        if column.name in _SUFFIXED[table.name]:
            expression = _SUFFIX
        elif column.name in _SHIFTED.get(table.name, ()):
            expression = _EARLIER
        elif column.name == "admitted":
            expression = _PLACE
        elif table.name == "transaction" and column.name == "nonce":
            expression = "-(k.n * 1000000 + t.{c})"
        elif table.name == "counter_entry" and column.name.startswith("total_"):
            whole = _number(unit, f"v.signed_{column.name.removeprefix('total_')}")
            expression = _as_amount(unit, column, _TOTAL.format(whole=whole, own=_number(unit, f"t.{column.name}")))
        chosen[column.name] = expression.format(c=f'"{column.name}"')
    joined = ""
    if table.name == "counter_entry":
        joined = " JOIN velocity_counter v ON v.policy_id = t.policy_id AND v.scope_key = t.scope_key"
    where = _OF_PAYOUTS.get(table.name)
    names = ", ".join(f'"{name}"' for name in chosen)
    return (
        "WITH RECURSIVE k(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < :copies) "
        if unit.dialect.name == "postgresql"
        else ""
    ) + _insert(unit, table.name, names, ", ".join(chosen.values()), joined, where)


def _insert(unit: Unit, name: str, names: str, values: str, joined: str, where: str | None) -> str:
    numbers = "k"
    if unit.dialect.name != "postgresql":
        numbers = (
            "(WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :copies) SELECT n FROM n) k"
        )
    return f'INSERT INTO "{name}" ({names}) SELECT {values} FROM "{name}" t CROSS JOIN {numbers}{joined}' + (
        f" WHERE {where}" if where else ""
    )


def _number(unit: Unit, expression: str) -> str:
    """Return an amount as something to calculate with; those of counters fit 63 bits here."""
    return f"CAST({expression} AS {'NUMERIC' if unit.dialect.name == 'postgresql' else 'INTEGER'})"


def _as_amount(unit: Unit, column: sa.Column[Any], expression: str) -> str:
    """Return a number as its column stores it."""
    if unit.dialect.name == "postgresql" or not isinstance(column.type, schema.U256):
        return expression
    return f"printf('%078d', {expression})"


def _raise_totals(unit: Unit, copies: int) -> None:
    """Put the originals after their copies: in running totals, and in what counters hold."""
    for column in ("value", "count", "unknown"):
        total, signed = (
            schema.counter_entry.c[f"total_{column}"],
            schema.velocity_counter.c[f"signed_{column}"],
        )
        whole = (
            f"(SELECT {_number(unit, f'v.{signed.name}')} FROM velocity_counter v"
            " WHERE v.policy_id = counter_entry.policy_id AND v.scope_key = counter_entry.scope_key)"
        )
        raised = _as_amount(unit, total, f"{_number(unit, total.name)} + :copies * {whole}")
        unit.execute(
            sa.text(f"UPDATE counter_entry SET {total.name} = {raised} WHERE transfer_id NOT LIKE '%~%'"),
            {"copies": copies},
        )
    for column in ("value", "count", "unknown"):
        signed = schema.velocity_counter.c[f"signed_{column}"]
        raised = _as_amount(unit, signed, f"{_number(unit, signed.name)} * (:copies + 1)")
        unit.execute(sa.text(f"UPDATE velocity_counter SET {signed.name} = {raised}"), {"copies": copies})


def _enter_ledger(unit: Unit, copies: int) -> None:
    """Let the copies' money come in before it goes out."""
    posting, account = schema.posting, schema.account
    moved: dict[str, list[int]] = {}
    query = sa.select(posting.c.account_id, posting.c.side, posting.c.amount).where(posting.c.transfer_id.is_not(None))
    for line in unit.execute(query):
        moved.setdefault(line.account_id, [0, 0])[line.side != "debit"] += line.amount
    accounts = {row.id: row for row in unit.execute(sa.select(account))}
    outside = {(row.network, row.asset): row.id for row in accounts.values() if row.kind == "outside"}
    changes = {name: [debits * copies, credits * copies] for name, (debits, credits) in moved.items()}
    for name, (debits, credits) in list(changes.items()):
        row, short = accounts[name], credits - debits
        if row.kind != "spendable" or short <= 0:
            continue
        source = outside[row.network, row.asset]
        for account_id, side in ((name, "debit"), (source, "credit")):
            entry = {"entry": f"copies/{row.owner}", "account_id": account_id, "side": side, "amount": short}
            unit.execute(sa.insert(posting).values(**entry, why="inflow", at=0))
            changes.setdefault(account_id, [0, 0])[side != "debit"] += short
    for name, (debits, credits) in changes.items():
        row = accounts[name]
        unit.execute(
            sa.update(account)
            .where(account.c.id == name)
            .values(debits=row.debits + debits, credits=row.credits + credits)
        )


def _settle(db: Database) -> None:
    """Let the database tidy up now, and not while something is measured."""
    if db.engine.dialect.name == "postgresql":
        assert isinstance(db.where, str)
        with psycopg.connect(db.where, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")
        return
    with db.engine.connect() as unit:
        unit.exec_driver_sql("ANALYZE")
        unit.commit()
        unit.rollback()
        raw = unit.connection.driver_connection
        assert raw is not None
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
