"""What a database can do with the least a payout needs: five statements, durable, without any of our code.

The five: look for the same external id, read what left the wallet within a day (two running totals), insert the
payout, insert its event, add to the total. In groups they are done by one writer, for the whole group at once where
the database can. Row by row each payout is a transaction of its own that locks the wallet's total first, as a cap
that holds demands. Through the committer each is a unit that waits for the product's one writer, which does the five
for all that wait together.
"""

import asyncio
import itertools
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from bench.turns import Repeat, rates
from outlay.store.database import Database, Unit
from outlay.store.schema import group_mark

CAP, AMOUNT, DAY_S = 10**15, 12_345, 86_400
RECIPIENT = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"
EVENT = '{"type":"payout.requested","amount":"12345","asset":"USDC","to":"' + RECIPIENT + '"}'
_TABLES = """
CREATE TABLE payout(id {serial}, external_id text UNIQUE NOT NULL, wallet int, recipient text, asset text,
                    amount bigint, status text, at double precision, total bigint);
CREATE INDEX payout_window ON payout(wallet, at, total);
CREATE TABLE outbox(id {serial}, payout bigint, body text, at double precision);
CREATE TABLE total(wallet int PRIMARY KEY, spent bigint NOT NULL);
"""
_WINDOW = """
SELECT spent, spent - coalesce((SELECT total FROM payout WHERE wallet=1 AND at<={0} ORDER BY at DESC LIMIT 1), 0)
FROM total WHERE wallet=1
"""
_STORED = "SELECT (SELECT count(*) FROM payout), (SELECT spent FROM total)"
_LOCKED_WINDOW = _WINDOW.format("%s") + "FOR UPDATE OF total"
_numbers = itertools.count()


def sqlite_units(folder: Path, groups: tuple[int, ...], *, rounds: int, seconds: float) -> dict[int, list[float]]:
    """Return payouts a second by group size, on SQLite as the product runs it: WAL, synchronous=FULL."""
    with closing(_sqlite(folder / f"units-{next(_numbers)}.db")) as connection:
        cases = {str(group): _grouped(_sqlite_group(connection), group) for group in groups}
        found = rates(cases, rounds=rounds, seconds=seconds)
        _check(connection.execute(_STORED).fetchone())
    return _payouts(found)


def postgresql_units(url: str, groups: tuple[int, ...], *, rounds: int, seconds: float) -> dict[int, list[float]]:
    """Return payouts a second by group size, on PostgreSQL over one connection."""
    with _fresh(url), psycopg.connect(url, options="-c enable_seqscan=off") as connection:
        # Without statistics of tables this new, the planner would read whole tables: the limit has its best setting.
        cases = {str(group): _grouped(_postgresql_group(connection), group) for group in groups}
        found = rates(cases, rounds=rounds, seconds=seconds)
    return _payouts(found)


def row_by_row(url: str, connections: int, *, rounds: int, seconds: float) -> list[float]:
    """Return payouts a second when each is a transaction of its own on one wallet's row, over several connections."""
    with _fresh(url):
        return [asyncio.run(_row_by_row(url, connections, seconds)) for _ in range(rounds)]


def committed(url: str, waiting: int, *, rounds: int, seconds: float) -> list[float]:
    """Return payouts a second on one wallet's row when each is a unit of the product's writer, ``waiting`` at once."""
    with _fresh(url):
        return [asyncio.run(_committed(url, waiting, seconds)) for _ in range(rounds)]


def _check(row: tuple[int, int] | tuple[object, ...] | None) -> None:
    assert row is not None and isinstance(row[0], int)
    if row[0] * AMOUNT != row[1]:
        raise AssertionError(f"the raw unit lost or doubled something: {row}")


def _sqlite(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=256)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.executescript(_TABLES.format(serial="integer PRIMARY KEY"))
    connection.execute("INSERT INTO total VALUES (1, 0)")
    return connection


def _grouped(keep: Callable[[list[str]], None], group: int) -> Repeat:
    def groups(count: int) -> None:
        for _ in range(count):
            keep([f"{next(_numbers):032x}" for _ in range(group)])

    return groups


def _payouts(found: dict[str, list[float]]) -> dict[int, list[float]]:
    """Turn groups a second into payouts a second."""
    return {int(name): [figure * int(name) for figure in figures] for name, figures in found.items()}


