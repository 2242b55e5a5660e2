"""What one velocity check costs beside how many payouts its counter has counted; each sum is checked by a naive one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from bench.product import create_database
from bench.rows import Row
from bench.scenarios import Scenario
from bench.stand import Stand
from bench.turns import Repeat, rates
from outlay.core.policy import AmountVelocity, Block, Filters, Policy
from outlay.core.velocity import Scope, Window
from outlay.store import velocity
from outlay.store.database import Database
from outlay.store.migrate import upgrade
from outlay.store.schema import counter_entry, velocity_counter

HOUR = 3_600_000_000
NOW = 1_800_000_000_000_000
SPREAD = 30 * HOUR
"""The entries were signed within this time before ``NOW``; the window is 24 hours of it."""
WINDOW_MINUTES = 24 * 60
USD = 10**8
KEY = "policy"
POLICY = Policy(
    id="plc-bench",
    version=1,
    name="a day's cap",
    rule=AmountVelocity(10**12 * USD, WINDOW_MINUTES, Scope.POLICY),
    action=Block(),
    filters=Filters(),
)
_CHUNK = 20_000


def measure(scenario: Scenario, stand: Stand) -> list[Row]:
    """Measure checks at every size in turns, on every database."""
    return [_on(scenario, stand, database) for database in stand.databases]


def _on(scenario: Scenario, stand: Stand, database: str) -> Row:
    sizes = scenario.numbers("sizes")
    opened: list[Database] = []
    cases: dict[str, Repeat] = {}
    faults: list[str] = []
    try:
        for size in sizes:
            where = _where(stand, database, size)
            upgrade(where)
            fill(where, size)
            db = Database(where)
            opened.append(db)
            with db.engine.begin() as unit:
                found = velocity.window(unit, POLICY, KEY, now=NOW)
            if found != naive(size):
                faults.append(f"at {size} stored the sum is {found}, not {naive(size)}")
            cases[str(size)] = _case(db)
        found_rates = rates(cases, rounds=scenario.number("rounds"), seconds=scenario.real("seconds"))
    finally:
        for db in opened:
            db.close()
    times = {name: [1e6 / rate for rate in figures] for name, figures in found_rates.items()}
    smallest, largest = str(min(sizes)), str(max(sizes))
    return Row(
        key="velocity.check",
        name=f"velocity check at {int(largest):,} counted",
        unit="us",
        database=database,
        rounds=times[largest],
        reference=f"the same at {int(smallest):,}",
        reference_rounds=times[smallest],
        target=scenario.target("check"),
        faults=faults,
        details={f"at {int(name):,}": figures for name, figures in times.items()},
    )


def _where(stand: Stand, database: str, size: int) -> Path | str:
    if database == "postgresql":
        return create_database(stand.server)
    return stand.folder / f"velocity-{size}.db"


def _case(db: Database) -> Callable[[int], None]:
    def check(count: int) -> None:
        with db.engine.begin() as unit:
            for _ in range(count):
                velocity.window(unit, POLICY, KEY, now=NOW)

    return check


def _entries(size: int) -> Iterator[tuple[int, int, int]]:
    """Yield place, instant and value of each entry, oldest first."""
    for place in range(1, size + 1):
        yield place, NOW - SPREAD + SPREAD * place // size - 1, (place * 7919 % 10_000 + 1) * USD // 100


def naive(size: int) -> Window:
    """Return the window's sum by adding everything up."""
    start = NOW - WINDOW_MINUTES * 60_000_000
    values = [value for _, at, value in _entries(size) if at > start]
    return Window(sum(values), len(values), 0)


def _rows(size: int) -> Iterator[dict[str, Any]]:
    total = 0
    for place, at, value in _entries(size):
        total += value
        yield {
            "policy_id": POLICY.id,
            "scope_key": KEY,
            "transfer_id": f"xfr-{place:020d}",
            "admitted": place,
            "value": value,
            "state": "signed",
            "signed_at": at,
            "total_value": total,
            "total_count": place,
            "total_unknown": 0,
        }


def fill(where: Path | str, size: int) -> None:
    """Store a counter that has counted ``size`` signed payouts, as the product would have left it."""
    engine = sa.create_engine(f"sqlite:///{where}") if isinstance(where, Path) else None
    counter = {
        "policy_id": POLICY.id,
        "scope_key": KEY,
        "last_at": NOW - 1,
        "open_value": 0,
        "open_count": 0,
        "open_unknown": 0,
        "signed_value": sum(value for _, _, value in _entries(size)),
        "signed_count": size,
        "signed_unknown": 0,
    }
    if engine is not None:
        with engine.begin() as unit:
            unit.execute(sa.insert(velocity_counter), counter)
            for chunk in _chunks(_rows(size)):
                unit.execute(sa.insert(counter_entry), chunk)
        with engine.connect() as connection:
            connection.exec_driver_sql("ANALYZE")
        engine.dispose()
        return
    with psycopg.connect(str(where), autocommit=True) as connection:
        columns = ", ".join(counter)
        holders = ", ".join(["%s"] * len(counter))
        connection.execute(
            f"INSERT INTO velocity_counter ({columns}) VALUES ({holders})",
            list(counter.values()),
        )
        names = ", ".join(next(_rows(1)))
        with connection.cursor() as cursor, cursor.copy(f"COPY counter_entry ({names}) FROM STDIN") as copy:
            for row in _rows(size):
                copy.write_row(list(row.values()))
        connection.execute("VACUUM ANALYZE counter_entry")


def _chunks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
