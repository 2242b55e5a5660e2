"""Gauges: right over a database that is known, found by indexes, and absent when nothing can be read."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.config import parse
from outlay.core.errors import Unavailable
from outlay.core.seams import HOUR, SECOND
from outlay.observe import gauges
from outlay.observe.gauges import DatabaseGauges
from outlay.store import figures
from outlay.store.database import Database, Unit
from outlay.store.glance import Glance
from outlay.store.schema import account, approval, delivery, event, lane, stop, transaction, transfer, wallet, webhook
from outlay.system import SystemClock
from tests import postgres
from tests.door import CONFIGURATION, NETWORK, TOKEN

NOW = 1_767_323_045_000_000
LARGE = ("transfer", "transaction", "delivery", "event", "velocity_entry", "counter_entry", "approval", "posting")
"""Tables that have no bound."""


class StillClock:
    """Stands."""

    def now(self) -> int:
        """Return the instant."""
        return NOW


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    """Return where a database with every table and a few rows is."""
    if request.param == "postgresql":
        with postgres.reused() as url:
            fill(url)
            yield url
        return
    path = tmp_path / "outlay.db"
    opened = Database(path)
    transfer.metadata.create_all(opened.engine)
    opened.close()
    fill(path)
    yield path


def payout(number: int, state: str, **values: Any) -> dict[str, Any]:
    """Return the row of a payout with the columns that have to be there."""
    row: dict[str, Any] = {}
    for column in transfer.c:
        if column.nullable or column.server_default is not None:
            continue
        row[column.name] = 0 if isinstance(column.type, sa.BigInteger | sa.Integer) else "x"
    row |= {"id": f"xfr-{number}", "amount": 1, "wallet_id": "wa-1", "state": state, "intent": {}, "request_body": {}}
    return {**row, "route": "lane", "ready_at": None, **values}


def fill(where: Path | str) -> None:
    """Put a little of everything into a database."""
    day = 24 * HOUR
    rows: dict[sa.Table, list[dict[str, Any]]] = {
        wallet: [
            {"id": "wa-1", "network": NETWORK, "chain_id": 1, "address": "0x1", "key_id": "k", "public_key": "p",
             "status": "Active", "created_at": 1, "frozen_reason": None},
            {"id": "wa-2", "network": NETWORK, "chain_id": 1, "address": "0x2", "key_id": "k", "public_key": "p",
             "status": "Active", "created_at": 2, "frozen_reason": "foreign transaction"},
            {"id": "wa-3", "network": NETWORK, "chain_id": 1, "address": "0x3", "key_id": "k", "public_key": "p",
             "status": "Active", "created_at": 3, "frozen_reason": None},
        ],
        lane: [{"wallet_id": "wa-1", "next_nonce": 9, "settled_nonce": 5, "fence": 1}],
        transaction: [
            {"id": f"tx-{nonce}", "wallet_id": "wa-1", "nonce": nonce, "state": state, "fee_cap": 1, "created_at": 1}
            for nonce, state in ((4, "final"), (5, "mined"), (6, "sent"), (8, "bound"))
        ],
        account: [
            {"id": f"wa-1/{TOKEN}/{kind}", "owner": "wa-1", "network": NETWORK, "asset": TOKEN, "kind": kind,
             "debits": debits, "credits": credits}
            for kind, debits, credits in (("spendable", 90_000_000, 15_000_000), ("reserved", 15_000_000, 5_000_000))
        ],
        transfer: [
            payout(1, "held", requested_at=NOW - 90 * SECOND),
            payout(2, "ready", ready_at=NOW - 40 * SECOND),
            payout(3, "ready", ready_at=NOW - 30 * SECOND, delayed_at=NOW - SECOND),
            payout(4, "signed", signed_at=NOW - 3 * SECOND),
            payout(5, "broadcast", broadcast_at=NOW - 20 * SECOND),
            payout(6, "mined", broadcast_at=NOW - 70 * SECOND),
            payout(7, "confirmed", confirmed_at=NOW - day),
        ],
        stop: [
            {"id": "frz-1", "scope": "network", "subject": NETWORK, "reason": "drill", "at": 1},
            {"id": "frz-2", "scope": "wallet", "subject": "wa-3", "reason": "drill", "at": 1},
        ],
        webhook: [
            {"id": f"wh-{number}", "url": "https://example.com", "events": ["*"], "status": status, "description": "",
             "secret": "s", "created_at": 1, "updated_at": 1}
            for number, status in ((1, "Enabled"), (2, "Disabled"))
        ],
        event: [
            {"id": f"evt-{number}", "kind": "wallet.created", "subject": f"wa-{number}", "subject_seq": 1, "data": {},
             "at": 1}
            for number in (1, 2, 3)
        ],
        delivery: [
            {"id": "whe-1", "webhook_id": "wh-1", "event_id": "evt-1", "kind": "wallet.created", "attempt": 2,
             "state": "pending", "due_at": NOW + HOUR, "first_due_at": NOW - 600 * SECOND, "next_attempt_at": None},
            {"id": "whe-2", "webhook_id": "wh-1", "event_id": "evt-2", "kind": "wallet.created", "attempt": 5,
             "state": "failed", "due_at": NOW - day, "first_due_at": NOW - 2 * day, "next_attempt_at": None},
            {"id": "whe-3", "webhook_id": "wh-1", "event_id": "evt-3", "kind": "wallet.created", "attempt": 1,
             "state": "failed", "due_at": NOW - day, "first_due_at": NOW - day, "next_attempt_at": NOW + HOUR},
        ],
        approval: [
            {**{column.name: 0 if isinstance(column.type, sa.BigInteger | sa.Integer) else "x"
                for column in approval.c if not column.nullable and column.server_default is None},
             "id": f"ap-{number}", "status": status, "created_at": NOW - age * SECOND}
            for number, status, age in ((1, "Pending", 95), (2, "Pending", 5), (3, "Approved", 9_999))
        ],
    }  # fmt: skip
    opened = Database(where)
    with opened.engine.begin() as unit:
        for table, lines in rows.items():
            for line in lines:
                unit.execute(sa.insert(table).values(**line))
    opened.close()


def collected(collector: Any) -> dict[tuple[str, ...], float]:
    """Return what a collector shows: (name, label values in order) -> value."""
    return {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


@pytest.fixture
def shown(where: Path | str) -> dict[tuple[str, ...], float]:
    """Return what is told of the database."""
    glance = Glance(where)
    compared = {("wa-1", TOKEN): (84_000_000, 85_000_000)}
    collector = DatabaseGauges(
        glance, StillClock(), parse(CONFIGURATION), lambda: compared, is_served=isinstance(where, str)
    )
    found = collected(collector)
    glance.close()
    assert collector.errors == 0
    if isinstance(where, str):
        assert collector.offset is not None
        assert abs(collector.offset - (SystemClock().now() - NOW) / SECOND) < 60
    return found


WANTED: dict[tuple[str, ...], float] = {
    ("outlay_oldest_waiting_seconds", "decide"): 90,
    ("outlay_oldest_waiting_seconds", "sign"): 40,
    ("outlay_oldest_waiting_seconds", "broadcast"): 3,
    ("outlay_oldest_waiting_seconds", "confirm"): 70,
    ("outlay_oldest_waiting_seconds", "notify"): 600,
    ("outlay_payouts", "ready"): 2,
    ("outlay_payouts", "assigned"): 0,
    ("outlay_payout_delayed",): 1,
    ("outlay_approvals_pending",): 2,
    ("outlay_approval_oldest_seconds",): 95,
    ("outlay_frozen", "network"): 1,
    ("outlay_frozen", "wallet"): 2,
    ("outlay_wallet_frozen", "wa-1"): 0,
    ("outlay_wallet_frozen", "wa-3"): 1,
    ("outlay_frozen", "all"): 0,
    ("outlay_in_flight", NETWORK, "wa-1"): 3,
    ("outlay_lane_gap", "wa-1"): 1,
    ("outlay_lane_gap", "wa-2"): 0,
    ("outlay_wallet_frozen", "wa-2"): 1,
    ("outlay_reserved_units", "USDC", "wa-1"): 10,
    ("outlay_balance_units", "USDC", "ledger", NETWORK, "wa-1"): 85,
    ("outlay_balance_units", "USDC", "spendable", NETWORK, "wa-1"): 75,
    ("outlay_balance_units", "USDC", "chain", NETWORK, "wa-1"): 84,
    ("outlay_reconciliation_difference_units", "USDC", "wa-1"): -1,
    ("outlay_webhook_oldest_undelivered_seconds",): 600,
    ("outlay_webhook_parked", "wh-1"): 1,
    ("outlay_webhook_disabled", "wh-1"): 0,
    ("outlay_webhook_disabled", "wh-2"): 1,
}
"""Name and label values, in the order of the labels' names -> value."""


