"""Challenges derived from what they stand for, so that a signature over one binds that content.

The client sees 43 opaque characters; whoever holds the preimage can recompute them. Each purpose has a domain
of its own: a login can never be replayed as an action. Nothing here knows keys or signatures.
"""

import functools
import hashlib
import unicodedata
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import unquote_to_bytes

from outlay.core.errors import InvalidInput, InvariantBroken
from outlay.core.seams import Instant
from outlay.evidence.base64url import to_base64url
from outlay.evidence.canonical import canonical
from outlay.evidence.shape import check_digest, check_texts, members

ACTION_DOMAIN = "outlay.action.v1"
LOGIN_DOMAIN = "outlay.login.v1"
REGISTRATION_DOMAIN = "outlay.registration.v1"
CREDENTIAL_DOMAIN = "outlay.credential.v1"

METHODS = frozenset({"GET", "POST", "PUT", "DELETE"})
"""Methods a user action may name."""

_MAX_PATH = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Preimage:
    """What one signed action is: who may sign it, the call, its content, and the state of the records it saw."""

    org: str
    identity: str  #: user id of the bearer who asked for the challenge
    credentials: tuple[str, ...]  #: credential uuids that may answer it, sorted, each once
    method: str  #: GET, POST, PUT or DELETE
    path: str  #: as ``normalize_path`` returns it
    payload_digest: str  #: hex SHA-256 of the canonical payload
    intent_digest: str | None = None  #: decisions only: hex digest of the intent decided on
    groups_digest: str | None = None  #: decisions only: hex digest of the approval's groups
    records_head: str  #: hex hash of the newest record when the challenge was made
    nonce: str  #: spent once by the effect
    issued: Instant  #: microseconds UTC
    expires: Instant  #: microseconds UTC, after ``issued``

    def __post_init__(self) -> None:
        """Refuse a preimage that could not have been made on purpose."""
        _check_credentials(self.credentials)
        _check_times(self.issued, self.expires)
        if (self.intent_digest is None) != (self.groups_digest is None):
            raise InvariantBroken("a decision binds both the intent and the groups")

    def document(self) -> dict[str, Any]:
        """Return the JSON object whose canonical bytes the challenge is derived from."""
        document: dict[str, Any] = {
            "org": self.org,
            "identity": self.identity,
            "credentials": list(self.credentials),
            "method": self.method,
            "path": self.path,
            "payloadDigest": self.payload_digest,
            "recordsHead": self.records_head,
            "nonce": self.nonce,
            "issued": self.issued,
            "expires": self.expires,
        }
        if self.intent_digest is not None:
            document["intentDigest"] = self.intent_digest
            document["groupsDigest"] = self.groups_digest
        return document

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Read what ``document`` wrote.

        Raises:
            InvalidInput: a member is missing, unknown or malformed.
        """
        texts = ("org", "identity", "method", "path", "payloadDigest", "recordsHead", "nonce")
        given = members(
            document,
            "preimage",
            {**dict.fromkeys(texts, str), "credentials": list, "issued": int, "expires": int},
            {"intentDigest": str, "groupsDigest": str},
        )
        check_texts(given["credentials"], "preimage.credentials")
        for name in ("payloadDigest", "recordsHead", "intentDigest", "groupsDigest"):
            if name in given:
                check_digest(given[name], f"preimage.{name}")
        if given["method"] not in METHODS:
            raise InvalidInput("preimage.method must be GET, POST, PUT or DELETE", field="preimage.method")
        if normalize_path(given["path"], field="preimage.path") != given["path"]:
            raise InvalidInput("preimage.path is not in its normal form", field="preimage.path")
        try:
            return cls(
                org=given["org"],
                identity=given["identity"],
                credentials=tuple(given["credentials"]),
                method=given["method"],
                path=given["path"],
                payload_digest=given["payloadDigest"],
                intent_digest=given.get("intentDigest"),
                groups_digest=given.get("groupsDigest"),
                records_head=given["recordsHead"],
                nonce=given["nonce"],
                issued=given["issued"],
                expires=given["expires"],
            )
        except InvariantBroken as error:
            raise InvalidInput(f"preimage: {error.message}", field="preimage") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginPreimage:
    """What one login is."""

    org: str
    identity: str  #: user id that logs in
    credentials: tuple[str, ...]  #: credential uuids that may answer, sorted, each once
    nonce: str
    issued: Instant  #: microseconds UTC
    expires: Instant  #: microseconds UTC, after ``issued``

    def __post_init__(self) -> None:
        """Refuse a preimage that could not have been made on purpose."""
        _check_credentials(self.credentials)
        _check_times(self.issued, self.expires)

    def document(self) -> dict[str, Any]:
        """Return the JSON object whose canonical bytes the challenge is derived from."""
        return {
            "org": self.org,
            "identity": self.identity,
            "credentials": list(self.credentials),
            "nonce": self.nonce,
            "issued": self.issued,
            "expires": self.expires,
        }

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Read what ``document`` wrote.

        Raises:
            InvalidInput: a member is missing, unknown or malformed.
        """
        given = members(
            document,
            "preimage",
            {"org": str, "identity": str, "credentials": list, "nonce": str, "issued": int, "expires": int},
        )
        check_texts(given["credentials"], "preimage.credentials")
        try:
            return cls(**{**given, "credentials": tuple(given["credentials"])})
        except InvariantBroken as error:
            raise InvalidInput(f"preimage: {error.message}", field="preimage") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationPreimage:
    """What one registration is: this person takes up this invitation."""

    org: str
    user_id: str
    invitation: str  #: hex hash of the invitation's record
    nonce: str
    issued: Instant  #: microseconds UTC
    expires: Instant  #: microseconds UTC, after ``issued``

    def __post_init__(self) -> None:
        """Refuse a preimage that could not have been made on purpose."""
        _check_times(self.issued, self.expires)

    def document(self) -> dict[str, Any]:
        """Return the JSON object whose canonical bytes the challenge is derived from."""
        return {
            "org": self.org,
            "userId": self.user_id,
            "invitation": self.invitation,
            "nonce": self.nonce,
            "issued": self.issued,
            "expires": self.expires,
        }

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Read what ``document`` wrote.

        Raises:
            InvalidInput: a member is missing, unknown or malformed.
        """
        given = members(
            document,
            "preimage",
            {"org": str, "userId": str, "invitation": str, "nonce": str, "issued": int, "expires": int},
        )
        check_digest(given["invitation"], "preimage.invitation")
        try:
            return cls(
                org=given["org"],
                user_id=given["userId"],
                invitation=given["invitation"],
                nonce=given["nonce"],
                issued=given["issued"],
                expires=given["expires"],
            )
        except InvariantBroken as error:
            raise InvalidInput(f"preimage: {error.message}", field="preimage") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialPreimage:
    """What a new key proves itself over: this person or machine adds a key of their own."""

    org: str
    user_id: str
    nonce: str  #: good for one key
    issued: Instant  #: microseconds UTC
    expires: Instant  #: microseconds UTC, after ``issued``

    def __post_init__(self) -> None:
        """Refuse a preimage that could not have been made on purpose."""
        _check_times(self.issued, self.expires)

    def document(self) -> dict[str, Any]:
        """Return the JSON object whose canonical bytes the challenge is derived from."""
        return {
            "org": self.org,
            "userId": self.user_id,
            "nonce": self.nonce,
            "issued": self.issued,
            "expires": self.expires,
        }

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Read what ``document`` wrote.

        Raises:
            InvalidInput: a member is missing, unknown or malformed.
        """
        shape: dict[str, type] = {"org": str, "userId": str, "nonce": str, "issued": int, "expires": int}
        given = members(document, "preimage", shape)
        try:
            return cls(
                org=given["org"],
                user_id=given["userId"],
                nonce=given["nonce"],
                issued=given["issued"],
                expires=given["expires"],
            )
        except InvariantBroken as error:
            raise InvalidInput(f"preimage: {error.message}", field="preimage") from error


