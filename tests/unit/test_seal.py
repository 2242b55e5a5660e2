"""Sealed tokens and bearer tokens: nothing but our own, unchanged, for their purpose, opens."""

import base64
import hmac
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from outlay.core.errors import InvalidInput, NotAuthenticated, Unavailable
from outlay.evidence.base64url import from_base64url, to_base64url
from outlay.evidence.canonical import CanonicalError, canonical
from outlay.evidence.seal import SealBroken, SealingKeys

DOCUMENT: dict[str, Any] = {"nonce": "n", "preimage": {"issued": 1700000000000000, "name": "café"}, "list": [1, None]}
CLAIMS: dict[str, Any] = {"jti": "to-1", "exp": 1700000000, "https://custom/app_metadata": {"orgId": "or-1"}}


class Counting:
    """Entropy that never repeats and never surprises."""

    def __init__(self) -> None:
        """Start at zero."""
        self.calls = 0

    def token(self, size: int) -> bytes:
        """Return bytes that depend on how often this was called."""
        self.calls += 1
        return sha256(self.calls.to_bytes(8, "big")).digest()[:size]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a key file may be."""
    return tmp_path / "sealing.json"


@pytest.fixture
def keys(path: Path) -> SealingKeys:
    """Return fresh sealing keys."""
    return SealingKeys.create(path, Counting())


def flipped(text: str) -> list[str]:
    """Return ``text`` with each character replaced by one that differs in its lowest base64 bit, and shortened."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    changed = []
    for at, character in enumerate(text):
        for bit in (1, 32):
            place = alphabet.find(character)
            other = alphabet[place ^ bit] if place >= 0 else "A"
            changed.append(text[:at] + other + text[at + 1 :])
        changed.append(text[:at] + text[at + 1 :])
    return changed


def test_sealed_document_opens_for_its_purpose(keys: SealingKeys) -> None:
    """What was sealed comes back, and two seals of it differ."""
    first, second = keys.seal("action", DOCUMENT), keys.seal("action", DOCUMENT)

    assert DOCUMENT == keys.open("action", first) == keys.open("action", second)
    assert first != second
    assert b"preimage" not in from_base64url(first.split(".")[1], field="x")


@pytest.mark.parametrize("purpose", ["", "Action", "action ", "user-action", "action\n"])
def test_sealed_document_opens_for_no_other_purpose(keys: SealingKeys, purpose: str) -> None:
    """A challenge identifier is never a user-action token."""
    with pytest.raises(SealBroken):
        keys.open(purpose, keys.seal("action", DOCUMENT))


def test_any_changed_character_breaks_the_seal(keys: SealingKeys) -> None:
    """Every character counts, the key's name and the last unused bits included."""
    sealed = keys.seal("action", {"a": 1})

    for changed in flipped(sealed):
        with pytest.raises(SealBroken):
            keys.open("action", changed)


@pytest.mark.parametrize("text", ["", ".", "x", "é.é", "a.b.c", "\ud800.", "." * 70_000, "A" * 100_000, "=="])
def test_what_was_never_sealed_does_not_open(keys: SealingKeys, text: str) -> None:
    """Garbage is refused like a forgery."""
    kid = keys.seal("action", {}).split(".")[0]

    for garbage in (text, f"{kid}.{text}", f"{kid}{text}"):
        with pytest.raises(SealBroken):
            keys.open("action", garbage)


def test_appending_or_padding_breaks_the_seal(keys: SealingKeys) -> None:
    """There is one text for one seal."""
    sealed = keys.seal("action", {"ab": 1})

    for changed in (sealed + "=", sealed + "==", sealed + "A", sealed + ".", " " + sealed, sealed + "\n"):
        with pytest.raises(SealBroken):
            keys.open("action", changed)


