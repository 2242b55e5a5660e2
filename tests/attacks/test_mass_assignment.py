"""Attacks by members that only the server decides: in every body, on top and deep inside (F131)."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.attacks.attacker import calls
from tests.door import Door, Who, transfer

FORBIDDEN = (
    "nonce",
    "org_id",
    "org",
    "organizationId",
    "initiatorId",
    "initiator_id",
    "requester",
    "isActive",
    "is_active",
    "isRegistered",
    "isServiceAccount",
    "may_vote",
    "isRoot",
    "frozenReason",
    "approvalId",
    "txHash",
    "fee",
    "dateCreated",
    "recordsHead",
    "registrationCode",
    "accessToken",
    "signingKey",
    "address",
    "chainId",
    "policySet",
    "decisions",
    "__proto__",
    "constructor",
    "",
)
"""Members of rows, of answers, and of other people's frameworks."""


def test_a_member_of_a_row_or_an_answer_is_set(door: Door) -> None:
    """The attacker, permitted to make a call, adds what only the server decides to its body, for every call."""
    tried = 0
    before = door.stored()
    for method, target, body, _ in calls(door):
        if method == "GET" and body is None:
            continue
        for name in FORBIDDEN:
            if name in (body or {}):
                continue
            answer = door.call(method, target, {**(body or {}), name: "x"}, token=door.admin.token)
            assert answer.status == 400, (method, target, name, answer.raw)
            assert answer.field in (name, "body"), (method, target, name, answer.raw)
            tried += 1
    assert door.stored() == before
    assert tried > 800


def inside(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every object within a document, but for the document itself."""
    if isinstance(document, dict):
        if path:
            yield path
        for name, value in document.items():
            yield from inside(value, (*path, name))
    elif isinstance(document, list):
        for at, value in enumerate(document):
            yield from inside(value, (*path, at))


def smuggled(document: Any, path: tuple[Any, ...], name: str) -> Any:
    """Return the document with a member more in the object at ``path``."""
    if not path:
        return {**document, name: "x"}
    if isinstance(document, list):
        return [smuggled(each, path[1:], name) if at == path[0] else each for at, each in enumerate(document)]
    return {key: smuggled(value, path[1:], name) if key == path[0] else value for key, value in document.items()}


POLICY: dict[str, Any] = {
    "name": "deep",
    "activityKind": "Wallets:Sign",
    "rule": {
        "kind": "TransactionAmountVelocity",
        "configuration": {"limit": 5, "currency": "USD", "timeframe": 60},
    },
    "action": {
        "kind": "RequestApproval",
        "approvalGroups": [{"quorum": 1, "approvers": {"userId": {"in": ["us-00000-00000-0000000000000000"]}}}],
    },
    "filters": {"walletTags": {"hasAny": ["a"]}, "walletId": {"in": ["wa-00000-00000-0000000000000000"]}},
}


@pytest.mark.parametrize("place", list(inside(POLICY)), ids=lambda place: ".".join(map(str, place)))
@pytest.mark.parametrize("name", ["optional", "bypass", "isActive", "quorum2", "status", "id"])
def test_a_member_is_hidden_deep_in_a_policy(door: Door, place: tuple[Any, ...], name: str) -> None:
    """The attacker, who may write policies, hides a member that a later version might read."""
    answer = door.refused(door.admin, "POST", "/v2/policies", smuggled(POLICY, place, name))
    assert answer.status == 400


FACTOR = {
    "challengeIdentifier": "x",
    "firstFactor": {"kind": "Key", "credentialAssertion": {"credId": "x", "clientData": "eA", "signature": "eA"}},
}


@pytest.mark.parametrize("place", [(), *inside(FACTOR)], ids=lambda place: ".".join(map(str, place)) or "top")
@pytest.mark.parametrize("name", ["publicKey", "userId", "credentialUuid", "isVerified", "origins"])
def test_a_member_is_hidden_in_a_signature(door: Door, payer: Who, place: tuple[Any, ...], name: str) -> None:
    """The attacker sends the key to verify with, or the user to be, along with the signature."""
    body = smuggled(FACTOR, place, name)
    for target in ("/auth/action", "/auth/login"):
        answer = door.call("POST", target, body, token=payer.token)
        assert answer.status in (400, 403), answer.raw
    assert door.call("POST", "/auth/action", smuggled(body, (), "orgId"), token=payer.token).status == 400


def test_an_invited_person_writes_their_own_vouching(door: Door) -> None:
    """The attacker takes up an invitation and adds to the registration what an admin would have to sign."""
    body = {"firstFactorCredential": {"credentialKind": "Key", "credentialInfo": {}}}
    for place in ((), ("firstFactorCredential",)):
        for name in ("mayVote", "permissionId", "permissions", "isServiceAccount", "username", "userId"):
            answer = door.call("POST", "/auth/registration", smuggled(body, place, name), token="x")
            assert (answer.status, (answer.field or "").rsplit(".", 1)[-1]) == (400, name)


def test_somebody_elses_name_is_put_under_a_payout(door: Door, payer: Who, path: str) -> None:
    """The attacker asks for a payout in the name of another; who asked is who signed."""
    made = door.write(payer, "POST", path, transfer()).ok()
    assert made["requester"]["userId"] == payer.user_id
    evidence = door.rows("SELECT document FROM evidence WHERE subject = ?", made["id"])
    assert payer.user_id in evidence[0][0]
    for name in ("requester", "requesterId", "initiatorId", "userId", "onBehalfOf"):
        answer = door.refused(payer, "POST", path, {**transfer(), name: door.admin.user_id})
        assert (answer.status, answer.field) == (400, name)
