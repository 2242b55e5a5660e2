"""Reading a call that is signed as one HTTP message, as far as can be told before the unit that carries it out."""

from collections.abc import Collection, MutableMapping
from dataclasses import dataclass
from typing import Any

from litestar import Request
from litestar.datastructures import Headers

from outlay.actions.act import credential_of
from outlay.actions.signed_message import SignedMessage
from outlay.core.errors import ActionSignatureInvalid
from outlay.core.seams import MINUTE, Instant
from outlay.evidence.assertion import KEY, Credential
from outlay.evidence.canonical import payload_digest
from outlay.evidence.http_signature import (
    BATCH_DIGEST,
    DIGEST,
    RECORDS_HEAD,
    Message,
    check_content_digest,
    read_headers,
)
from outlay.evidence.submission import SUBMISSION_PATH
from outlay.store import users
from outlay.store.database import Database
from outlay.web.body import BATCH_PATH, StrictRequest

ROUTES = "/v1/payouts"
"""Where calls may be signed so: writes below this path, and where files of payouts are submitted."""

KEYS_MAX, REMEMBERED = 10_000, MINUTE
"""How many keys are remembered, and for how long."""

Keys = MutableMapping[str, tuple[Credential, Instant]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A message that was signed by the key it names; what its body says has not been looked at."""

    message: Message
    body: bytes  #: as it was sent
    credential: Credential


def is_message(request: Request[Any, Any, Any]) -> bool:
    """Tell whether a call is to be taken for a signed HTTP message."""
    path: str = request.scope["path"]
    is_cancel = path.startswith(ROUTES + "/") and path.endswith("/cancel")
    is_ours = is_cancel or path in (ROUTES, BATCH_PATH, SUBMISSION_PATH)
    return request.method == "POST" and is_ours and "signature-input" in request.headers


async def receive_message(
    request: StrictRequest, *, public_url: str, origins: Collection[str], db: Database, keys: Keys, now: Instant
) -> Received:
    """Return a message whose signature is good with the key that ``keyid`` names.

    Args:
        request: the call.
        public_url: how callers reach this server: what their target begins with.
        origins: of credentials.
        db: where keys are looked up.
        keys: remembers them by credential id for a while; the unit looks whether they are still as remembered.
        now: the current instant.

    Raises:
        ActionSignatureInvalid: outside of the profile, another body or target, or another key.
        BodyTooLarge, InvalidInput: the body could not be read to its end.
    """
    headers = request.headers
    parameters, signature = read_headers(_one(headers, "signature-input") or "", _one(headers, "signature") or "")
    raw = await request.sent()
    target = public_url.rstrip("/") + request.scope["raw_path"].decode("ascii", "replace")
    query = request.scope.get("query_string", b"")
    message = Message(
        method=request.method,
        target_uri=target + ("?" + query.decode("ascii", "replace") if query else ""),
        content_digest=_one(headers, DIGEST),
        records_head=_one(headers, RECORDS_HEAD),
        batch_digest=_one(headers, BATCH_DIGEST),
        parameters=parameters,
        signature=signature,
    )
    if (message.batch_digest is None) == (request.scope["path"] == BATCH_PATH):
        raise ActionSignatureInvalid(f"{BATCH_DIGEST} is sent and covered where a batch is posted, and nowhere else")
    if message.content_digest is not None:
        check_content_digest(message.content_digest, raw)
    elif raw:
        raise ActionSignatureInvalid("the HTTP message signature is refused: it must cover content-digest")
    credential, read_at = keys.get(parameters.key_id, (None, now))
    if credential is None or now >= read_at + REMEMBERED:
        row = await db.read(lambda unit: users.find_credential_by_name(unit, parameters.key_id))
        if row is None or row.kind != KEY:
            raise ActionSignatureInvalid("keyid names no key that can sign this")
        credential = credential_of(row, origins=origins)
        if len(keys) >= KEYS_MAX:
            keys.clear()
        keys[parameters.key_id] = (credential, now)
    message.verify(credential.public_key)
    return Received(message=message, body=raw, credential=credential)


async def read_message(request: StrictRequest, received: Received) -> SignedMessage:
    """Return the signed call that a message is.

    Raises:
        InvalidInput, UnsupportedMediaType: the body is malformed.
    """
    message = received.message
    digest = message.batch_digest or payload_digest(await request.payload())
    return SignedMessage(message=message, body=received.body, digest=digest, credential=received.credential)


def _one(headers: Headers, name: str) -> str | None:
    """Return the value of a header that may be there once.

    Raises:
        ActionSignatureInvalid: it is there more often.
    """
    values = headers.getall(name, [])
    if len(values) > 1:
        raise ActionSignatureInvalid(f"the HTTP message signature is refused: {name} is sent more than once")
    return values[0] if values else None
