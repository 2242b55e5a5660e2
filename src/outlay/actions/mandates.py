"""Mandates: written and archived, each a signed record; how the wallets stand they fill, and what runs come next."""

from typing import Any

from outlay.actions import present
from outlay.actions.act import Act
from outlay.actions.change import change
from outlay.actions.organization import require_applied
from outlay.actions.recurring import ARCHIVED, next_runs, zone_named
from outlay.actions.refill import filled, flow, look, targets
from outlay.config import Config
from outlay.core.errors import Conflict, InvalidInput, NotFound
from outlay.core.mandate import Mandate
from outlay.core.recurring import Recurring, is_recurring, parse_any, prefix_of
from outlay.core.seams import Instant
from outlay.core.transfer import Event
from outlay.evidence import record as records
from outlay.store import mandates, pools, recurring, wallets
from outlay.store.database import Row, Unit


def create(act: Act, document: dict[str, Any]) -> dict[str, Any]:
    """Create a mandate.

    Raises:
        InvalidInput: it is malformed, or names what there is not. Conflict: another one fills one of its wallets.
    """
    mandate_id = act.new_id(prefix_of(document))
    mandate = parse_any(document, id=mandate_id)
    require_applied(act.unit, act.config)
    if isinstance(mandate, Recurring):
        check_recurring(act.unit, act.config, mandate)
    else:
        _check_names(act, mandate)
        _check_overlap(act.unit, mandate)
    act.record(records.MANDATE_CREATED, mandate_id, mandate.document())
    mandates.add(act.unit, id=mandate_id, document=mandate.document(), now=act.now)
    act.result_id = mandate_id
    return mandate_document(get(act.unit, mandate_id))


def get(unit: Unit, mandate_id: str) -> Row:
    """Return the mandate, archived ones included.

    Raises:
        NotFound: there is none.
    """
    row = mandates.find(unit, mandate_id)
    if row is None:
        raise NotFound("no such mandate")
    return row


def archive(act: Act, mandate_id: str) -> dict[str, Any]:
    """Take a mandate out of force: what waits under it is withdrawn, what was signed is followed to its end."""
    row = get(act.unit, mandate_id)
    if row.status != mandates.ACTIVE:
        raise NotFound("this mandate was archived before")
    act.record(records.MANDATE_ARCHIVED, mandate_id, {})
    mandates.archive(act.unit, mandate_id, now=act.now)
    for payment in mandates.unsigned(act.unit, mandate_id):
        change(act.work, payment, Event.WITHDRAWN, reason=ARCHIVED)
    act.result_id = mandate_id
    return mandate_document(get(act.unit, mandate_id))


def _check_asset(config: Config, mandate: Mandate | Recurring) -> int:
    """Refuse a network or asset that this server has not; return the chain the network means."""
    network = config.network(mandate.network)
    if network is None:
        raise InvalidInput("names no network of this server", field="network")
    if config.find_asset(mandate.network, mandate.asset) is None:
        raise InvalidInput(f"this token is not listed for {mandate.network}", field="asset")
    return network.chain_id


def check_recurring(unit: Unit, config: Config, mandate: Recurring) -> None:
    """Refuse recurring payouts from what there is not, to whoever pays them, or in no time zone.

    Raises:
        InvalidInput: names the member.
    """
    place = (mandate.network, _check_asset(config, mandate))
    zone_named(mandate.zone)
    if mandate.pool_id is not None:
        pool = pools.find(unit, mandate.pool_id)
        if pool is None or pool.status != pools.ACTIVE or (pool.network, pool.chain_id) != place:
            raise InvalidInput(f"names no pool in use on {mandate.network}", field="poolId")
        payers = list(pools.members(unit, pool))
    else:
        wallet = wallets.find(unit, mandate.wallet_id or "")
        if wallet is None or (wallet.network, wallet.chain_id) != place:
            raise InvalidInput(f"names no wallet on {mandate.network}", field="walletId")
        payers = [wallet]
    if any(row.address.lower() == mandate.recipient for row in payers):
        raise InvalidInput("is the paying wallet itself", field="recipient")
    if mandate.recipient in {each.contract for each in config.assets_of(mandate.network)}:
        raise InvalidInput("is a token contract: money sent there is usually lost", field="recipient")
    if mandate.next_date(mandate.first) is None:
        raise InvalidInput("has no date from then on: nothing would ever be paid", field="calendar")


