"""A call signed as one HTTP message, on its way into the unit that carries it out."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from outlay.core.errors import ActionSignatureInvalid, HeadMoved
from outlay.core.seams import MINUTE, SECOND, Instant
from outlay.evidence.assertion import KEY, Credential
from outlay.evidence.challenge import Preimage
from outlay.evidence.http_call import body_document, nonce_of, preimage_of
from outlay.evidence.http_signature import Message
from outlay.evidence.record import CLOCKS_APART
from outlay.store.database import Row
from outlay.store.identities import Identities

AHEAD_MAX: Instant = MINUTE
"""How far the clock of a caller that names the records it saw may be ahead of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedMessage:
    """A message whose body is the one it names; whether the signature counts is decided in the unit.

    ``credential`` is the key that ``keyid`` named just before, and with which the signature was found good. It counts
    only while the key is still exactly this.
    """

    message: Message
    body: bytes  #: as it was sent
    digest: str  #: of the parsed body
    credential: Credential
    seen: Preimage | None = None  #: what it is, once the unit has said which records it saw

    @property
    def preimage(self) -> Preimage:
        """What was signed, in the form in which all calls are judged."""
        assert self.seen is not None, "the unit opens a message before anything looks at it"
        return self.seen

    @property
    def credential_uuid(self) -> str:
        """Whose key signed it."""
        return self.credential.uuid

    @property
    def nonce(self) -> str:
        """What the effect spends."""
        return nonce_of(self.message, self.credential.uuid) if self.seen is None else self.seen.nonce

    def check_signature(self, credential: Credential, *, origins: Collection[str]) -> None:
        """Check that ``credential`` signed this message.

        Raises:
            ActionSignatureInvalid: it did not.
        """
        if credential.kind != KEY or credential.credential_id != self.message.parameters.key_id:
            raise ActionSignatureInvalid("keyid names no key that can sign this")
        if (credential.uuid, credential.public_key) != (self.credential.uuid, self.credential.public_key):
            self.message.verify(credential.public_key)

    def opened(self, known: Identities, org: Row, *, now: Instant) -> "SignedMessage":
        """Return the message with what it is: made just now, over the newest records.

        Raises:
            ActionSignatureInvalid: it has expired, was made in the future, or names records we do not have.
            HeadMoved: the organization's records were changed since.
        """
        check_times(self.message, now=now)
        preimage = preimage_of(
            self.message,
            digest=self.digest,
            org=org.id,
            user_id=self.credential.user_id,
            credential_uuid=self.credential.uuid,
            records_head=_head(known, org, self.message),
        )
        return replace(self, seen=preimage)

    def proof(self) -> dict[str, Any]:
        """Return what is stored of it, but for whose key it was."""
        return body_document(self.message, self.body)


def check_times(message: Message, *, now: Instant) -> None:
    """Check that a message was made before now and has not expired.

    Raises:
        ActionSignatureInvalid: it has expired, or was made in the future.
    """
    created, expires = message.parameters.created * SECOND, message.parameters.expires * SECOND
    if now >= expires:
        raise ActionSignatureInvalid("this HTTP message signature has expired: sign the call again")
    # Whoever reads the signature later takes a message that names no records for one over the newest of then.
    if created > now + (0 if message.records_head is None else AHEAD_MAX):
        raise ActionSignatureInvalid(
            "this HTTP message was signed in the future: set your clock right, or cover outlay-records-head"
        )


def _head(known: Identities, org: Row, message: Message) -> str:
    named, created = message.records_head, message.parameters.created * SECOND
    newest = known.record(org.head if named is None else named)
    if newest is None:
        raise ActionSignatureInvalid("outlay-records-head names a record that this organization does not have")
    # Whoever checks it later believes clocks that are so far apart, and no others.
    latest = created if named is None else created + CLOCKS_APART
    if newest.hash != org.head or newest.at > latest:
        raise HeadMoved("the organization's records were changed after this was signed: sign it again")
    return str(newest.hash)
