"""What wallets hold and have under way, of several at once: for pages."""

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from outlay.store.database import Unit
from outlay.store.lanes import UNSETTLED
from outlay.store.ledger import Holdings
from outlay.store.schema import account, lane, transaction

_HELD = sa.select(account).where(
    account.c.owner.in_(sa.bindparam("ids", expanding=True)), account.c.kind.in_(("spendable", "reserved"))
)
_LANES = sa.select(lane.c.wallet_id, lane.c.next_nonce, lane.c.settled_nonce).where(
    lane.c.wallet_id.in_(sa.bindparam("ids", expanding=True))
)
_UNDER_WAY = (
    sa.select(transaction.c.wallet_id, sa.func.count().label("found"))
    .where(transaction.c.wallet_id.in_(sa.bindparam("ids", expanding=True)), transaction.c.state.in_(UNSETTLED))
    .group_by(transaction.c.wallet_id)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """How a wallet's sequence of nonces stands."""

    next_nonce: int  #: that is given out next
    settled_nonce: int  #: every nonce below it is final
    under_way: int  #: nonces that are bound and not final

    @property
    def gap(self) -> int:
        """Nonces that were given out and that nothing is under way for."""
        return max(0, self.next_nonce - self.settled_nonce - self.under_way)


def held(unit: Unit, wallet_ids: Collection[str]) -> dict[str, dict[str, Holdings]]:
    """Return what the ledger says that each wallet holds, by asset; assets it never held are left out."""
    found: dict[str, dict[str, dict[str, int]]] = {each: {} for each in wallet_ids}
    for row in unit.execute(_HELD, {"ids": sorted(wallet_ids)}):
        found[row.owner].setdefault(row.asset, {})[row.kind] = row.debits - row.credits
    return {
        wallet_id: {
            asset: Holdings(spendable=kinds.get("spendable", 0), reserved=kinds.get("reserved", 0))
            for asset, kinds in assets.items()
        }
        for wallet_id, assets in found.items()
    }


def lanes(unit: Unit, wallet_ids: Collection[str]) -> dict[str, Lane]:
    """Return how the lane of each wallet stands; a wallet that never paid has none."""
    ids = {"ids": sorted(wallet_ids)}
    under_way = {row.wallet_id: int(row.found) for row in unit.execute(_UNDER_WAY, ids)}
    return {
        row.wallet_id: Lane(
            next_nonce=row.next_nonce,
            settled_nonce=row.settled_nonce,
            under_way=under_way.get(row.wallet_id, 0),
        )
        for row in unit.execute(_LANES, ids)
    }
