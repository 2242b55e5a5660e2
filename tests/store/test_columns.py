"""Amounts in the database: exact, sortable, never negative."""

import json
from datetime import datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine.default import DefaultDialect

from outlay.store.database import Unit
from outlay.store.schema import U256, Json, account

LARGEST = 2**256 - 1
amounts = st.one_of(
    st.integers(0, LARGEST),
    st.integers(0, 256).map(lambda bits: min(2**bits, LARGEST)),
    st.integers(0, 77).map(lambda digits: 10**digits),
    st.sampled_from([0, 1, LARGEST, LARGEST - 1, 2**53, 2**53 + 1, 2**63, 2**64]),
)
_metadata = sa.MetaData()
_number = sa.Table("number", _metadata, sa.Column("value", U256), sa.Column("other", Json))


def stored(values: list[int]) -> list[int]:
    """Write the numbers and read them back in the database's order."""
    engine = sa.create_engine("sqlite://")
    _metadata.create_all(engine)
    with engine.begin() as unit:
        unit.execute(sa.insert(_number), [{"value": value} for value in values])
        return list(unit.execute(sa.select(_number.c.value).order_by(_number.c.value)).scalars())


@given(st.lists(amounts, min_size=1, max_size=20))
def test_amounts_are_exact_and_sort_as_numbers(values: list[int]) -> None:
    assert stored(values) == sorted(values)


@given(amounts, amounts)
def test_amounts_compare_as_numbers_within_the_database(one: int, other: int) -> None:
    engine = sa.create_engine("sqlite://")
    _metadata.create_all(engine)
    with engine.begin() as unit:
        unit.execute(sa.insert(_number).values(value=one))
        found = unit.execute(sa.select(_number.c.value).where(_number.c.value <= other)).all()
    assert bool(found) == (one <= other)


@pytest.mark.parametrize("value", [-1, 10**78, -(2**256)])
def test_what_would_not_fit_or_sort_is_refused(value: int) -> None:
    with pytest.raises(sa.exc.StatementError, match="unsigned"):
        stored([value])


@given(st.dictionaries(st.text(), st.one_of(st.none(), st.booleans(), st.text(), st.integers(-(2**70), 2**70))))
def test_json_comes_back_as_it_was(value: dict[str, object]) -> None:
    engine = sa.create_engine("sqlite://")
    _metadata.create_all(engine)
    with engine.begin() as unit:
        unit.execute(sa.insert(_number).values(other=value))
        assert unit.execute(sa.select(_number.c.other)).scalar_one() == value


def add_account(unit: Unit, kind: str, *, debits: int, credits: int) -> None:
    unit.execute(
        sa.insert(account).values(
            id=f"wa-1/native/{kind}",
            owner="wa-1",
            network="EthereumSepolia",
            asset="native",
            kind=kind,
            debits=debits,
            credits=credits,
        )
    )


@pytest.mark.parametrize("kind", ["spendable", "reserved"])
@pytest.mark.parametrize(("debits", "credits"), [(0, 1), (9, 10), (LARGEST - 1, LARGEST)])
def test_what_a_wallet_holds_is_never_negative(unit: Unit, kind: str, debits: int, credits: int) -> None:
    """9 and 10: the check compares numbers, not texts of different length."""
    add_account(unit, kind, debits=credits, credits=credits)
    with pytest.raises(sa.exc.IntegrityError, match="never_negative"):
        unit.execute(sa.update(account).values(debits=debits))


def test_the_accounts_of_the_world_may_be_negative(unit: Unit) -> None:
    for kind in ("outside", "paid", "fees"):
        add_account(unit, kind, debits=0, credits=1)


@pytest.mark.parametrize(
    "value", [Decimal("1.5"), b"x", {1}, float("nan"), float("inf"), datetime(2020, 1, 1)], ids=str
)
def test_what_is_not_json_is_refused(value: object) -> None:
    engine = sa.create_engine("sqlite://")
    _metadata.create_all(engine)
    with engine.begin() as unit, pytest.raises((sa.exc.StatementError, TypeError)):
        unit.execute(sa.insert(_number).values(other={"of": [value]}))


@pytest.mark.parametrize("value", ["\ud800", {"a": ["\udfff"]}, 1.5, [0.1, {"é": (1, 2)}]], ids=str)
def test_json_that_is_rare_is_written(value: object) -> None:
    assert Json().process_bind_param(value, DefaultDialect()) == json.dumps(value, separators=(",", ":"))
