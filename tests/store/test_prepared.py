"""Statements that are compiled once write what the library writes, and nothing is ever left out."""

import json
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.core.errors import InvariantBroken
from outlay.store.database import Unit
from outlay.store.prepared import Prepared
from outlay.store.schema import account, attempt, event, transition

DETAILS: list[Any] = [None, {"b": [1, 1.5, True], "a": "é\x7f\n"}, {"n": 2**80}, []]
TEXTS = ["", "NULL", "{a,b}", '"', "\\", '\\"', " a ", "a\nb\t", "é😀", "%s %(id)s", "'", "$1", "x" * 64]
ROWS: list[dict[str, Any]] = [
    {
        "transfer_id": "xfr-1",
        "seq": seq,
        "event": "allowed",
        "from_state": "requested",
        "to_state": "ready",
        "detail": detail,
        "at": 2**50 + seq,
    }
    for seq, detail in enumerate(DETAILS)
]
EVENT = {"kind": "wallet.created", "subject": "wa-1", "data": {}, "at": 1}
ACCOUNT = {"owner": "wa-1", "network": "n", "asset": "native", "kind": "spendable", "credits": 0}


def test_rows_are_written_as_the_library_writes_them(unit: Unit) -> None:
    assert Prepared(sa.insert(transition)).run(unit, ROWS) == len(ROWS)
    unit.execute(sa.insert(transition), [{**row, "transfer_id": "xfr-2"} for row in ROWS])
    columns = [column for column in transition.c if column.name != "transfer_id"]
    query = sa.select(*columns).order_by(transition.c.seq)
    mine, theirs = (unit.execute(query.where(transition.c.transfer_id == name)).all() for name in ("xfr-1", "xfr-2"))
    assert mine == theirs and [row.detail for row in mine] == [row["detail"] for row in ROWS]
    texts = unit.exec_driver_sql("SELECT detail FROM transition ORDER BY seq, transfer_id").scalars().all()
    assert texts[2] == texts[3] == json.dumps(ROWS[1]["detail"], separators=(",", ":"), sort_keys=True)


def test_numbers_of_any_size_and_truth_values_are_kept_exactly(unit: Unit) -> None:
    add = Prepared(sa.insert(account))
    for place, debits in enumerate((0, 2**256 - 1)):
        assert add.run(unit, [{**ACCOUNT, "id": f"a-{place}", "asset": str(place), "debits": debits}]) == 1
    found = unit.execute(sa.select(account.c.debits).order_by(account.c.id)).scalars().all()
    assert found == [0, 2**256 - 1]
    values = {"transaction_id": "tx", "purpose": "payout", "gas_limit": 1, "created_at": 1}
    fees = {"max_fee_per_gas": 2**70, "max_priority_fee_per_gas": 0}
    rows = [{"id": str(number), "number": number, "legacy": number == 1, **values, **fees} for number in (1, 2)]
    Prepared(sa.insert(attempt)).run(unit, rows)
    query = sa.select(attempt.c.legacy, attempt.c.max_fee_per_gas).order_by(attempt.c.number)
    assert [tuple(row) for row in unit.execute(query)] == [(True, 2**70), (False, 2**70)]


def test_an_update_tells_how_many_rows_its_guard_let_through(unit: Unit) -> None:
    unit.execute(sa.insert(account), [{**ACCOUNT, "id": str(n), "asset": str(n), "debits": n} for n in range(4)])
    guarded = sa.update(account).where(
        account.c.id == sa.bindparam("of_id"), account.c.debits == sa.bindparam("read"), account.c.kind == "spendable"
    )
    change = Prepared(guarded)
    rows = [{"of_id": str(n), "read": n if n != 2 else 7, "debits": 10 + n} for n in range(4)]
    assert change.run(unit, rows) == 3
    assert change.run(unit, rows[:1]) == 0
    found = unit.execute(sa.select(account.c.debits).order_by(account.c.id)).scalars().all()
    assert found == [10, 11, 2, 13]
    # Other columns are another statement.
    assert change.run(unit, [{"of_id": "0", "read": 10, "credits": 5}]) == 1
    assert unit.execute(sa.select(account.c.credits, account.c.debits).where(account.c.id == "0")).one() == (5, 10)


