"""How stored things look on the wire: the contract's objects, with our documented additions.

Used for answers and for the snapshots inside events, so that both always agree.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from outlay.config import Config
from outlay.core.asset import NATIVE, Asset
from outlay.core.event import iso
from outlay.core.fees import NATIVE_GAS, Fees, first_offer
from outlay.core.mandate import activity_of
from outlay.core.money import VALUE_UNIT, value_of
from outlay.core.personal_token import token_operations
from outlay.core.policy_document import read_policy, wire_document
from outlay.core.price import Quote
from outlay.core.transfer import State, wire_status
from outlay.evidence.keys import fingerprint
from outlay.settings import Network
from outlay.store import approvals, lanes, permissions, transfers, users, wallets
from outlay.store.database import Row, Unit


def only_given(**members: Any) -> dict[str, Any]:
    """Drop members that are None: the contract leaves absent ones out."""
    return {name: value for name, value in members.items() if value is not None}


def when(instant: int | None) -> str | None:
    """Return an instant as the contract writes dates; None stays None."""
    return None if instant is None else iso(instant)


def transfers_now(unit: Unit, rows: Sequence[Row], config: Config) -> list[dict[str, Any]]:
    """Return transfer requests with what was signed for them so far."""
    slots = [row.transaction_id for row in rows if row.transaction_id is not None]
    known = lanes.attempts_of(unit, slots) if slots else {}
    return [transfer(row, config, known.get(row.transaction_id, ())) for row in rows]


def transfer_now(unit: Unit, row: Row, config: Config) -> dict[str, Any]:
    """Return a transfer request with what was signed for it so far."""
    return transfers_now(unit, [row], config)[0]


def transfer(row: Row, config: Config, attempts: Sequence[Row] = ()) -> dict[str, Any]:
    """Return a transfer request.

    Args:
        row: the transfer.
        config: names the asset.
        attempts: of its slot, as ``lanes.attempts`` gives them; none before a nonce is bound.
    """
    asset = config.find_asset(row.network, row.asset)
    quotes = {"USD": float(Decimal(row.price["price"]))} if row.price else None
    meta = only_given(
        symbol=asset.symbol if asset else None,
        decimals=asset.decimals if asset else None,
        verified=True if asset else None,
        quotes=quotes,
    )
    ended_from = State(row.ended_from) if row.ended_from else None
    return only_given(
        id=row.id,
        walletId=row.wallet_id,
        network=row.network,
        requester=only_given(userId=row.initiator_id, tokenId=row.token_id or None),
        requestBody=row.request_body,
        metadata={"asset": meta},
        status=wire_status(State(row.state), ended_from=ended_from),
        reason=row.reason,
        waitingReason=row.waiting_reason,
        flag=row.flag,
        txHash=row.tx_hash,
        fee=None if row.fee is None else str(row.fee),
        dateRequested=iso(row.requested_at),
        datePolicyResolved=when(row.resolved_at),
        dateBroadcasted=when(row.broadcast_at),
        dateConfirmed=when(row.confirmed_at),
        approvalId=row.approval_id,
        externalId=row.external_id,
        mandateId=row.mandate_id,
        poolId=row.pool_id,
        replacementId=_replacement_of(attempts),
        details=construction(attempts) if attempts else None,
    )


def void_of(attempts: Sequence[Row]) -> Row | None:
    """Return the first void among the attempts of a slot; later ones only raise its fees."""
    return next((each for each in attempts if each.purpose == lanes.VOID), None)


def _replacement_of(attempts: Sequence[Row]) -> str | None:
    """Return the void of a slot, else the newest attempt that somebody asked for."""
    void = void_of(attempts)
    if void is not None:
        return str(void.id)
    return next((str(each.id) for each in reversed(attempts) if each.asked_by is not None), None)


def construction(attempts: Sequence[Row]) -> dict[str, Any]:
    """Return the nonce of a slot that was bound, and what was offered for it, one after the other."""
    return {
        "nonce": attempts[0].nonce,
        "attempts": [
            only_given(
                id=each.id,
                purpose=each.purpose,
                **_offered(each),
                txHash=each.hash,
                dateSigned=when(each.signed_at),
                dateBroadcasted=when(each.first_sent_at),
            )
            for each in attempts
        ],
    }


def _offered(attempt: Row) -> dict[str, str]:
    if attempt.legacy:
        return {"gasLimit": str(attempt.gas_limit), "gasPrice": str(attempt.max_fee_per_gas)}
    return {
        "gasLimit": str(attempt.gas_limit),
        "maxFeePerGas": str(attempt.max_fee_per_gas),
        "maxPriorityFeePerGas": str(attempt.max_priority_fee_per_gas),
    }


def transaction(unit: Unit, paid: Row, attempts: Sequence[Row], shown: Row) -> dict[str, Any]:
    """Return what was asked for in the place of a transfer, as the contract's transaction request.

    Args:
        unit: finds the wallet.
        paid: the transfer.
        attempts: of its slot.
        shown: one of them. Of a void the later ones that raise its fees are meant too.
    """
    same = [each for each in attempts if each.id == shown.id or each.purpose == shown.purpose == lanes.VOID]
    status, reason = _status_of(same, paid)
    wallet = wallets.find(unit, paid.wallet_id)
    if shown.purpose == lanes.VOID:
        to, value = None if wallet is None else wallet.address, "0"
    else:
        to, value = (paid.recipient, str(paid.amount)) if paid.asset == NATIVE else (paid.asset, "0")
    newest = same[-1]
    sent = [each.first_sent_at for each in same if each.first_sent_at is not None]
    kind = "Evm" if newest.legacy else "Eip1559"
    return only_given(
        id=shown.id,
        walletId=paid.wallet_id,
        network=paid.network,
        requester={"userId": shown.asked_by or paid.initiator_id},
        requestBody=only_given(kind=kind, to=to, value=value, nonce=shown.nonce, **_offered(newest)),
        status=status,
        reason=reason,
        txHash=newest.hash if newest.mined_hash not in [each.hash for each in same] else newest.mined_hash,
        fee=str(paid.fee) if status == "Confirmed" and paid.fee is not None else None,
        dateRequested=iso(shown.created_at),
        dateBroadcasted=when(min(sent, default=None)),
        details={"transferId": paid.id, "purpose": shown.purpose},
    )


def _status_of(same: Sequence[Row], paid: Row) -> tuple[str, str | None]:
    """Return the status of attempts that stand for one transaction, and why it failed."""
    newest = same[-1]
    if newest.slot_state != "final":
        return "Broadcasted" if any(each.first_sent_at is not None for each in same) else "Executing", None
    if newest.mined_hash not in [each.hash for each in same]:
        return "Failed", "Another transaction took its nonce, finally."
    is_done = newest.purpose == lanes.VOID or paid.state == State.CONFIRMED
    return ("Confirmed", None) if is_done else ("Failed", paid.reason)


def wallet(unit: Unit, row: Row) -> dict[str, Any]:
    """Return a wallet."""
    return only_given(
        id=row.id,
        network=row.network,
        address=row.address,
        signingKey={"id": row.key_id, "scheme": "ECDSA", "curve": "secp256k1", "publicKey": row.public_key},
        status=row.status,
        dateCreated=iso(row.created_at),
        name=row.name,
        custodial=True,
        externalId=row.external_id,
        tags=list(wallets.tags(unit, row.id)),
        frozenReason=row.frozen_reason,
        drainedReason=row.drained_reason,
    )


def wallet_assets(
    row: Row, held: Sequence[tuple[Asset, int | None, Quote | None]], *, net_worth: bool
) -> dict[str, Any]:
    """Return what a wallet holds.

    Args:
        row: the wallet.
        held: each asset with its balance in base units (None: no token answers) and its price, if there is one.
        net_worth: tell what all of it is worth, unless something in the wallet has no price.
    """
    worth = None
    if net_worth and all(balance is not None and (quote or not balance) for _, balance, quote in held):
        values = [value_of(n or 0, decimals=asset.decimals, price=quote.price) for asset, n, quote in held if quote]
        worth = {"USD": sum(values) / VALUE_UNIT}
    assets = [
        only_given(
            kind=asset.kind,
            contract=asset.contract,
            symbol=asset.symbol,
            decimals=asset.decimals,
            verified=balance is not None,
            balance=str(balance or 0),
            quotes={"USD": float(quote.price)} if quote else None,
        )
        for asset, balance, quote in held
    ]
    return only_given(walletId=row.id, network=row.network, assets=assets, netWorth=worth)


def history_item(paid: Row, block_number: int, address: str, config: Config) -> dict[str, Any]:
    """Return a confirmed transfer as an entry of the history of the wallet at ``address``."""
    asset, coin = config.find_asset(paid.network, paid.asset), config.find_asset(paid.network, NATIVE)
    about = only_given(symbol=asset.symbol, decimals=asset.decimals, verified=True) if asset else {}
    quotes = {"USD": float(Decimal(paid.price["price"]))} if paid.price else None
    return only_given(
        walletId=paid.wallet_id,
        direction="Out",
        network=paid.network,
        blockNumber=block_number,
        txHash=paid.tx_hash,
        timestamp=iso(paid.confirmed_at),
        kind=f"{paid.kind}Transfer",
        contract=None if paid.asset == NATIVE else paid.asset,
        **{"from": address, "to": paid.recipient},
        value=str(paid.amount),
        fee=None if paid.fee is None else str(paid.fee),
        metadata=only_given(
            asset=only_given(**about, quotes=quotes),
            fee={"symbol": coin.symbol, "decimals": coin.decimals, "verified": True} if coin else None,
        ),
        **about,  # where clients looked before there was ``metadata``
    )


def network_fees(network: Network, fees: Fees) -> dict[str, Any]:
    """Return what a payout of the network's coin to a plain account would be offered with, level by level.

    Where the network asks more than the fee cap allows, the level says so and gives the least the network asks.
    """
    levels: dict[str, Any] = {}
    for priority, tip in fees.tips().items():
        offer = first_offer(base_fee=fees.base_fee, tip=tip, gas_limit=NATIVE_GAS, fee_cap=network.fee_cap)
        levels[priority.lower()] = {
            "maxPriorityFeePerGas": str(tip),
            "maxFeePerGas": str(offer.max_fee_per_gas if offer else fees.base_fee + tip),
            "withinFeeCap": offer is not None,
        }
    return {
        "kind": "Eip1559",
        "network": network.name,
        "blockNumber": fees.block_number,
        **levels,
        "baseFeePerGas": str(fees.base_fee),
    }


def policy(row: Row) -> dict[str, Any]:
    """Return a policy as its author wrote it."""
    stored = {
        "name": row.name,
        "activityKind": row.activity_kind,
        "rule": row.rule,
        "action": row.action,
        "filters": row.filters,
    }
    return only_given(
        **wire_document(read_policy(stored, id=row.id, version=row.version)),
        id=row.id,
        status=row.status,
        version=row.version,
        dateCreated=iso(row.created_at),
        dateUpdated=iso(row.updated_at),
    )


def approval(unit: Unit, row: Row, config: Config) -> dict[str, Any]:
    """Return the approval of a transfer with what it is about and what people said so far."""
    paid = transfers.get(unit, row.transfer_id)
    return approval_of(
        row,
        activity={"kind": activity_of(paid.initiator_id), "transferRequest": transfer_now(unit, paid, config)},
        evaluations=evaluations_of([dict(each._mapping) for each in transfers.evaluations(unit, row.transfer_id)]),
        decisions=approvals.decisions(unit, row.id),
    )


def approval_of(
    row: Row, *, activity: dict[str, Any], evaluations: list[dict[str, Any]], decisions: Sequence[Row]
) -> dict[str, Any]:
    """Return an approval of whatever ``activity`` is, without decisions about groups that are not asked any more."""
    return only_given(
        id=row.id,
        initiatorId=row.initiator_id,
        activity=activity,
        status=row.status,
        expirationDate=when(row.expires_at),
        dateCreated=iso(row.created_at),
        dateUpdated=iso(row.updated_at),
        dateResolved=when(row.resolved_at),
        policyEvaluations=evaluations,
        decisions=[
            {"userId": d.user_id, "value": d.value, "reason": d.reason, "date": iso(d.at)}
            for d in decisions
            if d.groups_digest == row.groups_digest
        ],
        approvalGroups=row.groups,
    )


def evaluations_of(kept: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each policy's answer once: the first that triggered, at the request or later, else that of the request.

    Args:
        kept: stored evaluations of one transfer, oldest first.
    """
    answers: dict[str, dict[str, Any]] = {}
    for each in kept:
        known = answers.get(each["policy_id"])
        if known is None or (each["triggered"] and not known["triggered"]):
            answers[each["policy_id"]] = each
    return [
        {"policyId": e["policy_id"], "triggered": e["triggered"], "reason": e["reason"] or "The rule does not apply."}
        for e in answers.values()
    ]


