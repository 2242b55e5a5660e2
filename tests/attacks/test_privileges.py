"""Attacks on permissions: stolen keys, gifts of what the giver lacks, objects of others, identities switched off."""

import re
from typing import Any

import pytest

from docs import generate
from outlay.core.operation import ALIASES, FULL_ADMIN, OPERATIONS
from outlay.evidence.attestation import key_attestation, new_key_pair
from outlay.evidence.changes import CHANGES
from outlay.evidence.keys import load_private_key
from outlay.web.v1.payout_shapes import ONLY_MESSAGES
from tests.attacks.attacker import calls, refused, signed, untouched
from tests.door import PAYER, Door, Who, transfer
from tests.e2e.test_payouts_api import item, post_batch


def grant(door: Door, who: Who, *operations: str) -> None:
    """Make ``operations`` all that a service account is permitted."""
    held = door.get(f"/auth/service-accounts/{who.user_id}").ok()["userInfo"]["permissionAssignments"][0]
    body = {"operations": list(operations)}
    door.write(door.admin, "PUT", f"/permissions/{held['permissionId']}", body).ok()


def shape(path: str) -> str:
    """Return a path without the names and values of what is in it."""
    return re.sub(r"\{\w+\}|[a-z]+-00000-00000-0{16}", "*", path)


def guarded(door: Door) -> list[tuple[str, str, Any, tuple[str, ...]]]:
    """Return method, path, good body and needed operations of every call that needs some."""
    needed = {(each.method, shape(each.path)): each.operations for each in generate.routes()}
    found = [(method, target, body, needed.get((method, shape(target)), ())) for method, target, body, _ in calls(door)]
    return [each for each in found if each[3]]


def attempt(door: Door, who: Who, method: str, target: str, body: Any) -> Any:
    if (method.lower(), target) in ONLY_MESSAGES:
        return post_batch(
            door,
            who,
            [item("wa-00000-00000-00000000000000")],
            records_head=door.rows("SELECT head FROM organization")[0][0],
        )
    return door.get(target, who) if method == "GET" else signed(door, who, method, target, body)


# A stolen key


def test_a_stolen_payers_key_does_nothing_but_ask_for_payouts(door: Door, payer: Who) -> None:
    """The attacker stole a service account's key and token and tries every other operation there is (F120)."""
    others = [each for each in guarded(door) if not set(each[3]) <= set(PAYER)]
    assert len(others) > 35
    with untouched(door):
        for method, target, body, operations in others:
            found = refused(attempt(door, payer, method, target, body), 403, "not_permitted")
            assert found.details["operation"] in operations, (method, target)


def test_nearly_every_permission_passes_for_the_one_that_is_missing(door: Door) -> None:
    """The attacker holds every permission but the one a call needs (F120)."""
    almost = door.service_account("almost everything", OPERATIONS)
    everything = guarded(door)

    def others() -> dict[str, Any]:
        granted = ("permission", "record", "organization", "audit_entry")
        return {name: rows for name, rows in door.stored().items() if name not in granted}

    before = others()
    for missing in sorted({each[3] for each in everything}):
        grant(door, almost, *sorted(set(OPERATIONS) - set(missing)))
        for method, target, body, operations in everything:
            if operations == missing:
                found = refused(attempt(door, almost, method, target, body), 403, "not_permitted")
                assert found.details["operation"] in missing, (method, target)
    assert others() == before


def test_a_call_asks_for_a_lesser_permission_than_its_record_does() -> None:
    """The attacker finds a route that is guarded by the wrong operation; the replay has a table of its own (F120)."""
    asked = {(each.method, shape(each.path)): each.operations for each in generate.routes()}
    compared = 0
    for kind, (routes, _) in CHANGES.items():
        for route in routes:
            if route.operation is None:
                continue
            assert route.operation in asked[route.method, shape(route.path)], (kind, route.path)
            compared += 1
    assert compared > 25


def test_a_stolen_machine_key_makes_another_machine(door: Door) -> None:
    """The stolen key belongs to a machine that may do everything; it makes no second one to survive it (F120)."""
    everything = door.service_account("every permission", OPERATIONS)
    before = door.stored()
    answer = door.write(
        everything, "POST", "/auth/service-accounts", {"name": "offspring", "publicKey": new_key_pair()[1]}
    )
    refused(answer, 403, "not_permitted")
    assert door.stored() == before