def test_gauges_show_what_there_is(shown: dict[tuple[str, ...], float]) -> None:
    assert {name: shown.get(name) for name in WANTED} == WANTED
    assert ("outlay_payouts", "confirmed") not in shown


def statements(where: Path | str, look: Callable[[Unit], Any]) -> list[tuple[str, Any]]:
    """Return the statements of a look, each with its parameters."""
    opened, seen = Database(where), list[tuple[str, Any]]()

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.lstrip().startswith("SELECT"):
            seen.append((statement, parameters))

    sa.event.listen(opened.engine, "before_cursor_execute", note)
    with opened.engine.begin() as unit:
        look(unit)
    opened.close()
    return seen


@pytest.mark.parametrize("kind", ["figures", "longer"])
def test_no_statement_goes_over_a_table_without_a_bound(where: Path | str, kind: str) -> None:
    collector = DatabaseGauges(Glance(where), StillClock(), parse(CONFIGURATION), dict, is_served=False)
    asked = statements(where, figures.look if kind == "figures" else collector._look_long)
    opened = Database(where)
    assert len(asked) > 3
    with opened.engine.begin() as unit:
        for statement, parameters in asked:
            if isinstance(where, Path):
                plan = [row[3] for row in unit.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
                scanned = [line for line in plan if re.match(rf"SCAN ({'|'.join(LARGE)})\b", line)]
                # A partial index holds the few rows that are asked for.
                assert [line for line in scanned if "transfer_delayed" not in line] == [], (statement, plan)
            else:
                unit.exec_driver_sql("SET LOCAL enable_seqscan = off")
                plan = [row[0] for row in unit.exec_driver_sql(f"EXPLAIN {statement}", parameters)]
                assert not re.search(rf"Seq Scan on ({'|'.join(LARGE)})\b", "\n".join(plan)), (statement, plan)
    opened.close()


def test_what_cannot_be_read_is_absent_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauges, "FRESH_S", 0.0)
    path = tmp_path / "outlay.db"
    collector = DatabaseGauges(Glance(path), StillClock(), parse(CONFIGURATION), dict, is_served=False)

    assert collected(collector) == {}
    assert collected(collector) == {}
    assert collector.errors == 2