def policy_triggered(evaluation: dict[str, Any], policy_row: Row, paid: Row, config: Config) -> dict[str, Any]:
    """Return the data of a policy.triggered event."""
    return {
        "policyEvaluation": only_given(
            id=evaluation["id"],
            triggered=True,
            reason=evaluation["reason"],
            date=iso(evaluation["at"]),
            policy=policy(policy_row),
            activity={"kind": activity_of(paid.initiator_id), "transferRequest": transfer(paid, config)},
            context=evaluation["context"],
        )
    }


def _assignments(unit: Unit, user_id: str) -> list[dict[str, Any]]:
    return [
        {
            "permissionName": row.name,
            "permissionId": row.permission_id,
            "assignmentId": row.assignment_id,
            "operations": row.operations,
        }
        for row in permissions.held_by(unit, user_id)
    ]


def user(unit: Unit, row: Row, org_id: str) -> dict[str, Any]:
    """Return a person or service account, with the fingerprints of all their keys: what an admin vouches for."""
    held = users.own_keys_of(unit, row.id)
    assignments = _assignments(unit, row.id)
    operations = sorted({operation for a in assignments for operation in a["operations"]})
    return only_given(
        username=row.username,
        name=row.name,
        userId=row.id,
        kind="CustomerEmployee",
        credentialUuid=held[0].id if held else "",
        credentialId=held[0].credential_id if held else None,
        orgId=org_id,
        permissions=operations,
        isActive=row.is_active,
        isServiceAccount=row.is_service_account,
        isRegistered=row.is_registered,
        isSSORequired=False,
        mayVote=row.may_vote,
        externalId=row.external_id,
        permissionAssignments=assignments,
        credentials=[
            {
                "credentialUuid": key.id,
                "credentialId": key.credential_id,
                "name": key.name,
                "fingerprint": fingerprint(key.public_key),
                "isActive": key.is_active,
            }
            for key in users.credentials_of(unit, row.id)
        ],
    )