def test_keys_of_another_server_do_not_open(keys: SealingKeys, tmp_path: Path) -> None:
    """Even under the same name, another key opens nothing."""
    sealed, token = keys.seal("action", DOCUMENT), keys.sign_token(CLAIMS)
    document = json.loads((tmp_path / "sealing.json").read_text())
    other = tmp_path / "other.json"
    document["keys"] = {document["current"]: base64.b64encode(b"\x01" * 32).decode()}
    other.write_text(json.dumps(document))
    other.chmod(0o600)
    stranger = SealingKeys.load(other)

    with pytest.raises(SealBroken):
        stranger.open("action", sealed)
    with pytest.raises(NotAuthenticated):
        stranger.read_token(token)


def test_previous_key_still_opens_and_the_one_before_does_not(keys: SealingKeys, path: Path) -> None:
    """A rotation keeps what is under way; the next one ends it."""
    sealed, token = keys.seal("action", DOCUMENT), keys.sign_token(CLAIMS)

    keys.rotate()
    assert keys.open("action", sealed) == DOCUMENT
    assert keys.read_token(token) == CLAIMS
    assert sealed.split(".")[0] != keys.seal("action", DOCUMENT).split(".")[0]

    keys.rotate()
    assert len(json.loads(path.read_text())["keys"]) == 2
    with pytest.raises(SealBroken):
        keys.open("action", sealed)
    with pytest.raises(NotAuthenticated):
        keys.read_token(token)


def test_rotation_reaches_a_running_process(keys: SealingKeys, path: Path) -> None:
    """Another process reads the replaced file by itself, and seals with the new key."""
    running = SealingKeys.load(path, Counting())

    kid = keys.rotate()

    assert running.open("action", keys.seal("action", DOCUMENT)) == DOCUMENT
    assert kid == running.seal("action", DOCUMENT).split(".")[0]


def test_lost_key_file_stops_a_running_process(keys: SealingKeys, path: Path) -> None:
    """Without its file nothing is sealed; the answer says try later, not bad input."""
    path.unlink()

    with pytest.raises(Unavailable):
        keys.seal("action", {})


def test_key_file_is_private_and_complete(keys: SealingKeys, path: Path) -> None:
    """Mode 0600 from the first byte on, nothing left beside it."""
    document = json.loads(path.read_text())

    assert path.stat().st_mode & 0o777 == 0o600
    assert [path.name] == [entry.name for entry in path.parent.iterdir()]
    assert [document["current"]] == list(document["keys"])
    assert document["previous"] is None
    with pytest.raises(InvalidInput):
        SealingKeys.create(path, Counting())
    assert SealingKeys.load(path).open("action", keys.seal("action", DOCUMENT)) == DOCUMENT


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o610])
def test_key_file_open_to_others_is_refused(keys: SealingKeys, path: Path, mode: int) -> None:
    """The server does not start on keys that others could read."""
    path.chmod(mode)

    with pytest.raises(InvalidInput):
        SealingKeys.load(path)


KEY = base64.b64encode(b"\x02" * 32).decode()


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        [],
        {"current": "a", "previous": None, "keys": {}},
        {"current": "a", "previous": None, "keys": {"b": KEY}},
        {"current": "a", "previous": "b", "keys": {"a": KEY}},
        {"current": "a", "previous": None, "keys": {"a": KEY, "b": KEY}},
        {"current": "a", "previous": None, "keys": {"a": "AAAA"}},
        {"current": "a", "previous": None, "keys": {"a": "?"}},
        {"current": "a", "previous": None, "keys": {"a": 1}},
        {"current": "a", "previous": [], "keys": {"a": KEY}},
        {"current": "a", "previous": None, "keys": {"a": KEY}, "x": 1},
    ],
    ids=repr,
)
def test_malformed_key_file_is_refused(path: Path, document: object) -> None:
    """A damaged file is named, never half used."""
    path.write_text(json.dumps(document))
    path.chmod(0o600)

    with pytest.raises(InvalidInput):
        SealingKeys.load(path)


def test_missing_key_file_is_named(path: Path) -> None:
    """The error says which file."""
    with pytest.raises(InvalidInput, match=r"sealing\.json"):
        SealingKeys.load(path)


def test_document_without_canonical_form_is_not_sealed(keys: SealingKeys) -> None:
    """What could not be read back equal is refused at once."""
    with pytest.raises(CanonicalError):
        keys.seal("action", {"a": 2**60})


