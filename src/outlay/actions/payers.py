"""Who may pay what is asked of a pool, and the wallet it counts for until the router chooses one."""

from dataclasses import dataclass

from outlay.actions.routing import members_of
from outlay.actions.sending import needs_of
from outlay.actions.work import Work
from outlay.core.errors import NotFound, PreconditionFailed
from outlay.core.pool import Member, provisional
from outlay.store import organizations, pools
from outlay.store.database import Row


@dataclass(frozen=True, slots=True)
class _Known:
    pool: Row
    wallets: dict[str, Row]
    members: dict[str, Member]


class Payers:
    """The pools that payouts of one unit name. What is admitted is counted, so that many payouts spread out."""

    def __init__(self, work: Work) -> None:
        """Keep the unit; a pool is read when it is named first."""
        self._work = work
        self._known: dict[str, _Known] = {}
        self._organization: Row | None = None
        self._turns = 0

    @property
    def seq(self) -> int:
        """Number of the newest record."""
        number: int = self._here.head_seq
        return number

    @property
    def _here(self) -> Row:
        if self._organization is None:
            self._organization = organizations.get(self._work.unit)
        return self._organization

    def pool(self, pool_id: str) -> Row:
        """Return a pool, archived ones included.

        Raises:
            NotFound: there is none.
        """
        if pool_id not in self._known:
            found = pools.find(self._work.unit, pool_id)
            if found is None:
                raise NotFound("no such pool")
            rows = {row.id: row for row in pools.members(self._work.unit, found)}
            members = members_of(self._work.unit, self._work.config, found, now=self._work.now)
            self._known[pool_id] = _Known(found, rows, members)
        return self._known[pool_id].pool

    def require_open(self, pool_id: str) -> None:
        """Refuse a pool that takes nothing new.

        Raises:
            PreconditionFailed: it was archived, or has no wallet.
        """
        known = self._known[pool_id]
        if known.pool.status != pools.ACTIVE:
            raise PreconditionFailed(f"pool {pool_id} was archived")
        if not known.wallets:
            raise PreconditionFailed(f"pool {pool_id} has no wallet: put the tag {known.pool.tag!r} on one")

    def of(self, pool_id: str, *, asset: str, amount: int) -> list[Row]:
        """Return the wallets of a pool, first the one that a new payout is to count for; none if it has none.

        Args:
            pool_id: a pool that ``pool`` returned.
            asset: what is paid, ``native`` or a contract.
            amount: base units.
        """
        known = self._known[pool_id]
        if not known.members or self._work.config.find_asset(known.pool.network, asset) is None:
            return list(known.wallets.values())
        needed = needs_of(self._work.config, network=known.pool.network, asset=asset, amount=amount)
        first = provisional(list(known.members.values()), needed, self._here.admitted + self._turns)
        first.take(needed)
        self._turns += 1
        return [known.wallets[first.id], *(row for row in known.wallets.values() if row.id != first.id)]