def _check_names(act: Act, mandate: Mandate) -> None:
    """Refuse a mandate about what there is not."""
    chain_id = _check_asset(act.config, mandate)
    named = [] if mandate.treasury is None else [(mandate.treasury, "treasury.walletId")]
    named += [(each, f"wallets.walletIds[{at}]") for at, each in enumerate(mandate.targets.wallet_ids or ())]
    for wallet_id, field in named:
        row = wallets.find(act.unit, wallet_id)
        if row is None or (row.network, row.chain_id) != (mandate.network, chain_id):
            raise InvalidInput(f"names no wallet on {mandate.network}", field=field)
    if mandate.targets.pool_id is not None:
        pool = pools.find(act.unit, mandate.targets.pool_id)
        if pool is None or pool.status != "Active" or pool.network != mandate.network:
            raise InvalidInput(f"names no pool in use on {mandate.network}", field="wallets.poolId")
    ours = {row.address.lower() for row in wallets.everything(act.unit) if row.network == mandate.network}
    if mandate.external is not None and mandate.external in ours:
        raise InvalidInput("is a wallet of this server: name it as treasury.walletId", field="treasury.external")


def _check_overlap(unit: Unit, mandate: Mandate) -> None:
    """Refuse a second mandate for a wallet and asset, and treasuries that would fill each other.

    Tags may make two mandates meet later: then the older one fills the wallet.
    """
    everything, tags = wallets.everything(unit), wallets.all_tags(unit)
    mine = {row.id for row in targets(unit, mandate, everything, tags)}
    for other in mandates.active(unit):
        if (other.network, other.asset) != (mandate.network, mandate.asset):
            continue
        theirs = {row.id for row in targets(unit, other, everything, tags)}
        shared = sorted(mine & theirs)
        if shared:
            raise Conflict(f"mandate {other.id} fills wallet {shared[0]} with this asset already", mandateId=other.id)
        if other.treasury is not None and mandate.treasury is not None:
            circles = {mandate.treasury} & theirs or {other.treasury} & mine
            if circles:
                text = f"{circles.pop()} would be a treasury and be filled with the same asset from another one"
                raise Conflict(text, mandateId=other.id)


# How it is shown


def mandate_document(row: Row) -> dict[str, Any]:
    """Return a mandate."""
    return present.only_given(
        id=row.id,
        **row.document,
        status=row.status,
        dateCreated=present.when(row.created_at),
        dateArchived=present.when(row.archived_at),
    )


def standing(unit: Unit, config: Config, mandate_id: str, *, now: Instant) -> dict[str, Any]:
    """Return a mandate with what it does next.

    Of one that fills wallets: how each stands, what is coming, why nothing goes. Of one of recurring payouts: the runs
    to come.

    Raises:
        NotFound: there is none.
    """
    row = get(unit, mandate_id)
    if is_recurring(mandate_id):
        coming = next_runs(recurring.mandate_of(row), now=now) if row.status == mandates.ACTIVE else []
        return {**mandate_document(row), "next": coming}
    lately = flow(unit, now=now)
    seen = [
        look(unit, config, mandate, wallet, now=now)
        for mandate, wallet in filled(unit, mandates.active(unit))
        if mandate.id == mandate_id and config.network(mandate.network) is not None
    ]
    return {
        **mandate_document(row),
        "balances": [
            present.only_given(
                walletId=each.wallet.id,
                spendable=str(each.spendable),
                threshold=str(each.threshold),
                coming=str(each.coming),
                low=each.is_low,
                hoursToEmpty=lately.hours(each.wallet.id, each.mandate.asset, each.spendable),
                waitingReason=each.plan.reason,
            )
            for each in seen
        ],
    }
