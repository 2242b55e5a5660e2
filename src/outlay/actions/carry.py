"""Carrying out changes that people agreed on: the signed call is done again, for whom asked, as things stand now."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from outlay.actions import (
    credentials,
    lift,
    mandates,
    organization,
    pats,
    people,
    permissions,
    policies,
    reseed,
    wallets,
)
from outlay.actions.act import Act, Agreed, Caller, SignedCall, key_operations
from outlay.actions.changes import APPLIED, FAILED, PENDING, close, due_of, resolve
from outlay.actions.work import Work
from outlay.core.errors import NotPermitted, Refused, Unavailable
from outlay.core.seams import SECOND, Instant
from outlay.evidence import record as records
from outlay.evidence.assertion import Assertion
from outlay.evidence.bundle import read_credential
from outlay.evidence.canonical import canonical
from outlay.evidence.challenge import Preimage
from outlay.evidence.changes import operation_of
from outlay.store import changes, organizations, users
from outlay.store.database import Row, savepoint

TRY_AGAIN: Instant = 5 * SECOND
"""When what cannot be made at this moment is tried again."""


class NotYet(Exception):
    """What was agreed on cannot be made at this moment, and will be later."""


def carry_out_if_due(work: Work, change_id: str) -> None:
    """Make a change now if its people agree and nothing has to be waited for."""
    row = changes.get(work.unit, change_id)
    if row.status == "Pending" and row.due_at is not None and row.due_at <= work.now:
        carry_out(work, row)


def carry_out(work: Work, row: Row) -> bool:
    """Make a change whose people agree and whose wait is over; what cannot be made any more fails, and says why.

    Tell whether there is nothing left to try again.
    """
    row = changes.get(work.unit, row.id)  # another change of the same batch may have ended it
    if row.status != PENDING:
        return True
    document = json.loads(row.content)
    try:
        with savepoint(work.unit):
            due = due_of(work, row, document)
            if due is None or due > work.now:
                changes.update(work.unit, row.id, due_at=due)
                return True
            act = _act_of(work, row, document)
            # Said first: what counts votes again on the way must not look at this one.
            changes.update(work.unit, row.id, status=APPLIED)
            AGAIN[row.record_kind](act, row.subject, document["after"])
            act.check_quorums()
    except (NotYet, Unavailable):
        changes.update(work.unit, row.id, due_at=work.now + TRY_AGAIN)
        return False
    except Refused as error:
        close(work, row, FAILED, error.message)
        return True
    resolve(work, row, APPLIED, None)
    return True


def _act_of(work: Work, row: Row, document: Mapping[str, Any]) -> Act:
    """Return the call that asked for a change, to be carried out for whom asked, as that identity stands now.

    Raises:
        NotPermitted: it, or its key, was switched off, or lost the permission.
    """
    user = users.find(work.unit, row.requester_id)
    key = users.find_credential(work.unit, row.credential_id)
    if user is None or not user.is_active or not user.may_vote or key is None or not key.is_active:
        raise NotPermitted("who asked for it, or the key it was signed with, was switched off")
    caller = Caller(
        user_id=user.id,
        token_id=row.token_id,
        username=user.username,
        is_service_account=user.is_service_account,
        is_vouched=True,
        operations=key_operations(work.unit, key),
    )
    operation = operation_of(row.record_kind, row.subject, document["after"], row.method, row.path)
    if operation is not None:
        caller.require(operation)
    proof = changes.record_named(work.unit, row.record)["evidence"]
    preimage = Preimage.from_document(proof["preimage"])
    credential, introduced = read_credential(proof["credential"])
    return Act(
        unit=work.unit,
        now=work.now,
        entropy=work.entropy,
        config=work.config,
        org=organizations.get(work.unit),
        caller=caller,
        call=SignedCall(
            preimage=preimage,
            assertion=Assertion.from_document(proof["assertion"]),
            credential_uuid=credential.uuid,
            token_expires=preimage.expires,
        ),
        credential=credential,
        credential_record=introduced,
        payload=json.loads(row.payload),
        agreed=Agreed(row.id, row.record_kind, row.subject, document["after"]),
    )


def _apply_config(act: Act, _subject: str, body: Mapping[str, Any]) -> None:
    if canonical(body["moneySettings"]) != canonical(act.config.money_settings()):
        raise NotYet  # takes hold when the server is restarted with the file that was agreed on
    organization.apply_config(act, settings=body["moneySettings"])


def _create_wallet(act: Act, subject: str, body: Mapping[str, Any]) -> None:
    wallets.create(
        act,
        wallet_id=subject,
        network=body["network"],
        key_id=body["keyId"],
        address=body["address"],
        public_key=body["publicKey"],
        name=body["name"],
        external_id=act.payload.get("externalId"),
        tags=body["tags"],
    )


def _tag(act: Act, subject: str, body: Mapping[str, Any]) -> None:
    if act.call.preimage.method == "PUT":
        wallets.add_tags(act, subject, act.payload["tags"])
    else:
        wallets.remove_tags(act, subject, act.payload["tags"])


def _activate(act: Act, subject: str, _body: Mapping[str, Any]) -> None:
    row = users.find(act.unit, subject)
    people.activate(act, subject, service_account=row is not None and row.is_service_account)


def _activate_key(act: Act, subject: str, body: Mapping[str, Any]) -> None:
    if "tokenId" in body:
        pats.activate(act, body["tokenId"])
    else:
        credentials.activate(act, subject)


AGAIN: Mapping[str, Callable[[Act, str, Mapping[str, Any]], object]] = {
    records.POLICY_CREATED: lambda act, _, body: policies.create(act, act.payload),
    records.POLICY_UPDATED: lambda act, subject, body: policies.replace(act, subject, act.payload),
    records.POLICY_ARCHIVED: lambda act, subject, body: policies.archive(act, subject),
    records.PERMISSION_UPDATED: lambda act, subject, body: permissions.update(
        act, subject, name=act.payload.get("name"), operations=act.payload.get("operations")
    ),
    records.PERMISSION_ARCHIVED: lambda act, subject, body: permissions.archive(act, subject),
    records.PERMISSION_ASSIGNED: lambda act, subject, body: permissions.assign(
        act, subject, identity_id=act.payload["identityId"]
    ),
    records.PERMISSION_REVOKED: lambda act, subject, body: permissions.revoke(act, subject, body["assignmentId"]),
    records.USER_ACTIVATED: _activate,
    records.CREDENTIAL_ACTIVATED: _activate_key,
    records.WALLET_CREATED: _create_wallet,
    records.WALLET_TAGS_MODIFIED: _tag,
    records.CONFIG_APPLIED: _apply_config,
    records.WALLET_UNFROZEN: lambda act, subject, body: wallets.unfreeze(act, subject, reason=body["reason"]),
    records.MANDATE_CREATED: lambda act, _, body: mandates.create(act, act.payload),
    records.ASSET_UNFROZEN: lambda act, _, body: wallets.unfreeze_asset(
        act, network=body["network"], asset=body["asset"], reason=body["reason"]
    ),
    records.NETWORK_UNFROZEN: lambda act, _, body: lift.unfreeze_network(
        act, network=body["network"], reason=body["reason"]
    ),
    records.STOP_LIFTED: lambda act, _, body: lift.lift(
        act, body["freezeId"], scope=body["scope"], subject=body["subject"], reason=body["reason"]
    ),
    records.SIGNER_RESEEDED: lambda act, _, body: reseed.reseed(
        act, journal_id=body["journalId"], min_nonces=body["minNonces"], reason=body["reason"]
    ),
}
"""Kind of record -> the action that leads to it, done again from what was signed."""