# Gifts


GIVER = ("Permissions:Assign", "Permissions:Create", "Permissions:Read", "Permissions:Update", "Wallets:Read")
FORBIDDEN = ("Policies:Delete", "Wallets:Transfers:Create", *ALIASES)
"""What the giver lacks, in every spelling."""


@pytest.mark.parametrize("operation", [name for name in FORBIDDEN if ALIASES.get(name, name) not in GIVER])
def test_a_clerk_writes_a_permission_they_do_not_hold(door: Door, operation: str) -> None:
    """The attacker may write and assign permissions, and writes one that says more than they hold (F120).

    Older spellings of an operation are the operation.
    """
    clerk = door.service_account(f"clerk {operation}", GIVER)
    own = door.get(f"/auth/service-accounts/{clerk.user_id}").ok()["userInfo"]["permissionAssignments"][0]
    before = door.stored()
    body = {"name": f"more {operation}", "operations": ["Wallets:Read", operation]}
    refused(door.write(clerk, "POST", "/permissions", body), 403, "not_permitted")
    for change in ({"operations": [*GIVER, operation]}, {"operations": [operation]}):
        refused(door.write(clerk, "PUT", f"/permissions/{own['permissionId']}", change), 403, "not_permitted")
    assert door.stored() == before


def test_a_clerk_gives_away_what_somebody_else_wrote(door: Door) -> None:
    """The attacker assigns an existing, larger permission to themselves or to a friend, or renames it (F120)."""
    clerk = door.service_account("assigning clerk", GIVER)
    larger = {"name": "larger", "operations": ["Policies:Delete", "Wallets:Read"]}
    made = door.write(door.admin, "POST", "/permissions", larger).ok()["id"]
    full = next(each for each in door.get("/permissions").ok()["items"] if each["name"] == FULL_ADMIN)["id"]
    before = door.stored()
    for permission in (made, full):
        for to in (clerk.user_id, door.admin.user_id):
            answer = door.write(clerk, "POST", f"/permissions/{permission}/assignments", {"identityId": to})
            refused(answer, 403, "not_permitted")
    refused(door.write(clerk, "PUT", f"/permissions/{made}", {"name": "harmless"}), 403, "not_permitted")
    assert door.stored() == before


def test_a_hirer_makes_a_machine_that_may_more(door: Door) -> None:
    """The attacker is a person who may make service accounts, and gives one a permission they lack (F120)."""
    hirer = door.person("hirer@example.com", ["Auth:ServiceAccounts:Create", "Permissions:Assign"])
    bare = door.person("bare-hirer@example.com", ["Auth:ServiceAccounts:Create"])
    held = door.write(door.admin, "POST", "/permissions", {"name": "payers", "operations": list(PAYER)}).ok()["id"]
    before = door.stored()
    for who in (hirer, bare):
        body = {"name": f"machine of {who.username}", "publicKey": new_key_pair()[1], "permissionId": held}
        refused(door.write(who, "POST", "/auth/service-accounts", body), 403, "not_permitted")
    assert door.stored() == before


@pytest.mark.parametrize(
    "spelling",
    ["*", "Wallets:*", "wallets:read", "Wallets:Read ", "Wallets:Read\n", "Wall\u0435ts:Read", "Wallets", "", "root"],
)
def test_an_operation_is_spelled_to_mean_more(door: Door, spelling: str) -> None:
    """The attacker writes a wildcard or a look-alike and hopes that some reader widens it (F120)."""
    answer = door.refused(door.admin, "POST", "/permissions", {"name": "wide", "operations": [spelling]})
    assert (answer.status, (answer.field or "").split("[")[0]) == (400, "operations")


