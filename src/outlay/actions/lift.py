"""Letting go what was stopped: the signer's freezes, and networks. What people say they found is signed and recorded.

Wallets and assets are let go in ``wallets``; all of it is what ``Outlay:Unfreeze`` policies are about.
"""

from typing import Any

from outlay.actions.act import Act
from outlay.actions.wallets import check_reason
from outlay.core.errors import InvalidInput, NotFound
from outlay.core.event import iso
from outlay.evidence import record as records
from outlay.store import organizations, stops, wallets
from outlay.store.database import Unit


def lift(act: Act, freeze_id: str, *, scope: str, subject: str, reason: str) -> dict[str, Any]:
    """Let go what the signer was told to stop; it signs again once it has seen the record.

    Args:
        act: the signed call.
        freeze_id: of the freeze.
        scope: what the caller believes it stops: all, wallet, network or identity.
        subject: which; empty for all.
        reason: what was found.

    Raises:
        NotFound: there is no such freeze. InvalidInput: it stops something else.
    """
    check_reason(reason)
    row = next((each for each in stops.everything(act.unit) if each.id == freeze_id), None)
    if row is None:
        raise NotFound("there is no such freeze; outlay freezes list shows those there are")
    if (row.scope, row.subject) != (scope, subject):
        raise InvalidInput(f"this freeze stops {row.scope} {row.subject}".rstrip(), field="scope")
    body = {"freezeId": freeze_id, "scope": scope, "subject": subject, "reason": reason}
    act.record(records.STOP_LIFTED, act.org.id, body)
    stops.forget(act.unit, freeze_id)
    act.result_id = freeze_id
    return {"freezeId": freeze_id, "scope": scope, "subject": subject}


def unfreeze_network(act: Act, *, network: str, reason: str) -> dict[str, Any]:
    """Let a network be used again after a person has looked at why it was stopped; its final blocks are learned anew.

    Raises:
        NotFound: it is not frozen.
    """
    check_reason(reason)
    state = stops.find_network(act.unit, network)
    if state is None or state.frozen_reason is None:
        raise NotFound("this network is not frozen")
    body = {"network": network, "reason": reason, "stopped": state.frozen_reason}
    act.record(records.NETWORK_UNFROZEN, act.org.id, body)
    stops.unfreeze_network(act.unit, network)
    organizations.bump_epoch(act.unit)
    act.result_id = act.org.id
    return {"network": network}


def everything_stopped(unit: Unit) -> dict[str, Any]:
    """Return all that is stopped now and why."""
    return {
        "freezes": [
            {
                "id": row.id,
                "scope": row.scope,
                "subject": row.subject,
                "reason": row.reason,
                "dateFrozen": iso(row.at),
            }
            for row in stops.everything(unit)
        ],
        "wallets": [
            {"walletId": row.id, "network": row.network, "reason": row.frozen_reason}
            for row in wallets.everything(unit)
            if row.frozen_reason is not None
        ],
        "assets": [
            {"network": row.network, "asset": row.asset, "reason": row.reason, "dateFrozen": iso(row.at)}
            for row in wallets.frozen_assets(unit)
        ],
        "networks": [
            {"network": row.network, "reason": row.frozen_reason, "dateFrozen": iso(row.frozen_at)}
            for row in stops.networks(unit)
            if row.frozen_reason is not None
        ],
    }
