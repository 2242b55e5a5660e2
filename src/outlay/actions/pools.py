"""Pools of hot wallets: made and archived by signed records, and how their wallets stand; draining a wallet."""

from typing import Any

from outlay.actions import present
from outlay.actions.act import Act
from outlay.actions.organization import require_applied
from outlay.actions.routing import members_of
from outlay.actions.wallets import check_network, check_reason, parse_tags
from outlay.actions.wallets import get as get_wallet
from outlay.config import Config
from outlay.core import ids
from outlay.core.asset import NATIVE
from outlay.core.errors import InvalidInput, NotFound, PreconditionFailed
from outlay.core.event import iso
from outlay.core.pool import Member, Route
from outlay.core.seams import SECOND, Instant
from outlay.evidence import record as records
from outlay.store import organizations, pools, wallets
from outlay.store.database import Row, Unit

NAME_MAX = 100


def create(act: Act, *, name: str, network: str, tag: str) -> dict[str, Any]:
    """Make a pool of all wallets of a network that carry a tag, now or later.

    Raises:
        InvalidInput: the name or tag is malformed, or the network is not configured.
    """
    if not 1 <= len(name.strip()) <= NAME_MAX or not name.isprintable():
        raise InvalidInput(f"is 1 to {NAME_MAX} printable characters", field="name")
    try:
        (tag,) = parse_tags([tag])
    except InvalidInput as error:
        raise InvalidInput(error.message, field="tag") from error
    check_network(act.config, network)
    require_applied(act.unit, act.config)  # the record names the chain id, which must be the signed one
    pool_id, chain_id = act.new_id(ids.POOL), act.config.networks[network].chain_id
    act.record(records.POOL_CREATED, pool_id, {"name": name, "network": network, "chainId": chain_id, "tag": tag})
    pools.add(
        act.unit,
        id=pool_id,
        name=name,
        network=network,
        chain_id=chain_id,
        tag=tag,
        status=pools.ACTIVE,
        created_at=act.now,
    )
    act.result_id = pool_id
    return document(get(act.unit, pool_id))


def get(unit: Unit, pool_id: str) -> Row:
    """Return the pool, archived ones included.

    Raises:
        NotFound: there is none.
    """
    row = pools.find(unit, pool_id)
    if row is None:
        raise NotFound("no such pool")
    return row


def archive(act: Act, pool_id: str) -> dict[str, Any]:
    """Let a pool take nothing new; what it was asked to pay is paid.

    Raises:
        NotFound: there is none, or it was archived before.
    """
    row = get(act.unit, pool_id)
    if row.status != pools.ACTIVE:
        raise NotFound("this pool was archived before")
    act.record(records.POOL_ARCHIVED, pool_id, {})
    pools.archive(act.unit, pool_id)
    act.result_id = pool_id
    return document(get(act.unit, pool_id))


def drain(act: Act, wallet_id: str, *, reason: str) -> dict[str, Any]:
    """Give a wallet no new work; what is bound to it goes on.

    Raises:
        NotFound: there is none. PreconditionFailed: it is drained already.
    """
    row = get_wallet(act.unit, wallet_id)
    check_reason(reason)
    if row.drained_reason is not None:
        raise PreconditionFailed("this wallet is drained already")
    act.record(records.WALLET_DRAINED, wallet_id, {"reason": reason})
    return _changed(act, wallet_id, reason)


def resume(act: Act, wallet_id: str) -> dict[str, Any]:
    """Give a drained wallet work again.

    Raises:
        NotFound: there is none. PreconditionFailed: it is not drained.
    """
    if get_wallet(act.unit, wallet_id).drained_reason is None:
        raise PreconditionFailed("this wallet is not drained")
    act.record(records.WALLET_RESUMED, wallet_id, {})
    return _changed(act, wallet_id, None)


def _changed(act: Act, wallet_id: str, reason: str | None) -> dict[str, Any]:
    wallets.update(act.unit, wallet_id, drained_reason=reason)
    organizations.bump_epoch(act.unit)
    act.result_id = wallet_id
    return present.wallet(act.unit, get_wallet(act.unit, wallet_id))


# How it is shown


def document(row: Row) -> dict[str, Any]:
    """Return a pool."""
    return {
        "id": row.id,
        "name": row.name,
        "network": row.network,
        "tag": row.tag,
        "status": row.status,
        "dateCreated": iso(row.created_at),
    }


def health(unit: Unit, config: Config, pool_id: str, *, now: Instant) -> dict[str, Any]:
    """Return a pool, what waits in its queue, and how each of its wallets stands.

    Raises:
        NotFound: there is none.
    """
    row = get(unit, pool_id)
    members = members_of(unit, config, row, now=now)
    depths = pools.depths(unit, pool_id)
    waiting = [depths[each] for each in (Route.QUEUE, Route.PARKED) if each in depths]
    ready, sent_at = pools.ready_in_lanes(unit, members), pools.oldest_sent(unit, members)
    return {
        **document(row),
        "queue": present.only_given(
            waiting=sum(count for count, _ in waiting),
            unpayable=depths.get(Route.PARKED, (0, 0))[0],
            oldestSeconds=_age(now, [oldest for _, oldest in waiting]),
        ),
        "wallets": [
            _standing(config, row, each, ready.get(each.id), sent_at.get(each.id), now=now) for each in members.values()
        ],
    }


def _standing(
    config: Config, pool: Row, member: Member, ready: tuple[int, int] | None, sent_at: Instant | None, *, now: Instant
) -> dict[str, Any]:
    known = config.network(pool.network)
    headroom = None
    if known is not None:
        headroom = member.spendable.get(NATIVE, 0) // known.fee_cap
    depth = 0 if ready is None else ready[0]
    oldest = [each for each in (None if ready is None else ready[1], sent_at) if each is not None]
    return present.only_given(
        walletId=member.id,
        takesWork=member.why_out is None,
        reason=member.why_out,
        isStuck=member.is_stuck,
        pending=depth,
        inFlight=member.in_flight,
        oldestSeconds=_age(now, oldest),
        spendable=[
            {"asset": asset, "amount": str(amount)} for asset, amount in sorted(member.spendable.items()) if amount
        ],
        feeHeadroom=headroom,
    )


def _age(now: Instant, instants: list[Instant]) -> int | None:
    return max(0, now - min(instants)) // SECOND if instants else None
