"""Challenges: each member of a preimage changes them, purposes never meet, and paths have one form."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlay.core.errors import InvalidInput, InvariantBroken
from outlay.evidence.challenge import (
    CredentialPreimage,
    LoginPreimage,
    Preimage,
    RegistrationPreimage,
    action_challenge,
    credential_challenge,
    login_challenge,
    normalize_path,
    registration_challenge,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "challenges.json").read_text("ascii"))
READERS: dict[str, Callable[[Any], str]] = {
    "outlay.action.v1": lambda document: action_challenge(Preimage.from_document(document)),
    "outlay.login.v1": lambda document: login_challenge(LoginPreimage.from_document(document)),
    "outlay.registration.v1": lambda document: registration_challenge(RegistrationPreimage.from_document(document)),
    "outlay.credential.v1": lambda document: credential_challenge(CredentialPreimage.from_document(document)),
}

DECISION = Preimage(
    org="or-a",
    identity="us-a",
    credentials=("cr-a", "cr-b"),
    method="POST",
    path="/v2/policy-approvals/ap-a/decisions",
    payload_digest="0" * 64,
    intent_digest="1" * 64,
    groups_digest="2" * 64,
    records_head="3" * 64,
    nonce="n",
    issued=1,
    expires=2,
)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vector_has_its_challenge(vector: dict[str, Any]) -> None:
    """Node derives the same from the same documents."""
    assert vector["challenge"] == READERS[vector["domain"]](vector["preimage"])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_every_member_of_a_preimage_is_covered(vector: dict[str, Any]) -> None:
    """Changing any one member gives another challenge."""
    seen = {vector["challenge"]}
    for name, value in vector["preimage"].items():
        changed: Any = value + 1 if isinstance(value, int) else f"{value}x"
        if isinstance(value, list):
            changed = [*value, "cr-z"]
        elif name == "method":
            changed = "DELETE"
        elif isinstance(value, str) and len(value) == 64:
            changed = value[::-1] if value != value[::-1] else "9" * 64
        seen.add(READERS[vector["domain"]]({**vector["preimage"], name: changed}))

    assert 1 + len(vector["preimage"]) == len(seen)


def test_documents_read_back_as_the_same_preimage() -> None:
    """Nothing is lost on the way through a sealed token."""
    plain = dataclasses.replace(DECISION, intent_digest=None, groups_digest=None)

    assert Preimage.from_document(DECISION.document()) == DECISION
    assert plain == Preimage.from_document(plain.document())
    assert "intentDigest" not in plain.document()


def test_purposes_never_share_a_challenge() -> None:
    """The same document under another domain is another challenge."""
    login = LoginPreimage(org="o", identity="u", credentials=(), nonce="n", issued=1, expires=2)
    registration = RegistrationPreimage(org="o", user_id="u", invitation="0" * 64, nonce="n", issued=1, expires=2)

    key = CredentialPreimage(org="o", user_id="u", nonce="n", issued=1, expires=2)

    challenges = {action_challenge(DECISION), login_challenge(login), registration_challenge(registration)}
    challenges.add(credential_challenge(key))

    assert len(challenges) == 4
    assert {43} == {len(challenge) for challenge in challenges}


@pytest.mark.parametrize(
    "change",
    [
        {"credentials": ("cr-b", "cr-a")},
        {"credentials": ("cr-a", "cr-a")},
        {"issued": 2},
        {"issued": -1},
        {"intent_digest": None},
        {"groups_digest": None},
    ],
    ids=repr,
)
def test_impossible_preimage_cannot_be_made(change: dict[str, Any]) -> None:
    """Credentials are a sorted set, time runs forward, and a decision binds intent and groups."""
    with pytest.raises(InvariantBroken):
        dataclasses.replace(DECISION, **change)


@pytest.mark.parametrize("name", sorted(DECISION.document()))
@pytest.mark.parametrize("value", [None, 7.5, True, {}, [1], ["b", "a"], "%", "../x"], ids=repr)
def test_malformed_preimage_document_is_bad_input(name: str, value: Any) -> None:
    """A stored preimage with a member of another shape is refused by name."""
    free = {"org", "identity", "nonce"}
    if name in free and isinstance(value, str):
        return

    with pytest.raises(InvalidInput) as caught:
        Preimage.from_document({**DECISION.document(), name: value})

    assert caught.value.field is not None
    assert caught.value.field.startswith("preimage")


def test_missing_and_unknown_members_are_bad_input() -> None:
    """A document has exactly the members of its kind."""
    document = DECISION.document()
    for name in set(document):
        rest = {key: value for key, value in document.items() if key != name}
        with pytest.raises(InvalidInput):
            Preimage.from_document(rest)
    with pytest.raises(InvalidInput):
        Preimage.from_document({**document, "extra": 1})
    with pytest.raises(InvalidInput):
        LoginPreimage.from_document(document)
    with pytest.raises(InvalidInput):
        RegistrationPreimage.from_document([])


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("/", "/"),
        ("/wallets", "/wallets"),
        ("/wallets/", "/wallets/"),
        ("/wallets/wa-1?limit=1&x=/../", "/wallets/wa-1"),
        ("/wallets/wa-1#top", "/wallets/wa-1"),
        ("/wallets/wa-1#a?b", "/wallets/wa-1"),
        ("/wallets/wa%2D1", "/wallets/wa-1"),
        ("/w%61llets/a%20b", "/wallets/a b"),
        ("/wallets/caf%C3%A9", "/wallets/café"),
        ("/wallets/café", "/wallets/café"),
        ("/v2/a:b@c~d", "/v2/a:b@c~d"),
    ],
)
def test_path_has_one_form(raw: str, normal: str) -> None:
    """Query and fragment do not count, escapes are read once."""
    assert normal == normalize_path(raw)
    assert normal == normalize_path(normal)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "wallets",
        "?/wallets",
        "http://host/wallets",
        "//wallets",
        "/wallets//wa-1",
        "/wallets/../users",
        "/wallets/..",
        "/wallets/%2e%2e/users",
        "/wallets/.%2E",
        "/wallets/./x",
        "/wallets/a..b",
        "/wallets\\x",
        "/wallets/%5Cx",
        "/wallets/a%2Fb",
        "/wallets/a%2fb",
        "/wallets/%252e%252e",
        "/wallets/a%3Fb",
        "/wallets/a%23b",
        "/wallets/a%00",
        "/wallets/a\x00",
        "/wallets/a\nb",
        "/wallets/a%7f",
        "/wallets/a%C2%85",
        "/wallets/%",
        "/wallets/%4",
        "/wallets/%zz",
        "/wallets/%+1",
        "/wallets/% 1",
        "/wallets/%٣٣",
        "/wallets/%ff",
        "/wallets/%C0%AE%C0%AE",
        "/wallets/%ED%A0%80",
        "/wallets/\ud800",
        "/" + "a" * 2048,
    ],
)
def test_path_that_could_be_read_in_two_ways_is_refused(raw: str) -> None:
    """Refused rather than cleaned."""
    with pytest.raises(InvalidInput) as caught:
        normalize_path(raw, field="path")

    assert caught.value.field == "path"


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("/.%25eEfF2cCaAé?#\\ \x00"), max_size=20))
def test_accepted_path_is_its_own_normal_form(raw: str) -> None:
    """Reading a second time changes nothing, so nobody can hide an escape in an escape."""
    try:
        normal = normalize_path("/" + raw)
    except InvalidInput:
        return

    assert normal == normalize_path(normal)
    assert ".." not in normal
    assert "//" not in normal