def test_bearer_token_is_a_jwt_the_sdk_can_read(keys: SealingKeys) -> None:
    """The JavaScript SDK decodes the middle part and looks for the organization."""
    header, payload, _ = keys.sign_token(CLAIMS).split(".")

    assert keys.read_token(keys.sign_token(CLAIMS)) == CLAIMS
    assert json.loads(base64.urlsafe_b64decode(payload + "==")) == CLAIMS
    assert {"alg": "HS256", "typ": "JWT"}.items() <= json.loads(base64.urlsafe_b64decode(header + "==")).items()


def test_any_changed_character_breaks_a_bearer_token(keys: SealingKeys) -> None:
    """Header, claims and tag are all covered."""
    for changed in flipped(keys.sign_token({"a": 1})):
        with pytest.raises(NotAuthenticated):
            keys.read_token(changed)


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "typ": "JWT"},
        {"alg": "none", "kid": "KID", "typ": "JWT"},
        {"alg": "None", "kid": "KID", "typ": "JWT"},
        {"alg": "HS512", "kid": "KID", "typ": "JWT"},
        {"alg": "RS256", "kid": "KID", "typ": "JWT"},
        {"alg": "HS256", "kid": "unknown", "typ": "JWT"},
        {"alg": "HS256", "kid": "KID", "typ": "JWT", "jwk": {}},
        {"alg": "HS256", "kid": "KID", "typ": "JWT", "crit": []},
        {"alg": "HS256", "kid": ["KID"], "typ": "JWT"},
        {"alg": "HS256", "typ": "JWT"},
        {"alg": "HS256", "kid": "KID", "typ": "JOSE"},
    ],
    ids=repr,
)
def test_bearer_token_chooses_neither_algorithm_nor_key(keys: SealingKeys, path: Path, header: dict[str, Any]) -> None:
    """Whatever the header says, signed with nothing, with our public knowledge, or with the key file's own bytes."""
    kid, payload, tag = keys.sign_token(CLAIMS).split(".")
    name = json.loads(path.read_text())["current"]
    stated = {key: name if value == "KID" else value for key, value in header.items()}
    signed = f"{to_base64url(canonical(stated))}.{payload}"
    secrets = [b"", kid.encode(), name.encode(), base64.b64decode(json.loads(path.read_text())["keys"][name])]

    derived = HKDFExpand(SHA256(), 32, b"outlay.bearer.v1").derive(secrets[-1])
    secrets.append(derived)  # even the real signing key does not make another header acceptable

    forgeries = ["", tag, *(to_base64url(hmac.digest(secret, signed.encode(), "sha256")) for secret in secrets)]

    for forgery in forgeries:
        with pytest.raises(NotAuthenticated):
            keys.read_token(f"{signed}.{forgery}")


def test_bearer_token_signed_with_the_bytes_of_the_key_file_is_refused(keys: SealingKeys, path: Path) -> None:
    """The two kinds of token use keys derived for each, never the key itself."""
    document = json.loads(path.read_text())
    signed = keys.sign_token(CLAIMS).rpartition(".")[0]
    key = base64.b64decode(document["keys"][document["current"]])

    with pytest.raises(NotAuthenticated):
        keys.read_token(f"{signed}.{to_base64url(hmac.digest(key, signed.encode(), 'sha256'))}")


@pytest.mark.parametrize("text", ["", "a", "..", "a.b", "a.b.c.d", "é.é.é", "\ud800", "A" * 20_000, "e30.e30.e30"])
def test_malformed_bearer_token_is_not_authenticated(keys: SealingKeys, text: str) -> None:
    """Never anything but 401."""
    with pytest.raises(NotAuthenticated):
        keys.read_token(text)


def test_sealed_and_bearer_tokens_are_not_interchangeable(keys: SealingKeys) -> None:
    """Each is opened by its own door only."""
    with pytest.raises(NotAuthenticated):
        keys.read_token(keys.seal("bearer", CLAIMS))
    with pytest.raises(SealBroken):
        keys.open("bearer", keys.sign_token(CLAIMS))