def service_account(unit: Unit, row: Row, org_id: str) -> dict[str, Any]:
    """Return a service account with its token, whose text only its creation answers."""
    assigned = _assignments(unit, row.id)
    tokens = [_token(unit, held, org_id, assigned) for held in users.tokens_of(unit, row.id, kind="ServiceAccount")]
    return {"userInfo": user(unit, row, org_id), "accessTokens": tokens}


def personal_token(unit: Unit, row: Row, org_id: str) -> dict[str, Any]:
    """Return a personal access token, whose text only its creation answers; its permissions are what it may do."""
    key = users.find_credential(unit, row.credential_id)
    assigned = _assignments(unit, row.user_id)
    limit = None if key is None or key.permission_id is None else permissions.find(unit, key.permission_id)
    if limit is not None:
        held = frozenset(operation for each in assigned for operation in each["operations"])
        mine = next((each["assignmentId"] for each in assigned if each["permissionId"] == limit.id), "")
        within = token_operations(held, () if limit.is_archived else limit.operations)
        assigned = [
            {
                "permissionName": limit.name,
                "permissionId": limit.id,
                "assignmentId": mine,
                "operations": sorted(within),
            }
        ]
    else:
        assigned = [{**each, "operations": sorted(token_operations(each["operations"], None))} for each in assigned]
    return _token(unit, row, org_id, assigned)


