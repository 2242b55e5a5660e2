"""Putting the signer's journal in place again after it was lost.

A new journal knows of no signature, so it could sign a slot twice. People say which nonces can have been signed: all
below those given here. They sign it, the signer checks that it is about exactly its journal, and counts every cap as
spent for one window.
"""

from collections.abc import Mapping
from typing import Any

from outlay.actions.act import Act
from outlay.actions.wallets import check_reason
from outlay.core.errors import InvalidInput, PreconditionFailed
from outlay.evidence import record as records
from outlay.evidence.changes import NONCE_MAX
from outlay.store import recovery, wallets


def reseed(act: Act, *, journal_id: str, min_nonces: Mapping[str, int], reason: str) -> dict[str, Any]:
    """Let a new journal sign from these nonces on.

    Args:
        act: the signed call.
        journal_id: which journal, as the signer tells it.
        min_nonces: of each wallet, the lowest nonce that may be signed: above all that this database holds signed, and
            what the chain has counted.
        reason: what happened to the journal before.

    Raises:
        InvalidInput: not exactly the wallets there are, or no nonces. PreconditionFailed: lower than what was signed.
    """
    check_reason(reason)
    if not 1 <= len(journal_id) <= 64:
        raise InvalidInput("name the signer's journal as outlay signers show shows it", field="journalId")
    known = {row.id for row in wallets.everything(act.unit)}
    if min_nonces.keys() != known:
        raise InvalidInput("name every wallet there is, and no other", field="minNonces")
    for wallet_id, nonce in sorted(min_nonces.items()):
        if not 0 <= nonce <= NONCE_MAX:
            raise InvalidInput("is not a nonce", field=f"minNonces.{wallet_id}")
        least = recovery.first_unsigned(act.unit, wallet_id)
        if nonce < least:
            raise PreconditionFailed(
                f"nonces of {wallet_id} below {least} were signed: name no lower one",
                walletId=wallet_id,
                leastNonce=least,
            )
    body = {"journalId": journal_id, "minNonces": dict(min_nonces), "reason": reason}
    act.record(records.SIGNER_RESEEDED, act.org.id, body)
    for wallet_id, nonce in sorted(min_nonces.items()):
        recovery.begin_lane_at(act.unit, wallet_id, nonce=nonce)
    act.result_id = act.org.id
    return {"journalId": journal_id, "minNonces": dict(min_nonces)}
