"""How many units a second processes write together on PostgreSQL, by the size of their groups, beside units that lock
one hot row each in a transaction of its own. ``python -m bench.writers [seconds]``; about 36 times as many seconds.
"""

import asyncio
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

from outlay.store.database import Database, Unit
from tests import postgres

PROCESSES = (1, 2, 4)
SIZES = (1, 10, 100)
CONNECTIONS = (1, 8, 32)
ROUNDS = 2


def _unit(unit: Unit) -> None:
    unit.exec_driver_sql("UPDATE hot SET n = n + 1 WHERE id = 1")
    unit.exec_driver_sql("INSERT INTO kept (v) VALUES (1)")


def in_groups(url: str, size: int, seconds: float, counts: Any) -> None:
    """Keep ``size`` units waiting for ``seconds`` and put how many were kept into ``counts``."""

    async def write() -> int:
        db, done = Database(url), 0
        await db.write(_unit)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.gather(*(db.write(_unit) for _ in range(size)))
            done += size
        db.close()
        return done

    counts.put(asyncio.run(write()))


def row_by_row(url: str, connections: int, seconds: float, counts: Any) -> None:
    """Do the same with a transaction for each unit, on many connections, each locking the row first."""
    done = [0] * connections

    def run(place: int) -> None:
        with psycopg.connect(url) as connection:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                connection.execute("SELECT n FROM hot WHERE id = 1 FOR UPDATE")
                connection.execute("UPDATE hot SET n = n + 1 WHERE id = 1")
                connection.execute("INSERT INTO kept (v) VALUES (1)")
                connection.commit()
                done[place] += 1

    threads = [threading.Thread(target=run, args=(place,)) for place in range(connections)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    counts.put(sum(done))


def rate(target: Callable[..., None], url: str, processes: int, size: int, seconds: float) -> float:
    """Return units a second of all processes together."""
    counts: Any = multiprocessing.Queue()
    running = [multiprocessing.Process(target=target, args=(url, size, seconds, counts)) for _ in range(processes)]
    for each in running:
        each.start()
    total = sum(counts.get() for _ in running)
    for each in running:
        each.join()
    return float(total) / seconds


def main(seconds: float) -> None:
    """Measure in interleaved rounds on a server of its own that waits for the disk, and print each figure."""
    server = postgres.Server(durable=True)
    try:
        url = postgres.database_url(base=server.url)
        for statement in (
            "CREATE TABLE hot (id int PRIMARY KEY, n bigint)",
            "INSERT INTO hot VALUES (1, 0)",
            "CREATE TABLE kept (id bigserial PRIMARY KEY, v int)",
        ):
            postgres.change(url, statement)
        for _ in range(ROUNDS):
            for processes in PROCESSES:
                for size in SIZES:
                    found = rate(in_groups, url, processes, size, seconds)
                    print(f"groups: {processes} processes, {size} waiting: {found:.0f}/s", flush=True)
            for connections in CONNECTIONS:
                found = rate(row_by_row, url, 1, connections, seconds)
                print(f"row by row: {connections} connections: {found:.0f}/s", flush=True)
    finally:
        server.remove()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0)
