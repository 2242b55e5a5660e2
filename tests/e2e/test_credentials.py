"""Keys and personal access tokens over real HTTP: what the calls ask for, and what they refuse."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from outlay.evidence.attestation import fingerprint, key_attestation, new_key_pair
from outlay.evidence.keys import load_private_key
from outlay.store.schema import metadata
from tests.door import Answer, Door, Who, check_refusal, open_door
from tests.world import KEY_KINDS, new_key

SIGNED = ("Auth:Pats:Create", "Wallets:Read", "Wallets:Create", "Policies:Evaluations:Vote")


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_door(tmp_path_factory.mktemp("door")) as opened:
        yield opened


def add(door: Door, who: Who, private: str, *, name: str | None = None, **changes: Any) -> Answer:
    """Add a key; ``changes`` are of the body."""
    begun = door.call("POST", "/auth/credentials/init", {"kind": "Key"}, token=who.token).ok()
    body = {
        "credentialKind": "Key",
        "credentialInfo": key_attestation(private, begun["challenge"], cred_id=name),
        "credentialName": "laptop",
        "challengeIdentifier": begun["challengeIdentifier"],
        **changes,
    }
    return door.write(who, "POST", "/auth/credentials", body)


def holding(who: Who, private: str, credential_id: str) -> Who:
    return replace(who, credential_id=credential_id, key=load_private_key(private), private=private)


def token(door: Door, who: Who, **more: Any) -> tuple[Who, Any]:
    """Make a personal access token."""
    private, public = new_key_pair()
    made = door.write(who, "POST", "/auth/pats", {"name": "program", "publicKey": public, **more}).ok()
    return replace(holding(who, private, made["credId"]), token=made["accessToken"]), made


def test_a_challenge_looks_as_the_contract_says(door: Door) -> None:
    begun = door.call("POST", "/auth/credentials/init", {"kind": "Key"}, token=door.admin.token).ok()
    assert set(begun) == {
        "kind",
        "user",
        "challengeIdentifier",
        "temporaryAuthenticationToken",
        "challenge",
        "rp",
        "attestation",
        "pubKeyCredParams",
    }
    assert begun["user"] == {"id": door.admin.user_id, "name": "admin", "displayName": "admin"}
    assert {each["alg"] for each in begun["pubKeyCredParams"]} == {-8, -7, -47, -257}
    for kind in ("fido2", "RecoveryKey", "key", ""):
        answer = door.call("POST", "/auth/credentials/init", {"kind": kind}, token=door.admin.token)
        assert (answer.status, answer.field) == (400, "kind")


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_a_key_of_each_kind_is_added_used_and_removed(door: Door, kind: str) -> None:
    who = door.person(f"{kind}@example.com", SIGNED)
    private, public = new_key(kind)
    made = add(door, who, private).ok()
    assert (made["kind"], made["name"], made["isActive"]) == ("Key", "laptop", True)
    assert (made["publicKey"], made["relyingPartyId"], made["origin"]) == (public, "", "")
    listed = door.get("/auth/credentials", who).ok()["items"]
    assert made in listed
    second = holding(who, private, made["credentialId"])
    old = next(each for each in listed if each != made)
    named = {"credentialUuid": old["credentialUuid"]}
    assert door.write(second, "PUT", "/auth/credentials/deactivate", named).ok()["message"]
    assert door.get("/auth/credentials", who).status == 401, "the session was opened with that key"
    second = door.log_in(second)
    states = {each["credentialUuid"]: each["isActive"] for each in door.get("/auth/credentials", second).ok()["items"]}
    assert states == {old["credentialUuid"]: False, made["credentialUuid"]: True}
    assert door.write(second, "PUT", "/auth/credentials/activate", named).ok()["message"]
    assert door.write(second, "DELETE", f"/auth/credentials/{old['credentialUuid']}").ok() == {}
    assert door.get("/auth/credentials", second).ok()["items"] == [made]


def test_an_admin_reads_the_fingerprints(door: Door) -> None:
    who = door.person("fingerprints@example.com", SIGNED)
    private, public = new_key_pair()
    made = add(door, who, private).ok()
    shown = door.get(f"/auth/users/{who.user_id}").ok()["credentials"]
    assert {"credentialUuid", "credentialId", "name", "fingerprint", "isActive"} == set(shown[0])
    assert {each["credentialUuid"]: each["fingerprint"] for each in shown}[made["credentialUuid"]] == fingerprint(
        public
    )


def test_an_identifier_that_is_not_this_callers_adds_nothing(door: Door) -> None:
    """Not a made-up one, one of another call, of somebody else, of too long ago, nor one that was used."""
    who, other = door.person("own@example.com"), door.person("other@example.com")
    begun = door.call("POST", "/auth/credentials/init", {"kind": "Key"}, token=other.token).ok()
    login = door.call("POST", "/auth/login/init", {"username": who.username}).ok()
    before = door.stored()
    for identifier, status in (
        ("x", 403),
        ("", 403),
        (login["challengeIdentifier"], 403),
        (who.token, 403),
        (begun["challengeIdentifier"], 412),
    ):
        answer = add(door, who, new_key_pair()[0], challengeIdentifier=identifier)
        check_refusal(answer)
        assert answer.status == status, identifier
    assert door.stored() == before
    private, _ = new_key_pair()
    mine = door.call("POST", "/auth/credentials/init", {"kind": "Key"}, token=who.token).ok()
    body = {
        "credentialKind": "Key",
        "credentialInfo": key_attestation(private, mine["challenge"]),
        "challengeIdentifier": mine["challengeIdentifier"],
    }
    made = door.write(who, "POST", "/auth/credentials", body).ok()
    assert made["name"] == "key"
    door.write(who, "DELETE", f"/auth/credentials/{made['credentialUuid']}").ok()
    again = door.write(who, "POST", "/auth/credentials", body)
    assert (again.status, again.code) == (412, "precondition_failed")


def test_a_bad_attestation_is_named(door: Door) -> None:
    before = door.stored()
    taken = add(door, door.admin, new_key_pair()[0], name=door.admin.credential_id)
    assert (taken.status, taken.field) == (400, "credentialInfo.credId")
    used = add(door, door.admin, door.admin.private, name="another")
    assert (used.status, used.code, used.field) == (409, "conflict", "credentialInfo.attestationData")
    empty = add(door, door.admin, new_key_pair()[0], credentialInfo={})
    assert (empty.status, empty.field) == (400, "credentialInfo.credId")
    foreign = add(door, door.admin, new_key_pair()[0], credentialInfo=key_attestation(new_key_pair()[0], "x"))
    assert (foreign.status, foreign.code) == (403, "action_signature_invalid")
    kind = add(door, door.admin, new_key_pair()[0], credentialKind="Password")
    assert (kind.status, kind.field) == (400, "credentialKind")
    assert door.stored() == before


def test_the_key_that_signs_stays(door: Door) -> None:
    (own,) = [
        each for each in door.get("/auth/credentials").ok()["items"] if each["credentialId"] == door.admin.credential_id
    ]
    named = {"credentialUuid": own["credentialUuid"]}
    for method, path, body in (
        ("PUT", "/auth/credentials/deactivate", named),
        ("DELETE", f"/auth/credentials/{own['credentialUuid']}", None),
    ):
        answer = door.write(door.admin, method, path, body)
        assert (answer.status, answer.code) == (412, "precondition_failed")


# Personal access tokens


def test_a_token_is_made_read_renamed_switched_and_removed(door: Door) -> None:
    who = door.person("tokens@example.com", SIGNED)
    limit = door.write(door.admin, "POST", "/permissions", {"name": "wallets", "operations": ["Wallets:Read"]}).ok()
    pat, made = token(door, who, permissionId=limit["id"], externalId="nightly", secondsValid=3600)
    assert (made["kind"], made["linkedUserId"], made["orgId"]) == ("Pat", who.user_id, door.org_id)
    assert (made["isActive"], made["linkedAppId"], made["externalId"]) == (True, "", "nightly")
    (assigned,) = made["permissionAssignments"]
    assert (assigned["permissionId"], assigned["operations"]) == (limit["id"], ["Wallets:Read"])
    path = f"/auth/pats/{made['tokenId']}"
    shown = {name: value for name, value in made.items() if name != "accessToken"}
    assert door.get(path, who).ok() == shown
    assert door.get("/auth/pats", who).ok() == {"items": [shown]}
    renamed = door.write(who, "PUT", path, {"name": "hourly"}).ok()
    assert (renamed["name"], renamed["externalId"]) == ("hourly", "nightly")
    assert door.get("/wallets", pat).status == 200
    for state, answered in (("deactivate", 401), ("activate", 200)):
        assert door.write(who, "PUT", f"{path}/{state}").ok()["isActive"] is (state == "activate")
        assert door.get("/wallets", pat).status == answered
    assert door.write(who, "DELETE", path).ok()["isActive"] is False
    assert door.get("/wallets", pat).status == 401
    assert door.get(path, who).status == 404
    assert door.get("/auth/pats", who).ok() == {"items": []}


def test_a_token_reads_and_writes_within_its_limit(door: Door) -> None:
    who = door.person("limits@example.com", SIGNED)
    pat, _ = token(door, who)
    assert door.write(pat, "POST", "/wallets", {"network": "EthereumSepolia"}).status == 200
    limit = door.write(door.admin, "POST", "/permissions", {"name": "readers", "operations": ["Wallets:Read"]}).ok()
    narrow, _ = token(door, who, permissionId=limit["id"])
    refused = door.write(narrow, "POST", "/wallets", {"network": "EthereumSepolia"})
    assert (refused.status, refused.body["error"]["details"]) == (403, {"operation": "Wallets:Create"})
    assert door.get("/v2/policies", narrow).status == 403
    assert door.get("/auth/credentials", narrow).status == 200
    for answer in (
        door.write(pat, "POST", "/auth/pats", {"name": "x", "publicKey": new_key_pair()[1]}),
        door.write(pat, "PUT", "/auth/credentials/activate", {"credentialUuid": "cr-x"}),
        door.call("POST", "/auth/credentials/init", {"kind": "Key"}, token=pat.token),
    ):
        check_refusal(answer)
        assert (answer.status, answer.code) == (403, "not_permitted")


def test_a_token_and_a_session_do_not_mix(door: Door) -> None:
    """The challenge offers the key of its bearer, and neither answers with the other's."""
    who = door.person("mix@example.com", SIGNED)
    pat, _ = token(door, who)
    for bearer, signer in ((who, pat), (pat, who)):
        opened = door.open(bearer, "POST", "/wallets", {}).ok()
        assert opened["allowCredentials"]["key"] == [{"type": "public-key", "id": bearer.credential_id}]
        answer = door.answer(bearer, opened["challengeIdentifier"], opened["challenge"], signer=signer)
        assert (answer.status, answer.code) == (403, "action_signature_invalid")
    # An action token of one bearer is of no use to the other, although both are the same person.
    body = {"network": "EthereumSepolia"}
    before = door.stored()
    for bearer, user in ((pat, who), (who, pat)):
        action = door.sign(bearer, "POST", "/wallets", body)
        answer = door.call("POST", "/wallets", body, token=user.token, action=action)
        assert (answer.status, answer.code) == (403, "action_signature_invalid")
    assert door.stored() == before
    begun = door.call("POST", "/auth/login/init", {"username": who.username}).ok()
    assert begun["allowCredentials"]["key"] == [{"type": "public-key", "id": who.credential_id}]