def test_a_database_that_fails_is_asked_again_after_a_while_only(tmp_path: Path) -> None:
    collector = DatabaseGauges(Glance(tmp_path / "none.db"), StillClock(), parse(CONFIGURATION), dict, is_served=False)
    for _ in range(5):
        collected(collector)

    assert collector.errors == 1


def test_a_look_ends_in_time(where: Path | str) -> None:
    """A statement that would run for minutes is ended, and the connection is good afterwards."""
    endless = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000000000) SELECT sum(i) FROM n"
    )
    glance = Glance(where)
    with pytest.raises(Unavailable):
        glance.read(lambda unit: unit.exec_driver_sql(endless).scalar(), within_s=0.3)
    assert glance.read(lambda unit: unit.exec_driver_sql("SELECT 1").scalar(), within_s=5) == 1
    glance.close()


def test_a_look_cannot_write(where: Path | str) -> None:
    glance = Glance(where)
    with pytest.raises(Unavailable):
        glance.read(lambda unit: unit.execute(sa.delete(stop)), within_s=5)
    glance.close()


def test_tokens_of_the_same_symbol_are_told_apart() -> None:
    config = parse(CONFIGURATION)
    (token,) = config.assets
    config = dataclasses.replace(config, assets=(token, dataclasses.replace(token, contract="0x" + "d0" * 20)))
    one = figures.WalletFigures(
        id="wa-1", network=NETWORK, is_active=True, is_frozen=False, in_flight=0, gap=0, held={}
    )

    assert [name for _, name in gauges._names(config, one)] == ["ETH", f"USDC {TOKEN}", f"USDC {'0x' + 'd0' * 20}"]