def action_challenge(preimage: Preimage) -> str:
    """Return the challenge of one action: 43 base64url characters."""
    return _challenge(ACTION_DOMAIN, preimage.document())


def login_challenge(preimage: LoginPreimage) -> str:
    """Return the challenge of one login: 43 base64url characters."""
    return _challenge(LOGIN_DOMAIN, preimage.document())


def registration_challenge(preimage: RegistrationPreimage) -> str:
    """Return the challenge of one registration: 43 base64url characters."""
    return _challenge(REGISTRATION_DOMAIN, preimage.document())


def credential_challenge(preimage: CredentialPreimage) -> str:
    """Return the challenge a new key of somebody's own answers: 43 base64url characters."""
    return _challenge(CREDENTIAL_DOMAIN, preimage.document())


def _challenge(domain: str, document: dict[str, Any]) -> str:
    return to_base64url(hashlib.sha256(domain.encode("ascii") + b"\n" + canonical(document)).digest())


@functools.lru_cache(maxsize=256)
def normalize_path(path: str, *, field: str = "userActionHttpPath") -> str:
    """Return the path a signature covers: no query or fragment, percent escapes read once.

    Anything that a second reader could resolve to another route is refused rather than cleaned. Its own results
    without escapes come back unchanged.

    Args:
        path: the raw request target or ``userActionHttpPath``, still escaped; at most 2,048 characters.
        field: named in the error.

    Raises:
        InvalidInput: it does not start with one ``/``; holds ``..``, a ``.`` segment, ``//``, a backslash, a control
            character or a broken escape; or an escape hides ``/``, ``?``, ``#`` or ``%``.
    """
    bare = path.split("#", 1)[0].split("?", 1)[0]
    if len(path) > _MAX_PATH or not bare.startswith("/"):
        raise InvalidInput(f"{field} must start with / and be at most {_MAX_PATH} long", field=field)
    segments = [_segment(segment, field) for segment in bare[1:].split("/")]
    if "" in segments[:-1] or any(segment == "." or ".." in segment for segment in segments):
        raise InvalidInput(f"{field} must not hold empty or dot segments", field=field)
    return "/" + "/".join(segments)


def _segment(text: str, field: str) -> str:
    chunks = text.split("%")[1:]
    try:
        for chunk in chunks:
            if not chunk[:2].isalnum() or len(bytes.fromhex(chunk[:2])) != 1:
                raise ValueError("not two hex digits")
        decoded = unquote_to_bytes(text).decode("utf-8")
    except ValueError as error:
        raise InvalidInput(f"{field} holds a broken percent escape", field=field) from error
    if any(character in "/?#%\\" or unicodedata.category(character) == "Cc" for character in decoded):
        raise InvalidInput(f"{field} holds a character that may not be in a path", field=field)
    return decoded


def _check_credentials(credentials: tuple[str, ...]) -> None:
    if list(credentials) != sorted(set(credentials)):
        raise InvariantBroken("credentials must be sorted and each given once")


def _check_times(issued: Instant, expires: Instant) -> None:
    if not 0 <= issued < expires:
        raise InvariantBroken("a challenge must expire after it was issued")
