"""The two servers of the admission rows, one process each: ``python -m bench.servers PORT product|reference DIR``.

*product* is what ``outlay serve`` serves, without the engine's loops: requests are judged, stored and answered,
and nothing is sent. *reference* is the least a server with the same promises could do: the same framework and body
reader, one Ed25519 verification of a signed request (two for the contract's three calls), and one group-committed
insert. With a URL as a last argument the reference inserts there instead of into a file.
"""

import secrets
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from litestar import Controller, Litestar, post
from litestar.di import Provide

from outlay.app import Application
from outlay.core.errors import ActionSignatureInvalid, OutlayError
from outlay.evidence.assertion import Assertion, parse_assertion
from outlay.evidence.base64url import to_base64url
from outlay.evidence.http_signature import Message, check_content_digest, read_headers
from outlay.evidence.keys import load_public_key
from outlay.layout import Layout
from outlay.store.database import Database
from outlay.store.schema import group_mark
from outlay.system import keep_what_is_loaded
from outlay.web import errors
from outlay.web.body import CHALLENGE_BODY_MAX, StrictRequest
from outlay.web.dfns.action import ActionInit, ActionSign
from outlay.web.dfns.wallet import NativeTransfer
from outlay.web.v1.payouts import RequestPayout

PUBLIC_KEY = "payer.pem"
"""The reference reads the payer's public key from this file of its directory."""
DATABASE = "reference.db"

metadata = sa.MetaData()
payout = sa.Table(
    "payout",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("external_id", sa.String(64), unique=True, nullable=False),
    sa.Column("recipient", sa.String(64), nullable=False),
    sa.Column("amount", sa.String(78), nullable=False),
)


_INSERT = sa.insert(payout)


class Store:
    """What the reference keeps: open challenges and tokens in memory, payouts on disk."""

    def __init__(self, directory: Path, url: str) -> None:
        """Open the directory: the payer's key, a database unless ``url`` names another."""
        key = load_public_key((directory / PUBLIC_KEY).read_text(), field="publicKey")
        assert isinstance(key, Ed25519PublicKey)
        self._key = key
        self.challenges: set[str] = set()
        self.tokens: dict[str, Assertion] = {}
        self.db = Database(url or directory / DATABASE)
        with self.db.engine.begin() as unit:
            group_mark.create(unit, checkfirst=True)
            metadata.create_all(unit)

    def verify(self, signature: bytes, signed: bytes) -> None:
        """Check the one signature. Raises InvalidSignature."""
        self._key.verify(signature, signed)

    async def keep(self, *, external_id: str | None, recipient: str, amount: str) -> str:
        """Store a payout and return its id once it is on disk."""
        payout_id = f"xfr-{secrets.token_hex(16)}"
        row = {"id": payout_id, "external_id": external_id, "recipient": recipient, "amount": amount}
        await self.db.write(lambda unit: unit.execute(_INSERT, row))
        return payout_id


class ReferenceController(Controller):
    """A signed request, and the three calls."""

    @post("/v1/payouts", status_code=200)
    async def request(self, request: StrictRequest, data: RequestPayout, store: Store) -> dict[str, Any]:
        """Verify the one signature of a request and store the payout; answer once it is on disk."""
        headers = request.headers
        parameters, signature = read_headers(headers["signature-input"], headers["signature"])
        check_content_digest(headers["content-digest"], await request.body())
        message = Message(
            method=request.method,
            target_uri=str(request.url),
            content_digest=headers["content-digest"],
            parameters=parameters,
            signature=signature,
        )
        store.verify(signature, message.base)
        payout_id = await store.keep(external_id=data.externalId, recipient=data.recipient, amount=data.amount)
        return {"id": payout_id, "walletId": data.walletId, "state": "ready", "externalId": data.externalId}

    @post("/auth/action/init", status_code=200)
    async def init(self, data: ActionInit, store: Store) -> dict[str, Any]:
        """Hand out a challenge."""
        challenge = to_base64url(secrets.token_bytes(32))
        store.challenges.add(challenge)
        return {"challenge": challenge, "challengeIdentifier": challenge, "method": data.userActionHttpMethod}

    @post("/auth/action", status_code=200)
    async def sign(self, data: ActionSign, store: Store) -> dict[str, Any]:
        """Verify its signature and hand out a token."""
        if data.challengeIdentifier not in store.challenges:
            raise ActionSignatureInvalid("unknown challenge")
        store.challenges.discard(data.challengeIdentifier)
        assertion = parse_assertion(data.firstFactor)
        store.verify(assertion.signature, assertion.client_data)
        token = to_base64url(secrets.token_bytes(32))
        store.tokens[token] = assertion
        return {"userAction": token}

    @post("/wallets/{wallet_id:str}/transfers", status_code=200)
    async def pay(self, request: StrictRequest, wallet_id: str, data: NativeTransfer, store: Store) -> dict[str, Any]:
        """Verify the signature again and store the payout; answer once it is on disk."""
        assertion = store.tokens.pop(request.headers.get("x-dfns-useraction", ""), None)
        if assertion is None:
            raise ActionSignatureInvalid("unknown token")
        store.verify(assertion.signature, assertion.client_data)
        payout_id = await store.keep(external_id=data.externalId, recipient=data.to, amount=data.amount)
        return {"id": payout_id, "walletId": wallet_id, "status": "Executing", "externalId": data.externalId}


def reference(directory: Path, url: str = "") -> Litestar:
    """Return the reference."""
    store = Store(directory, url)
    return Litestar(
        route_handlers=[ReferenceController],
        request_class=StrictRequest,
        request_max_body_size=CHALLENGE_BODY_MAX,
        dependencies={"store": Provide(lambda: store, sync_to_thread=False, use_cache=True)},
        exception_handlers={OutlayError: errors.on_outlay_error, Exception: errors.on_unexpected},
        openapi_config=None,
        on_shutdown=[store.db.close],
        logging_config=None,
    )


def product(directory: Path, _url: str = "") -> Litestar:
    """Return the product's application over a deployment, with nothing that sends."""
    return Application(Layout(directory)).asgi(engine=False)


def main() -> None:
    """Serve until ended."""
    port, which, directory, *url = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), *sys.argv[4:]
    app = {"product": product, "reference": reference}[which](directory, *url)
    # As ``outlay serve`` runs it.
    keep_what_is_loaded()
    uvicorn.run(
        app, host="127.0.0.1", port=port, log_level="warning", access_log=False, server_header=False, lifespan="on"
    )


if __name__ == "__main__":
    main()
