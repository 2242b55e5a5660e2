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
from outlay.store.prepared import Prepared
from outlay.store.schema import account, posting

_ADD_POSTINGS = Prepared(sa.insert(posting))
_FIND_ACCOUNTS = sa.select(account).where(account.c.id.in_(sa.bindparam("ids", expanding=True))).order_by(account.c.id)
_ADD_ACCOUNTS = Prepared(sa.insert(account))
_CHANGE_ACCOUNTS = Prepared(sa.update(account).where(account.c.id == sa.bindparam("of_id")))
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


class Book:
    """The entries of one unit: accounts are read once, carried in memory, and written with all postings at the end."""

    def __init__(self, unit: Unit, *, now: int, entropy: Entropy) -> None:
        """Open the book; what is posted is kept by ``write``, which has to be called before the unit ends."""
        self._unit, self._now, self._entropy = unit, now, entropy
        self._sums: dict[str, list[int]] = {}  # debits and credits by account
        self._places: dict[str, Posting] = {}  # accounts that are touched, by a posting to them
        self._known: set[str] = set()  # accounts that are stored
        self._rows: list[dict[str, Any]] = []

    def post(self, postings: Sequence[Posting], *, transfer_id: str | None) -> None:
        """Add one entry.

        Raises:
            InvariantBroken: it does not balance.
        """
        check_balanced(postings)
        lines = [line for line in postings if line.amount]
        if not lines:
            return
        self._read({line.account_id for line in lines})
        entry = ids.new_id("ent", self._entropy)
        for line in lines:
            name = line.account_id
            self._places[name] = line
            self._sums[name][0 if line.side == "debit" else 1] += line.amount
            self._rows.append(
                {
                    "entry": entry,
                    "account_id": name,
                    "side": line.side,
                    "amount": line.amount,
                    "why": line.why,
                    "transfer_id": transfer_id,
                    "at": self._now,
                }
            )

    def holdings(self, *, wallet_id: str, asset: str) -> Holdings:
        """Return what a wallet holds of an asset after what was posted so far."""
        names = {kind: f"{wallet_id}/{asset}/{kind}" for kind in ("spendable", "reserved")}
        self._read(set(names.values()))
        debits_less_credits = {kind: self._sums[name][0] - self._sums[name][1] for kind, name in names.items()}
        return Holdings(**debits_less_credits)

    def write(self) -> None:
        """Keep it all, accounts in the order of their names.

        Raises:
            IntegrityError: a wallet would go below nothing.
        """
        fresh, changed = [], []
        for name, line in sorted(self._places.items()):
            debits, credits = self._sums[name]
            if name in self._known:
                changed.append({"of_id": name, "debits": debits, "credits": credits})
                continue
            place = {"owner": line.owner, "network": line.network, "asset": line.asset, "kind": line.kind}
            fresh.append({"id": name, **place, "debits": debits, "credits": credits})
        for statement, rows in ((_ADD_ACCOUNTS, fresh), (_CHANGE_ACCOUNTS, changed), (_ADD_POSTINGS, self._rows)):
            statement.run(self._unit, rows)
        self._known.update(self._places)
        self._places, self._rows = {}, []

    def _read(self, names: set[str]) -> None:
        missing = names - self._sums.keys()
        if not missing:
            return
        self._sums.update({name: [0, 0] for name in missing})
        for row in self._unit.execute(_FIND_ACCOUNTS, {"ids": sorted(missing)}):
            self._sums[row.id] = [row.debits, row.credits]
            self._known.add(row.id)


def post(unit: Unit, postings: Sequence[Posting], *, transfer_id: str | None, now: int, entropy: Entropy) -> None:
    """Write one entry.

    Raises:
        InvariantBroken: the entry does not balance. IntegrityError: a wallet would go below nothing.
    """
    book = Book(unit, now=now, entropy=entropy)
    book.post(postings, transfer_id=transfer_id)
    book.write()


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


def reserved_for(unit: Unit, *, transfer_id: str, wallet_id: str, asset: str) -> int:
    """Return what is still set aside in a wallet for one transfer, base units of an asset."""
    mine = posting.c.transfer_id == transfer_id, posting.c.account_id == f"{wallet_id}/{asset}/reserved"
    rows = unit.execute(sa.select(posting.c.side, posting.c.amount).where(*mine))
    return sum(row.amount if row.side == "debit" else -row.amount for row in rows)
