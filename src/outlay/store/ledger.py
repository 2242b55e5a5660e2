"""The ledger: double entry. Every entry sums to zero for each asset, and no wallet is spent below nothing.

What a wallet holds stands on the debit side. ``outside`` is where money came from, ``paid`` where it went,
``fees`` what the chain took.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from outlay.core import ids
from outlay.core.errors import InvariantBroken
from outlay.core.ledger import Posting, check_balanced
from outlay.core.seams import Entropy
from outlay.store.database import Unit
from outlay.store.schema import account, posting

_ADD_POSTINGS = sa.insert(posting)
_FIND_ACCOUNTS = sa.select(account).where(account.c.id.in_(sa.bindparam("ids", expanding=True))).order_by(account.c.id)
_ADD_ACCOUNTS = sa.insert(account)
_CHANGE_ACCOUNTS = sa.update(account).where(account.c.id == sa.bindparam("of_id"))
_HOLDINGS = sa.select(account).where(account.c.owner == sa.bindparam("owner"), account.c.asset == sa.bindparam("asset"))


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a wallet holds of one asset, base units."""

    spendable: int
    reserved: int

    @property
    def total(self) -> int:
        """Everything the chain should show."""
        return self.spendable + self.reserved


def post(unit: Unit, postings: Sequence[Posting], *, transfer_id: str | None, now: int, entropy: Entropy) -> None:
    """Write one entry.

    Raises:
        InvariantBroken: the entry does not balance. IntegrityError: a wallet would go below nothing.
    """
    check_balanced(postings)
    lines = [line for line in postings if line.amount]
    if not lines:
        return
    _move(unit, lines)
    entry = ids.new_id("ent", entropy)
    rows = [
        {
            "entry": entry,
            "account_id": line.account_id,
            "side": line.side,
            "amount": line.amount,
            "why": line.why,
            "transfer_id": transfer_id,
            "at": now,
        }
        for line in lines
    ]
    unit.execute(_ADD_POSTINGS, rows)


def _move(unit: Unit, lines: Sequence[Posting]) -> None:
    """Add to each account what the lines say, accounts in the order of their names."""
    owners = {line.account_id: line for line in lines}
    names = sorted(owners)
    found = {row.id: row for row in unit.execute(_FIND_ACCOUNTS, {"ids": names})}
    fresh, changed = [], []
    for name in names:
        sides = {"debits": _sum(lines, name, "debit"), "credits": _sum(lines, name, "credit")}
        row = found.get(name)
        if row is not None:
            changed.append(
                {"of_id": name, "debits": row.debits + sides["debits"], "credits": row.credits + sides["credits"]}
            )
            continue
        line = owners[name]
        place = {"owner": line.owner, "network": line.network, "asset": line.asset, "kind": line.kind}
        fresh.append({"id": name, **place, **sides})
    if fresh:
        unit.execute(_ADD_ACCOUNTS, fresh)
    if changed:
        unit.execute(_CHANGE_ACCOUNTS, changed)


def _sum(lines: Sequence[Posting], name: str, side: str) -> int:
    return sum(line.amount for line in lines if line.account_id == name and line.side == side)


def holdings(unit: Unit, *, wallet_id: str, asset: str) -> Holdings:
    """Return what the ledger says a wallet holds of an asset."""
    found = {"spendable": 0, "reserved": 0}
    for row in unit.execute(_HOLDINGS, {"owner": wallet_id, "asset": asset}):
        found[row.kind] = row.debits - row.credits
    return Holdings(**found)


def accounts(unit: Unit) -> Sequence[sa.Row[Any]]:
    """Return every account."""
    return unit.execute(sa.select(account).order_by(account.c.id)).all()


def check(unit: Unit) -> None:
    """Check the whole ledger: accounts equal their postings, and every asset sums to zero.

    Raises:
        InvariantBroken: they do not.
    """
    totals: dict[str, list[int]] = {}
    for line in unit.execute(sa.select(posting.c.account_id, posting.c.side, posting.c.amount)):
        totals.setdefault(line.account_id, [0, 0])[0 if line.side == "debit" else 1] += line.amount
    for row in accounts(unit):
        if [row.debits, row.credits] != totals.pop(row.id, [0, 0]):
            raise InvariantBroken(f"account {row.id} does not equal its postings")
    if totals:
        raise InvariantBroken(f"there are postings without their accounts: {', '.join(sorted(totals))}")
    check_sums(unit)


def check_sums(unit: Unit) -> None:
    """Check that the accounts of every asset sum to zero.

    Raises:
        InvariantBroken: they do not.
    """
    sums: dict[tuple[str, str], int] = {}
    for row in accounts(unit):
        key = (row.network, row.asset)
        sums[key] = sums.get(key, 0) + row.debits - row.credits
    for key, total in sums.items():
        if total:
            raise InvariantBroken(f"the accounts of {key} do not sum to zero")