def _token(unit: Unit, row: Row, org_id: str, assigned: list[dict[str, Any]]) -> dict[str, Any]:
    key = users.find_credential(unit, row.credential_id)
    return only_given(
        dateCreated=iso(row.created_at),
        dateExpires=iso(row.expires_at),
        credId=key.credential_id if key is not None else "",
        isActive=row.is_active,
        kind=row.kind,
        linkedUserId=row.user_id,
        linkedAppId="",
        name=row.name,
        externalId=row.external_id,
        orgId=org_id,
        permissionAssignments=assigned,
        publicKey=key.public_key if key is not None else "",
        tokenId=row.id,
    )


def credential(row: Row) -> dict[str, Any]:
    """Return a credential."""
    return {
        "kind": row.kind,
        "credentialId": row.credential_id,
        "credentialUuid": row.id,
        "dateCreated": iso(row.created_at),
        "isActive": row.is_active,
        "name": row.name,
        "publicKey": row.public_key,
        "relyingPartyId": row.relying_party_id or "",
        "origin": row.origin or "",
    }


def permission(row: Row) -> dict[str, Any]:
    """Return a permission."""
    return {
        "id": row.id,
        "name": row.name,
        "operations": row.operations,
        "status": "Active",
        "isImmutable": row.is_immutable,
        "isArchived": row.is_archived,
        "dateCreated": iso(row.created_at),
        "dateUpdated": iso(row.updated_at),
    }


def assignment(row: Row) -> dict[str, Any]:
    """Return an assignment of a permission."""
    return {
        "id": row.id,
        "permissionId": row.permission_id,
        "identityId": row.identity_id,
        "isImmutable": row.is_immutable,
        "dateCreated": iso(row.created_at),
        "dateUpdated": iso(row.updated_at),
    }


def page(items: Sequence[dict[str, Any]], token: str | None) -> dict[str, Any]:
    """Return one page of a list; the token is absent on the last."""
    return only_given(items=list(items), nextPageToken=token)
