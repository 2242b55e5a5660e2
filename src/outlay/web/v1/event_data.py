"""What the ``data`` of each kind of event holds, and the envelope around it, for the published description."""

from collections.abc import Mapping
from typing import Any

from outlay.core import ids
from outlay.core.event import EVENT_KINDS
from outlay.core.transfer import UNATTENDED
from outlay.web.wire import (
    ADDRESS,
    ANY_OBJECT,
    FLAG,
    TEXT,
    USER,
    WALLET,
    WHEN,
    WHOLE,
    Schema,
    an_id,
    list_of,
    members,
    one_of,
    ref,
)

_DIGITS: Schema = {"type": "string", "pattern": "^[0-9]+$", "description": "base units"}
_TRANSFER = members({"transferRequest": ref("Transfer")})
_TRANSACTION = members({"transactionRequest": ref("Transaction")})
_APPROVAL = members({"approval": ref("Approval")})
_CHANGE = members(
    {"changeRequest": ref("ChangeRequest"), "admins": list_of(members({"userId": USER, "username": TEXT}))}
)
_WALLET = ref("Wallet")

DATA: Mapping[str, Schema] = {
    "policy.triggered": members(
        {
            "policyEvaluation": members(
                {
                    "id": an_id(ids.EVALUATION),
                    "triggered": {"const": True},
                    "reason": TEXT,
                    "date": WHEN,
                    "policy": ref("Policy"),
                    "activity": members(
                        {"kind": TEXT}, {"transferRequest": ref("Transfer"), "changeRequest": ref("ChangeRequest")}
                    ),
                    "context": {
                        **ANY_OBJECT,
                        "description": "what the rule looked at: values, sums, counts, threshold",
                    },
                }
            )
        }
    ),
    "policy.approval.pending": _APPROVAL,
    "policy.approval.resolved": _APPROVAL,
    "change.requested": _CHANGE,
    "change.resolved": _CHANGE,
    "wallet.created": members({"wallet": _WALLET}),
    "wallet.tags.modified": members({"wallet": _WALLET, "tagsAdded": list_of(TEXT), "tagsRemoved": list_of(TEXT)}),
    "wallet.transfer.requested": _TRANSFER,
    "wallet.transfer.broadcasted": _TRANSFER,
    "wallet.transfer.confirmed": _TRANSFER,
    "wallet.transfer.failed": _TRANSFER,
    "wallet.transfer.rejected": _TRANSFER,
    "wallet.transaction.requested": _TRANSACTION,
    "wallet.transaction.broadcasted": _TRANSACTION,
    "wallet.transaction.confirmed": _TRANSACTION,
    "wallet.transaction.failed": _TRANSACTION,
    "payout.delayed": members(
        {
            "payout": ref("Payout"),
            "stage": one_of(*UNATTENDED),
            "since": {**WHEN, "description": "it came into this stage"},
            "expectedSeconds": {**WHOLE, "description": "how long the stage should take at most"},
        }
    ),
    "payout.reorged": members({"payout": ref("Payout"), "blockNumber": WHOLE, "blockHash": TEXT}),
    "payout.effect_mismatch": members(
        {"payout": ref("Payout"), "why": TEXT, "outflow": {**_DIGITS, "description": "base units that really left"}}
    ),
    "wallet.frozen": members({"wallet": _WALLET, "reason": TEXT}),
    "wallet.unfrozen": members(
        {
            "wallet": _WALLET,
            "reason": {**TEXT, "description": "what the person found"},
            "stopped": {**TEXT, "description": "why it was stopped"},
            "by": USER,
        }
    ),
    "wallet.stuck": members(
        {
            "wallet": _WALLET,
            "nonce": {**WHOLE, "description": "the lowest that does not move"},
            "since": WHEN,
            "reason": TEXT,
        },
        {"transferId": an_id(ids.TRANSFER)},
    ),
    "audit.broken": members({"audit": members({"problem": TEXT})}),
    "reconciliation.difference": members(
        {
            "difference": members(
                {"walletId": WALLET, "network": TEXT, "address": ADDRESS, "finding": TEXT},
                {"blockNumber": WHOLE, "asset": TEXT, "symbol": TEXT, "ledger": _DIGITS, "chain": _DIGITS},
            )
        }
    ),
    "webhook.disabled": members({"webhook": ref("Webhook"), "reason": TEXT}),
    "wallet.balance.low": members(
        {
            "balance": members(
                {"walletId": WALLET, "mandateId": an_id(ids.MANDATE), "asset": TEXT},
                {
                    "network": TEXT,
                    "symbol": TEXT,
                    "spendable": _DIGITS,
                    "threshold": _DIGITS,
                    "hoursToEmpty": WHOLE,
                    "waitingReason": TEXT,
                },
            )
        }
    ),
    "price.stale": members(
        {
            "price": members(
                {
                    "symbol": TEXT,
                    "reason": one_of("stale", "off"),
                    "ageSeconds": {**WHOLE, "description": "since a live price was told"},
                    "fixed": {**TEXT, "description": "dollars, as signed: what payouts are judged by"},
                },
                {"live": {**TEXT, "description": "dollars, as told last"}},
            )
        }
    ),
    "mandate.run.missed": members({"run": ref("MandateRun")}),
    "refill.proposed": members({"proposal": ref("RefillProposal")}),
    "wallet.blockchainevent.detected": members(
        {
            "blockchainEvent": members(
                {
                    "walletId": WALLET,
                    "direction": one_of("In", "Out"),
                    "network": TEXT,
                    "kind": one_of("NativeTransfer", "Erc20Transfer"),
                    "blockNumber": WHOLE,
                    "timestamp": WHEN,
                    "to": ADDRESS,
                    "value": _DIGITS,
                    "status": one_of("Confirmed"),
                    "metadata": ANY_OBJECT,
                },
                {
                    "contract": ADDRESS,
                    "from": {**ADDRESS, "description": "only of what left"},
                    "txHash": {**TEXT, "description": "only of what left"},
                    "fee": {**_DIGITS, "description": "base units of the network's coin; only of what left"},
                    "verified": FLAG,
                    "symbol": TEXT,
                    "decimals": WHOLE,
                },
            )
        }
    ),
}
"""Kind -> schema of ``data``; it may hold more."""


def body(kind: str) -> Schema:
    """Return the schema of the body of a delivery of an event of ``kind``."""
    return members(
        {
            "id": {**an_id(ids.DELIVERY), "description": "this attempt"},
            "kind": {"const": kind},
            "date": {**WHEN, "description": "when it happened"},
            "data": DATA[kind],
            "timestampSent": {**WHOLE, "description": "when this attempt was sent, Unix seconds"},
            "deliveryAttempt": {"type": "integer", "minimum": 1},
            "subject": {**TEXT, "description": "id of what it is about"},
            "sequence": {
                "type": "integer",
                "minimum": 1,
                "description": "its number among the events of its subject: what is not higher than the last is old",
            },
        },
        {"retryOf": {**an_id(ids.DELIVERY), "description": "the attempt before this one"}},
    )


def webhooks() -> dict[str, Any]:
    """Return the ``webhooks`` of the OpenAPI document: what is posted to subscribers, by kind."""
    answers = {"200": {"description": "taken; any other answer is a failure, and it is sent again"}}
    return {
        kind: {
            "post": {
                "tags": ["Events"],
                "summary": text,
                "operationId": f"On{kind.title().replace('.', '').replace('_', '')}",
                "requestBody": {"required": True, "content": {"application/json": {"schema": body(kind)}}},
                "responses": answers,
            }
        }
        for kind, text in EVENT_KINDS.items()
    }
