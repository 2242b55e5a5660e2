"""Calls signed as one HTTP message, inside an organization without HTTP."""

import json
from collections.abc import Sequence
from typing import Any

from outlay.actions import payouts
from outlay.actions.act import Act
from outlay.actions.signed_message import SignedMessage
from outlay.core.seams import SECOND
from outlay.evidence.assertion import Credential
from outlay.evidence.canonical import payload_digest
from outlay.evidence.http_signature import Message, read_headers, sign_message
from outlay.evidence.keys import load_private_key, normal_pem
from outlay.evidence.payout_item import read_item
from outlay.store import organizations
from tests.actions.world import ALICE, DOLLAR, USDC, Actor, World

SERVER = "http://localhost:8000"
CREATE = "Wallets:Transfers:Create"
Document = dict[str, Any]


def item(wallet_id: str, dollars: int = 5, *, external_id: str | None = "message-1", **changes: Any) -> Document:
    """Return a request of a payout of USDC in our own words."""
    given = {
        "externalId": external_id,
        "walletId": wallet_id,
        "asset": USDC,
        "recipient": ALICE,
        "amount": str(dollars * DOLLAR),
        **changes,
    }
    return {name: value for name, value in given.items() if value is not None}


def head_of(world: World) -> str:
    """Return the hash of the newest record."""
    with world.unit() as unit:
        return str(organizations.get(unit).head)


def message(
    world: World,
    actor: Actor,
    path: str,
    payload: Document,
    *,
    names_head: bool = True,
    batch_digest: str | None = None,
    **changes: Any,
) -> SignedMessage:
    """Sign a message with the actor's key; ``changes`` replace arguments of ``sign_message``."""
    key, body = load_private_key(actor.private_key), json.dumps(payload).encode()
    arguments: Document = {
        "method": "POST",
        "target_uri": SERVER + path,
        "body": body,
        "created": world.clock.now() // SECOND,
        "nonce": world.entropy.token(16).hex(),
        "records_head": head_of(world) if names_head else None,
        "batch_digest": batch_digest,
        **changes,
    }
    headers = sign_message(key, actor.credential_id, **arguments)
    parameters, signature = read_headers(headers["signature-input"], headers["signature"])
    return SignedMessage(
        message=Message(
            method=arguments["method"],
            target_uri=arguments["target_uri"],
            content_digest=headers.get("content-digest"),
            records_head=arguments["records_head"],
            batch_digest=arguments["batch_digest"],
            parameters=parameters,
            signature=signature,
        ),
        body=arguments["body"],
        digest=batch_digest or payload_digest(payload),
        credential=Credential(
            uuid=actor.credential_uuid,
            credential_id=actor.credential_id,
            user_id=actor.user_id,
            kind="Key",
            public_key=normal_pem(key.public_key()),
        ),
    )


def send(world: World, actor: Actor, call: SignedMessage, path: str, payload: Document, action: Any) -> Any:
    """Carry out a signed message."""
    return world.send(actor, call, "POST", path, payload, CREATE, action)


def pay(world: World, actor: Actor, payload: Document, **changes: Any) -> Document:
    """Request a payout with one signed message."""

    def admit(act: Act) -> Document:
        return payouts.request_payout(act, read_item(payload, ""), quote_of=world.quote)

    call = message(world, actor, "/v1/payouts", payload, **changes)
    answer: Document = send(world, actor, call, "/v1/payouts", payload, admit)
    return answer


def pay_batch(world: World, actor: Actor, items: Sequence[Document], **changes: Any) -> Document:
    """Request many payouts with one signed message."""
    batch = payouts.read_batch(items, [read_item(each, "") for each in items])
    payload = {"items": list(items)}
    call = message(world, actor, "/v1/payouts/batch", payload, **{"batch_digest": batch.digest, **changes})
    answer: Document = send(
        world,
        actor,
        call,
        "/v1/payouts/batch",
        payload,
        lambda act: payouts.request_batch(act, batch, quote_of=world.quote, networks={}),
    )
    return answer
