"""An address of its own for approving: what passkeys sign on any other page decides about nothing."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from outlay.core.errors import OutlayError
from outlay.evidence.attestation import key_attestation, new_key_pair
from outlay.evidence.bundle import verify_evidence
from outlay.web.gate import ACTION_TOKEN
from tests.dashboard.asked import VOTER, Scene
from tests.door import Answer, check_refusal, open_door
from tests.e2e.passkey_calls import ORIGIN, Person, exchange, log_in, open_, passkey, register, write

APART = "http://localhost:9000"
HERE, THERE = {"origin": ORIGIN}, {"origin": APART}
EXTRA = f'\n[server]\npublic_url = "{ORIGIN}"\napproval_url = "{APART}"\n'


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with open_door(tmp_path_factory.mktemp("door"), extra=EXTRA) as door:
        yield Scene(door)


@pytest.fixture(scope="module")
def voter(scene: Scene) -> Person:
    """Return somebody who votes by a passkey that was made at the dashboard."""
    door = scene.door
    who = register(door, "voter@example.com", passkey())
    made = door.write(door.admin, "POST", "/permissions", {"name": "voters", "operations": sorted(VOTER)}).ok()
    door.write(door.admin, "POST", f"/permissions/{made['id']}/assignments", {"identityId": who.user_id}).ok()
    scene.let_vote(who.user_id)
    return log_in(door, who)


def signed(scene: Scene, who: Person, path: str, where: dict[str, str]) -> tuple[Any, Any]:
    """Return an opened challenge for approving, and its answer by the passkey on a page of ``where``."""
    opened = open_(scene.door, who, "POST", path, json.dumps({"value": "Approved"}))
    return opened, who.passkey.used(opened["challenge"], more=where)


def use(scene: Scene, who: Person, path: str, opened: Any, factor: Any) -> Answer:
    """Decide with an answer that was never shown to ``/auth/action``, as whoever has the sealing keys could."""
    token = {
        "preimage": opened["preimage"],
        "assertion": factor,
        "credential": who.uuid,
        "expires": opened["preimage"]["expires"],
    }
    action = scene.door.gate.seals.seal(ACTION_TOKEN, token)
    return scene.door.call("POST", path, {"value": "Approved"}, token=who.token, action=action)


def test_on_the_dashboard_a_passkey_decides_nothing(scene: Scene, voter: Person) -> None:
    path = f"/v2/policy-approvals/{scene.pay()['approvalId']}/decisions"
    before = scene.door.stored()
    opened, factor = signed(scene, voter, path, HERE)
    refused = exchange(scene.door, voter, opened, factor)
    check_refusal(refused)
    assert "origin that is not allowed" in refused.message
    refused = use(scene, voter, path, opened, factor)
    check_refusal(refused)
    assert "origin that is not allowed" in refused.message
    assert scene.door.stored() == before


def test_on_the_page_for_it_a_passkey_decides_and_the_evidence_says_where(scene: Scene, voter: Person) -> None:
    approval = scene.pay()["approvalId"]
    path = f"/v2/policy-approvals/{approval}/decisions"
    opened, factor = signed(scene, voter, path, THERE)
    action = exchange(scene.door, voter, opened, factor).ok()["userAction"]
    scene.door.call("POST", path, {"value": "Approved"}, token=voter.token, action=action).ok()
    ((text,),) = scene.door.rows(
        "SELECT document FROM evidence WHERE subject = (SELECT id FROM decision WHERE approval_id = ?)", approval
    )
    kept = json.loads(text)
    assert kept["origins"] == [APART]
    verify_evidence(kept)
    with pytest.raises(OutlayError, match="origin"):
        verify_evidence({**kept, "origins": [ORIGIN]})


def test_what_decides_about_nothing_is_signed_on_the_dashboard(scene: Scene, voter: Person) -> None:
    body = {"credentialUuid": voter.uuid}
    assert write(scene.door, voter, "PUT", "/auth/credentials/deactivate", body).status == 412, "a key stays on"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/auth/credentials"),
        ("POST", "/auth/credentials/code"),
        ("PUT", "/auth/credentials/activate"),
        ("POST", "/auth/pats"),
    ],
)
def test_on_the_dashboard_nothing_is_signed_that_gives_a_key(
    scene: Scene, voter: Person, method: str, path: str
) -> None:
    """With a key of its own, a script decides without the person: and states what origin it likes."""
    before = scene.door.stored()
    opened = open_(scene.door, voter, method, path, "{}")
    refused = exchange(scene.door, voter, opened, voter.passkey.used(opened["challenge"], more=HERE))
    check_refusal(refused)
    assert "origin that is not allowed" in refused.message
    assert scene.door.stored() == before
    exchange(scene.door, voter, opened, voter.passkey.used(opened["challenge"], more=THERE)).ok()


@pytest.mark.parametrize("kind", ["Key", "Fido2"])
def test_a_script_of_the_dashboard_adds_no_key_of_its_own(scene: Scene, voter: Person, kind: str) -> None:
    door = scene.door
    begun = door.call("POST", "/auth/credentials/init", {"kind": kind}, token=voter.token).ok()
    challenge = begun["challenge"]
    info = key_attestation(new_key_pair()[0], challenge) if kind == "Key" else passkey().created(challenge)
    body = {
        "credentialKind": kind,
        "credentialInfo": dict(info),
        "challengeIdentifier": begun["challengeIdentifier"],
        "credentialName": "x",
    }
    opened = open_(door, voter, "POST", "/auth/credentials", json.dumps(body))
    check_refusal(exchange(door, voter, opened, voter.passkey.used(opened["challenge"], more=HERE)))
    action = exchange(door, voter, opened, voter.passkey.used(opened["challenge"], more=THERE)).ok()["userAction"]
    assert door.call("POST", "/auth/credentials", body, token=voter.token, action=action).ok()["isActive"] is True


def test_keys_have_no_page_and_decide_as_before(scene: Scene) -> None:
    scene.decide(scene.first, scene.pay()["approvalId"]).ok()


def test_of_a_whole_file_the_same_holds(scene: Scene, voter: Person) -> None:
    path = f"/v1/batches/{scene.ask_for_a_file(2)}/decisions"
    opened, factor = signed(scene, voter, path, HERE)
    check_refusal(exchange(scene.door, voter, opened, factor))
    opened, factor = signed(scene, voter, path, THERE)
    exchange(scene.door, voter, opened, factor).ok()


def test_the_preimage_that_is_told_is_what_was_signed(scene: Scene, voter: Person) -> None:
    path = f"/v2/policy-approvals/{scene.pay()['approvalId']}/decisions"
    opened, factor = signed(scene, voter, path, THERE)
    changed = {**opened, "preimage": {**opened["preimage"], "nonce": "another"}}
    check_refusal(use(scene, voter, path, changed, factor))
    assert write(scene.door, voter, "PUT", "/auth/credentials/deactivate", {"expiration": 1}).status == 400
