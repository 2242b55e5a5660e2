"""The ledger in the database: it balances, it cannot be overdrawn, and a changed line does not go unnoticed."""

import random

import pytest
import sqlalchemy as sa

from outlay.core import ledger as shapes
from outlay.core.errors import InvariantBroken
from outlay.store import ledger
from outlay.store.database import Unit
from outlay.store.schema import account, posting

NETWORK, TOKEN = "EthereumSepolia", "0x" + "11" * 20
AT = {"network": NETWORK, "asset": TOKEN}


class Entropy:
    def __init__(self) -> None:
        self._random = random.Random(1)

    def token(self, size: int) -> bytes:
        return self._random.randbytes(size)


ENTROPY = Entropy()


def post(unit: Unit, lines: tuple[shapes.Posting, ...]) -> None:
    ledger.post(unit, lines, transfer_id="xfr-1", now=1, entropy=ENTROPY)


def held(unit: Unit, asset: str = TOKEN) -> tuple[int, int]:
    found = ledger.holdings(unit, wallet_id="wa-1", asset=asset)
    return found.spendable, found.reserved


def fund(unit: Unit, amount: int = 100, coins: int = 50) -> None:
    post(unit, shapes.inflow(wallet="wa-1", amount=amount, **AT))
    post(unit, shapes.inflow(wallet="wa-1", network=NETWORK, asset="native", amount=coins))


def test_a_payout_from_inflow_to_the_end(unit: Unit) -> None:
    fund(unit)
    post(unit, shapes.reserve(wallet="wa-1", amount=60, fee_cap=20, **AT))
    assert (held(unit), held(unit, "native")) == ((40, 60), (30, 20))
    post(unit, shapes.settle(wallet="wa-1", reserved=60, paid=60, fee_cap=20, fee=7, **AT))
    assert (held(unit), held(unit, "native")) == ((40, 0), (43, 0))
    assert ledger.holdings(unit, wallet_id="wa-1", asset="native").total == 43
    ledger.check(unit)


@pytest.mark.parametrize(("amount", "fee_cap"), [(101, 1), (1, 51)])
def test_a_wallet_cannot_be_spent_below_nothing(unit: Unit, amount: int, fee_cap: int) -> None:
    fund(unit)
    with pytest.raises(sa.exc.IntegrityError, match="never_negative"):
        post(unit, shapes.reserve(wallet="wa-1", amount=amount, fee_cap=fee_cap, **AT))


def test_a_wallet_that_never_had_anything_cannot_spend(unit: Unit) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="never_negative"):
        post(unit, shapes.reserve(wallet="wa-1", amount=1, fee_cap=0, **AT))


def test_what_is_set_aside_cannot_be_spent_twice(unit: Unit) -> None:
    fund(unit)
    post(unit, shapes.reserve(wallet="wa-1", amount=60, fee_cap=20, **AT))
    with pytest.raises(sa.exc.IntegrityError, match="never_negative"):
        post(unit, shapes.reserve(wallet="wa-1", amount=60, fee_cap=20, **AT))


def test_an_entry_that_does_not_balance_is_not_written(unit: Unit) -> None:
    lines = shapes.inflow(wallet="wa-1", amount=5, **AT)
    with pytest.raises(InvariantBroken, match="zero"):
        post(unit, lines[:1])
    assert list(ledger.accounts(unit)) == []


def test_lines_of_nothing_are_not_written(unit: Unit) -> None:
    fund(unit)
    post(unit, shapes.reserve(wallet="wa-1", amount=60, fee_cap=20, **AT))
    post(unit, shapes.settle(wallet="wa-1", reserved=60, paid=60, fee_cap=20, fee=20, **AT))
    amounts = unit.execute(sa.select(posting.c.amount)).scalars().all()
    assert 0 not in amounts


@pytest.mark.parametrize("what", ["amount", "side", "account", "gone", "added", "total"])
def test_a_line_that_somebody_changed_is_noticed(unit: Unit, what: str) -> None:
    fund(unit)
    post(unit, shapes.reserve(wallet="wa-1", amount=60, fee_cap=20, **AT))
    ledger.check(unit)
    first = sa.select(sa.func.min(posting.c.id)).scalar_subquery()
    change: dict[str, sa.Executable] = {
        "amount": sa.update(posting).where(posting.c.id == first).values(amount=101),
        "side": sa.update(posting).where(posting.c.id == first).values(side="debit"),
        "account": sa.update(posting).where(posting.c.id == first).values(account_id=f"{NETWORK}/native/outside"),
        "gone": sa.delete(posting).where(posting.c.id == first),
        "added": sa.insert(posting).values(
            entry="ent-1", account_id=f"wa-1/{TOKEN}/spendable", side="debit", amount=1, why="inflow", at=1
        ),
        "total": sa.update(account).where(account.c.id == f"wa-1/{TOKEN}/spendable").values(debits=101),
    }
    unit.execute(change[what])
    with pytest.raises(InvariantBroken, match="does not equal its postings"):
        ledger.check(unit)


def test_one_sided_money_is_noticed_even_where_accounts_and_postings_agree(unit: Unit) -> None:
    fund(unit)
    name = f"wa-1/{TOKEN}/spendable"
    unit.execute(sa.insert(posting).values(entry="ent-1", account_id=name, side="debit", amount=1, why="inflow", at=1))
    unit.execute(sa.update(account).where(account.c.id == name).values(debits=101))
    with pytest.raises(InvariantBroken, match="sum to zero"):
        ledger.check(unit)


def test_a_posting_without_its_account_is_noticed(unit: Unit) -> None:
    fund(unit)
    unit.execute(
        sa.insert(posting).values(
            entry="ent-1", account_id="wa-2/native/spendable", side="debit", amount=1, why="inflow", at=1
        )
    )
    with pytest.raises(InvariantBroken):
        ledger.check(unit)