def _sqlite_group(connection: sqlite3.Connection) -> Callable[[list[str]], None]:
    def keep(ids: list[str]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for external_id in ids:
            now = time.time()
            if connection.execute("SELECT id FROM payout WHERE external_id=?", (external_id,)).fetchone():
                continue
            spent, recent = connection.execute(_WINDOW.format("?"), (now - DAY_S,)).fetchone()
            if recent + AMOUNT > CAP:
                continue
            payout = connection.execute(
                "INSERT INTO payout(external_id, wallet, recipient, asset, amount, status, at, total)"
                " VALUES(?,?,?,?,?,?,?,?)",
                (external_id, 1, RECIPIENT, "USDC", AMOUNT, "ready", now, spent + AMOUNT),
            ).lastrowid
            connection.execute("INSERT INTO outbox(payout, body, at) VALUES(?,?,?)", (payout, EVENT, now))
            connection.execute("UPDATE total SET spent=spent+? WHERE wallet=1", (AMOUNT,))
        connection.execute("COMMIT")

    return keep


def _postgresql_group(connection: psycopg.Connection) -> Callable[[list[str]], None]:
    def keep(ids: list[str]) -> None:
        with connection.transaction():
            _keep(connection.execute, ids)

    return keep


def _keep(execute: Callable[[str, tuple[Any, ...]], Any], ids: Sequence[str]) -> None:
    """Do the five statements for several payouts at once."""
    now = time.time()
    execute("SELECT external_id FROM payout WHERE external_id = ANY(%s)", (ids,)).fetchall()
    row = execute(_LOCKED_WINDOW, (now - DAY_S,)).fetchone()
    assert row is not None and row[1] + AMOUNT * len(ids) <= CAP
    totals = [row[0] + AMOUNT * place for place in range(1, len(ids) + 1)]
    made = execute(
        "INSERT INTO payout(external_id, wallet, recipient, asset, amount, status, at, total)"
        " SELECT k, 1, %s, 'USDC', %s, 'ready', %s, t FROM unnest(%s::text[], %s::bigint[]) u(k, t)"
        " RETURNING id",
        (RECIPIENT, AMOUNT, now, ids, totals),
    ).fetchall()
    execute(
        "INSERT INTO outbox(payout, body, at) SELECT p, %s, %s FROM unnest(%s::bigint[]) p",
        (EVENT, now, [each[0] for each in made]),
    )
    execute("UPDATE total SET spent=spent+%s WHERE wallet=1", (AMOUNT * len(ids),))


def _unit(unit: Unit, ids: Sequence[str]) -> list[None]:
    _keep(unit.exec_driver_sql, list(ids))
    return [None] * len(ids)


async def _committed(url: str, waiting: int, seconds: float) -> float:
    db = Database(url)
    with db.engine.begin() as unit:
        group_mark.create(unit, checkfirst=True)
    done = 0
    began = time.perf_counter()

    async def work() -> None:
        nonlocal done
        while time.perf_counter() - began < seconds:
            await db.write_item(_unit, f"{next(_numbers):032x}")
            done += 1

    await asyncio.gather(*(work() for _ in range(waiting)))
    elapsed = time.perf_counter() - began
    with db.engine.begin() as unit:
        group_mark.drop(unit)
    db.close()
    return done / elapsed


@contextmanager
def _fresh(url: str) -> Iterator[None]:
    """Make the tables in a database; check what was stored, and remove them again."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_TABLES.format(serial="bigserial PRIMARY KEY"))
        connection.execute("INSERT INTO total VALUES (1, 0)")
        try:
            yield
            _check(connection.execute(_STORED).fetchone())
        finally:
            connection.execute("DROP TABLE payout, outbox, total")


async def _row_by_row(url: str, connections: int, seconds: float) -> float:
    lines = [await psycopg.AsyncConnection.connect(url) for _ in range(connections)]
    done = 0
    began = time.perf_counter()

    async def work(line: psycopg.AsyncConnection) -> None:
        nonlocal done
        while time.perf_counter() - began < seconds:
            await _one(line, f"{next(_numbers):032x}")
            done += 1

    await asyncio.gather(*(work(line) for line in lines))
    elapsed = time.perf_counter() - began
    for line in lines:
        await line.close()
    return done / elapsed


async def _one(line: psycopg.AsyncConnection, external_id: str) -> None:
    now = time.time()
    async with line.transaction():
        found = await line.execute("SELECT id FROM payout WHERE external_id=%s", (external_id,))
        if await found.fetchone():
            return
        # Locked first: two that read the same sum would both pass a cap.
        locked = await line.execute(_LOCKED_WINDOW, (now - DAY_S,))
        row = await locked.fetchone()
        assert row is not None and row[1] + AMOUNT <= CAP
        made = await line.execute(
            "INSERT INTO payout(external_id, wallet, recipient, asset, amount, status, at, total)"
            " VALUES(%s,1,%s,'USDC',%s,'ready',%s,%s) RETURNING id",
            (external_id, RECIPIENT, AMOUNT, now, row[0] + AMOUNT),
        )
        payout = await made.fetchone()
        assert payout is not None
        await line.execute("INSERT INTO outbox(payout, body, at) VALUES(%s,%s,%s)", (payout[0], EVENT, now))
        await line.execute("UPDATE total SET spent=spent+%s WHERE wallet=1", (AMOUNT,))