def test_what_a_row_lacks_is_missed_and_no_rows_are_no_statement(unit: Unit) -> None:
    change = Prepared(sa.update(account).where(account.c.id == sa.bindparam("of_id")))
    assert change.run(unit, []) == 0
    with pytest.raises(KeyError):
        change.run(unit, [{"of_id": "0", "debits": 1}, {"of_id": "1"}])
    with pytest.raises(KeyError):
        change.run(unit, [{"debits": 1}])


def test_any_text_is_kept_as_it_is(unit: Unit) -> None:
    rows = [{**ACCOUNT, "id": str(place), "asset": text, "debits": 0} for place, text in enumerate(TEXTS)]
    assert Prepared(sa.insert(account)).run(unit, rows) == len(TEXTS)
    found = {row.id: row.asset for row in unit.execute(sa.select(account.c.id, account.c.asset))}
    assert [found[str(place)] for place in range(len(TEXTS))] == TEXTS
    change = Prepared(sa.update(account).where(account.c.id == sa.bindparam("of_id")))
    turned = [{"of_id": str(place), "asset": text} for place, text in enumerate(reversed(TEXTS))]
    assert change.run(unit, turned) == len(TEXTS)
    found = {row.id: row.asset for row in unit.execute(sa.select(account.c.id, account.c.asset))}
    assert [found[str(place)] for place in range(len(TEXTS))] == TEXTS[::-1]


def test_numbers_that_the_database_counts_up_follow_the_order_of_the_rows(unit: Unit) -> None:
    wanted = [{**EVENT, "id": f"evt-{(place * 37) % 101}", "subject_seq": place} for place in range(100)]
    Prepared(sa.insert(event)).run(unit, wanted)
    found = unit.execute(sa.select(event.c.id, event.c.subject_seq).order_by(event.c.seq)).all()
    assert [tuple(row) for row in found] == [(row["id"], row["subject_seq"]) for row in wanted]


def test_a_row_is_updated_once_and_what_the_statement_says_itself_holds_for_all(unit: Unit) -> None:
    unit.execute(sa.insert(account), [{**ACCOUNT, "id": str(n), "asset": str(n), "debits": n} for n in range(2)])
    change = Prepared(sa.update(account).where(account.c.id == sa.bindparam("of_id")).values(kind="reserved"))
    with pytest.raises(InvariantBroken, match="account names a row twice"):
        change.run(unit, [{"of_id": "0", "debits": 1}, {"of_id": "0", "debits": 2}])
    assert change.run(unit, [{"of_id": str(n), "debits": 5} for n in range(2)]) == 2
    assert unit.execute(sa.select(account.c.kind, account.c.debits)).all() == [("reserved", 5), ("reserved", 5)]


def test_an_update_that_does_not_name_its_row_is_refused_before_it_is_ever_run() -> None:
    with pytest.raises(InvariantBroken, match="does not name the row"):
        Prepared(sa.update(account).where(account.c.owner == sa.bindparam("of_owner")))
    with pytest.raises(InvariantBroken, match="does not name the row"):
        Prepared(sa.update(account).where(account.c.id != sa.bindparam("of_id")))


def test_what_is_too_long_is_refused_and_not_cut(unit: Unit) -> None:
    if unit.dialect.name == "postgresql":  # SQLite keeps texts of any length
        with pytest.raises(sa.exc.DataError):
            Prepared(sa.insert(account)).run(unit, [{**ACCOUNT, "id": "i" * 300, "asset": "a", "debits": 0}])


def test_a_value_of_another_kind_is_not_guessed_at(unit: Unit) -> None:
    if unit.dialect.name == "postgresql":  # SQLite's driver refuses what it does not know
        with pytest.raises(TypeError, match="bytes"):
            Prepared(sa.insert(account)).run(unit, [{**ACCOUNT, "id": b"i", "asset": "a", "debits": 0}])