def test_the_role_of_the_system_is_changed(door: Door) -> None:
    """The attacker is an admin who wants the first admin out, or the first role gone or imitated (F120)."""
    full = next(each for each in door.get("/permissions").ok()["items"] if each["name"] == FULL_ADMIN)["id"]
    rival = door.person("rival@example.com", OPERATIONS)
    assignment = door.get(f"/permissions/{full}/assignments").ok()["items"][0]["id"]
    before = door.stored()
    for method, target, body in (
        ("PUT", f"/permissions/{full}", {"operations": ["Wallets:Read"]}),
        ("PUT", f"/permissions/{full}", {"name": "mine"}),
        ("PUT", f"/permissions/{full}/archive", {"isArchived": True}),
        ("DELETE", f"/permissions/{full}", None),
        ("DELETE", f"/permissions/{full}/assignments/{assignment}", None),
    ):
        refused(door.write(rival, method, target, body), 412, "precondition_failed")
    twin = {"name": FULL_ADMIN, "operations": ["Wallets:Read"]}
    refused(door.write(rival, "POST", "/permissions", twin), 409, "conflict")
    assert door.stored() == before


def test_an_archived_permission_is_brought_back(door: Door) -> None:
    """The attacker assigns a permission that was taken out of use, or un-archives it (F120)."""
    made = door.write(door.admin, "POST", "/permissions", {"name": "old", "operations": ["Wallets:Read"]}).ok()["id"]
    door.write(door.admin, "DELETE", f"/permissions/{made}").ok()
    before = door.stored()
    for method, target, body in (
        ("POST", f"/permissions/{made}/assignments", {"identityId": door.admin.user_id}),
        ("PUT", f"/permissions/{made}", {"operations": ["Wallets:Read"]}),
    ):
        refused(door.write(door.admin, method, target, body), 404, "not_found")
    body = {"name": "machine", "publicKey": new_key_pair()[1], "permissionId": made}
    assert door.write(door.admin, "POST", "/auth/service-accounts", body).field == "permissionId"
    assert door.refused(door.admin, "PUT", f"/permissions/{made}/archive", {"isArchived": False}).status in (400, 404)
    assert door.stored() == before


# Somebody else's objects


def test_an_object_is_reached_through_anothers_path(door: Door, payer: Who) -> None:
    """The attacker names a real object under a parent it does not belong to (F131)."""
    mine, theirs = door.wallet()["id"], door.wallet()["id"]
    paid = door.write(payer, "POST", f"/wallets/{theirs}/transfers", transfer()).ok()["id"]
    first, second = [
        door.write(door.admin, "POST", "/permissions", {"name": name, "operations": ["Wallets:Read"]}).ok()["id"]
        for name in ("first of two", "second of two")
    ]
    assigned = door.write(door.admin, "POST", f"/permissions/{first}/assignments", {"identityId": payer.user_id}).ok()[
        "id"
    ]
    before = door.stored()
    refused(door.get(f"/wallets/{mine}/transfers/{paid}", payer), 404, "not_found")
    refused(door.write(payer, "PUT", f"/wallets/{mine}/transfers/{paid}/abort"), 404, "not_found")
    refused(door.write(door.admin, "DELETE", f"/permissions/{second}/assignments/{assigned}"), 404, "not_found")
    assert door.stored() == before


def test_a_person_is_switched_through_the_call_for_machines(door: Door, payer: Who) -> None:
    """The attacker may manage service accounts only, and names a person's id; or the other way round (F131)."""
    person = door.person("not-a-machine@example.com")
    machines = door.service_account("machine keeper", [each for each in OPERATIONS if "ServiceAccounts" in each])
    people = door.service_account("people keeper", [each for each in OPERATIONS if each.startswith("Auth:Users")])
    before = door.stored()
    for keeper, target in (
        (machines, f"/auth/service-accounts/{person.user_id}"),
        (people, f"/auth/users/{payer.user_id}"),
    ):
        refused(door.get(target, keeper), 404, "not_found")
        for method, suffix in (("PUT", "/activate"), ("PUT", "/deactivate"), ("DELETE", "")):
            refused(door.write(keeper, method, target + suffix), 404, "not_found")
    assert door.stored() == before


def test_a_payout_is_taken_back_by_somebody_else(door: Door, payer: Who, path: str) -> None:
    """The attacker holds another payer's key and stops payouts that are not theirs (F131)."""
    rival = door.service_account("rival payer", PAYER)
    paid = door.write(payer, "POST", path, transfer()).ok()["id"]
    before = door.stored()
    for who in (rival, door.admin):
        refused(door.write(who, "PUT", f"{path}/{paid}/abort"), 403, "not_permitted")
    assert door.stored() == before