def test_a_token_that_cannot_be_is_refused(door: Door) -> None:
    public = new_key_pair()[1]
    bot = door.service_account("tokenless", SIGNED)
    for who, change, status, field in (
        (door.admin, {"publicKey": "x"}, 400, "publicKey"),
        (door.admin, {"permissionId": "pm-00000-00000-0000000000000000"}, 400, "permissionId"),
        (door.admin, {"daysValid": 731}, 400, "daysValid"),
        (door.admin, {"daysValid": 0}, 400, "daysValid"),
        (door.admin, {"secondsValid": 63_072_001}, 400, "secondsValid"),
        (door.admin, {"daysValid": 1, "secondsValid": 1}, 400, "secondsValid"),
        (door.admin, {"name": "\t"}, 400, "name"),
        (bot, {}, 403, None),
    ):
        answer = door.refused(who, "POST", "/auth/pats", {"name": "x", "publicKey": public, **change})
        assert (answer.status, answer.field) == (status, field), change


def test_logging_out_ends_sessions_and_leaves_tokens(door: Door) -> None:
    """A service account cannot log in again, and a program's token is ended by its own call."""
    who, bot = door.person("leaving@example.com", SIGNED), door.service_account("staying", ("Wallets:Read",))
    pat, _ = token(door, who)
    other = door.log_in(who)
    for each in (bot, pat):
        assert door.call("PUT", "/auth/logout", {"allSessions": False}, token=each.token).status == 200
        assert door.get("/wallets", each).status == 200
    assert door.call("PUT", "/auth/logout", {"allSessions": True}, token=pat.token).status == 200
    assert [door.get("/wallets", each).status for each in (pat, who, other)] == [200, 401, 401]


def test_a_machine_rotates_its_key(door: Door) -> None:
    bot = door.service_account("rotating", ("Wallets:Read", "Wallets:Create"))
    private, _ = new_key_pair()
    made = add(door, bot, private).ok()
    (old,) = [each for each in door.get("/auth/credentials", bot).ok()["items"] if each != made]
    new = holding(bot, private, made["credentialId"])
    door.write(new, "DELETE", f"/auth/credentials/{old['credentialUuid']}").ok()
    assert door.write(new, "POST", "/wallets", {"network": "EthereumSepolia"}).status == 200
    shown = door.get(f"/auth/service-accounts/{bot.user_id}").ok()["accessTokens"][0]
    assert (shown["credId"], shown["isActive"]) == (made["credentialId"], True)


def test_the_text_of_a_token_is_nowhere(door: Door) -> None:
    """Only a digest of its secret is stored."""
    who = door.person("secret@example.com", SIGNED)
    _, made = token(door, who)
    everything = str([door.rows(f'SELECT * FROM "{table.name}"') for table in metadata.sorted_tables])
    assert made["tokenId"] in everything
    for part in made["accessToken"].split("."):
        assert part not in everything