# Identities that are gone


def test_a_withdrawn_invitation_is_taken_up(door: Door) -> None:
    """The attacker kept the code of an invitation that was switched off or removed meanwhile (F47)."""
    for number, (method, suffix) in enumerate((("PUT", "/deactivate"), ("DELETE", ""))):
        email = f"withdrawn-{number}@example.com"
        invited = door.write(door.admin, "POST", "/auth/users", {"email": email, "kind": "CustomerEmployee"}).ok()
        begin = {"username": email, "registrationCode": invited["registrationCode"]}
        token = door.call("POST", "/auth/registration/init", begin).ok()["temporaryAuthenticationToken"]
        door.write(door.admin, method, f"/auth/users/{invited['userId']}{suffix}").ok()
        with untouched(door):
            refused(door.call("POST", "/auth/registration/init", begin), 401, "not_authenticated")
            credential = {"credentialKind": "Key", "credentialInfo": {}}
            answer = door.call("POST", "/auth/registration", {"firstFactorCredential": credential}, token=token)
            refused(answer, 401, "not_authenticated")


def test_somebody_switched_off_switches_themselves_on(door: Door) -> None:
    """The attacker was deactivated, still holds token, key and a signed activation of themselves (F47)."""
    leaver = door.service_account("boomerang", OPERATIONS)
    target = f"/auth/service-accounts/{leaver.user_id}"
    action = door.sign(leaver, "PUT", f"{target}/activate")
    door.write(door.admin, "PUT", f"{target}/deactivate").ok()
    with untouched(door):
        refused(door.call("PUT", f"{target}/activate", token=leaver.token, action=action), 401, "not_authenticated")
        refused(door.open(leaver, "PUT", f"{target}/activate"), 401, "not_authenticated")


def test_nobody_is_left_to_switch_anybody_on(door: Door) -> None:
    """The attacker, an admin, tries to end their own identity, so that no one can be asked about it (F120)."""
    admin = door.person("leaves@example.com", OPERATIONS)
    before = door.stored()
    for method, suffix in (("PUT", "/deactivate"), ("DELETE", "")):
        answer = door.write(admin, method, f"/auth/users/{admin.user_id}{suffix}")
        refused(answer, 412, "precondition_failed")
    assert door.stored() == before


def test_a_key_nobody_vouched_for_is_given_every_permission(door: Door) -> None:
    """The attacker took up an open invitation with their own key and holds permissions; it signs nothing yet (F47)."""
    private, _ = new_key_pair()
    email = "unvouched@example.com"
    invited = door.write(door.admin, "POST", "/auth/users", {"email": email, "kind": "CustomerEmployee"}).ok()
    begin = {"username": email, "registrationCode": invited["registrationCode"]}
    begun = door.call("POST", "/auth/registration/init", begin).ok()
    info = key_attestation(private, begun["challenge"])
    body = {"firstFactorCredential": {"credentialKind": "Key", "credentialInfo": info}}
    door.call("POST", "/auth/registration", body, token=begun["temporaryAuthenticationToken"]).ok()
    full = next(each for each in door.get("/permissions").ok()["items"] if each["name"] == FULL_ADMIN)["id"]
    door.write(door.admin, "POST", f"/permissions/{full}/assignments", {"identityId": invited["userId"]}).ok()
    mallory = door.log_in(
        Who(
            user_id=invited["userId"],
            username=email,
            credential_id=info["credId"],
            key=load_private_key(private),
            private=private,
            token="",
        )
    )
    tries: list[tuple[str, str, Any]] = [
        ("POST", "/permissions", {"name": "x", "operations": ["Wallets:Read"]}),
        ("PUT", f"/auth/users/{mallory.user_id}/activate", None),
        ("PUT", f"/auth/users/{door.admin.user_id}/deactivate", None),
    ]
    with untouched(door):
        for method, target, body in tries:
            refused(door.write(mallory, method, target, body), 403, "not_permitted")
