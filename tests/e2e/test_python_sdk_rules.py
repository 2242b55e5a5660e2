"""The official Python SDK against a live server: one promise a test, on one shared server.

The story from the first key to the last event is in ``test_python_sdk``.
"""

import base64
import functools
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import dfns_sdk.generated.auth.types as auth_types
import dfns_sdk.generated.permissions.types as permission_types
import dfns_sdk.generated.webhooks.types as webhook_types
import pytest
from dfns_sdk import DfnsError, KeySigner

from outlay.client import ApiError, Client
from outlay.core.operation import OPERATIONS
from outlay.evidence.attestation import key_attestation
from tests.dfns_types import assert_conforms
from tests.world import (
    ETH,
    KEY_KINDS,
    NETWORK,
    PAYER,
    USDC,
    VOTER,
    Identity,
    Receiver,
    World,
    new_key,
)

RECIPIENT = "0x" + "44" * 20
CAFE = "Café “Zoë” 東京 🏦"
"""Two, three and four bytes in UTF-8; the last is two escapes in JSON."""


@pytest.fixture(scope="module")
def wallet(world: World) -> Any:
    """Return a funded wallet that no policy watches."""
    return world.wallet("unwatched", tags=(), coins=ETH, dollars=1000 * USDC)


@pytest.fixture(scope="module")
def bot(world: World) -> Identity:
    """Return a payout service account."""
    return world.service_account("bot")


def refused(call: Callable[[], Any], status: int, *, says: str = "") -> DfnsError:
    """Check that a call is refused, and return the SDK's error."""
    with pytest.raises(DfnsError) as caught:
        call()
    assert caught.value.status_code == status, f"{caught.value.status_code}: {caught.value.message}"
    assert says in caught.value.message
    return caught.value


# Permissions


def forbidden_calls(world: World, sdk: Any, wallet: Any) -> dict[str, Callable[[], Any]]:
    """Return one call for each operation that a payout service account lacks, sound but for the permission."""
    auth, wallets, policies, permissions, webhooks = sdk.auth, sdk.wallets, sdk.policies, sdk.permissions, sdk.webhooks
    _, public = new_key()
    someone, something = world.admin.user_id, "pm-00000-00000-0000000000000000"
    policy = {
        "name": "p",
        "activityKind": "Wallets:Sign",
        "rule": {"kind": "AlwaysTrigger"},
        "action": {"kind": "Block"},
    }
    hook = {"url": "http://127.0.0.1:9/hook", "events": ["*"]}
    return {
        "Auth:Pats:Create": lambda: auth.create_personal_access_token({"name": "n", "publicKey": public}),
        "Auth:ServiceAccounts:Create": lambda: auth.create_service_account({"name": "n", "publicKey": public}),
        "Auth:ServiceAccounts:Read": auth.list_service_accounts,
        "Auth:ServiceAccounts:Update": lambda: auth.update_service_account(someone, {"name": "n"}),
        "Auth:ServiceAccounts:Activate": lambda: auth.activate_service_account(someone),
        "Auth:ServiceAccounts:Deactivate": lambda: auth.deactivate_service_account(someone, {}),
        "Auth:ServiceAccounts:Delete": lambda: auth.delete_service_account(someone, {"force": True}),
        "Auth:Users:Create": lambda: auth.create_user({"email": "x@example.com", "kind": "CustomerEmployee"}),
        "Auth:Users:Read": auth.list_users,
        "Auth:Users:Activate": lambda: auth.activate_user(someone),
        "Auth:Users:Deactivate": lambda: auth.deactivate_user(someone),
        "Auth:Users:Delete": lambda: auth.delete_user(someone),
        "Permissions:Create": lambda: permissions.create_permission({"name": "n", "operations": ["Wallets:Create"]}),
        "Permissions:Read": permissions.list_permissions,
        "Permissions:Update": lambda: permissions.update_permission(something, {"operations": ["Wallets:Create"]}),
        "Permissions:Delete": lambda: permissions.delete_permission(something),
        "Permissions:Assign": lambda: permissions.assign_permission(something, {"identityId": someone}),
        "Permissions:Assignments:Read": lambda: permissions.list_assignments(something),
        "Permissions:Revoke": lambda: permissions.revoke_permission(something, something, {"force": True}),
        "Policies:Create": lambda: policies.create_policy(policy),
        "Policies:Read": policies.list_policies,
        "Policies:Update": lambda: policies.update_policy(something, policy),
        "Policies:Delete": lambda: policies.delete_policy(something),
        "Policies:Evaluations:Read": policies.list_approvals,
        "Policies:Evaluations:Vote": lambda: policies.create_approval_decision(something, {"value": "Denied"}),
        "Wallets:Create": lambda: wallets.create_wallet({"network": NETWORK}),
        "Wallets:Update": lambda: wallets.update_wallet(wallet["id"], {"name": "mine"}),
        "Wallets:Tags:Add": lambda: wallets.tag_wallet(wallet["id"], {"tags": ["free"]}),
        "Wallets:Tags:Remove": lambda: wallets.untag_wallet(wallet["id"], {"tags": ["payouts"]}),
        "Wallets:Transfers:Abort": lambda: wallets.abort_transfer(wallet["id"], something),
        "Wallets:Transactions:Create": lambda: wallets.cancel_transfer(wallet["id"], something),
        "Webhooks:Create": lambda: webhooks.create_webhook(hook),
        "Webhooks:Read": webhooks.list_webhooks,
        "Webhooks:Update": lambda: webhooks.update_webhook(something, {"status": "Disabled"}),
        "Webhooks:Delete": lambda: webhooks.delete_webhook(something),
        "Webhooks:Ping": lambda: webhooks.ping_webhook(something),
        "Webhooks:Events:Read": lambda: webhooks.list_webhook_events(something),
    }


MANDATE_ID = "md-00000-00000-0000000000000000"
POOL_ID = "pool-00000-00000-0000000000000000"
MANDATE = {
    "name": "gas",
    "kind": "GasTopUp",
    "network": NETWORK,
    "treasury": {"external": RECIPIENT},
    "wallets": {"tag": "payouts"},
    "min": "1",
    "target": "1",
    "max": "1",
    "perRefillMax": "1",
    "window": {"amount": "1", "count": 1, "minutes": 1},
}

NOT_OFFERED = {"Auth:Users:Update"}
"""Operations that no call needs yet."""

OURS = {
    "Audit:Read",
    "Config:Apply",
    "Mandates:Archive",
    "Mandates:Create",
    "Mandates:Read",
    "Outlay:Unfreeze",
    "Pools:Archive",
    "Pools:Create",
    "Pools:Read",
    "Signer:Reseed",
    "Wallets:Drain",
    "Wallets:Unfreeze",
}
"""Operations of calls that only we have."""


def test_a_service_account_can_do_only_what_its_permission_names(world: World, bot: Identity, wallet: Any) -> None:
    calls = forbidden_calls(world, bot.sdk, wallet)
    assert set(calls) == set(OPERATIONS) - set(PAYER) - NOT_OFFERED - OURS
    before = [tuple(world.rows(f"SELECT count(*), max(seq) FROM {table}")[0]) for table in ("record", "event")]
    for operation, call in calls.items():
        error = refused(call, 403, says=operation)
        assert error.error_code == "not_permitted", operation
        assert error.details == {"operation": operation}
    after = [tuple(world.rows(f"SELECT count(*), max(seq) FROM {table}")[0]) for table in ("record", "event")]
    assert after == before, "a refused call left something behind"
    ours = Client(world.url, token=bot.token, credential_id=bot.credential_id, private_key=bot.private_key)
    bodies: dict[str, tuple[str, str, Any]] = {
        "Audit:Read": ("GET", "/v1/audit", None),
        "Config:Apply": ("PUT", "/v1/config", {"moneySettings": ours.read("/v1/config")["moneySettings"]}),
        "Mandates:Archive": ("POST", f"/v1/mandates/{MANDATE_ID}/archive", {}),
        "Mandates:Create": ("POST", "/v1/mandates", MANDATE),
        "Mandates:Read": ("GET", "/v1/mandates", None),
        "Outlay:Unfreeze": ("PUT", "/v1/networks/unfreeze", {"network": NETWORK, "reason": "looked at"}),
        "Pools:Archive": ("POST", f"/v1/pools/{POOL_ID}/archive", {}),
        "Pools:Create": ("POST", "/v1/pools", {"name": "hot", "network": NETWORK, "tag": "hot"}),
        "Pools:Read": ("GET", f"/v1/pools/{POOL_ID}", None),
        "Signer:Reseed": (
            "PUT",
            "/v1/signer/reseed",
            {"journalId": "journal", "minNonces": {}, "reason": "it was lost"},
        ),
        "Wallets:Drain": ("POST", f"/v1/wallets/{wallet['id']}/drain", {"reason": "looked at"}),
        "Wallets:Unfreeze": ("PUT", f"/v1/wallets/{wallet['id']}/unfreeze", {"reason": "looked at"}),
    }
    assert set(bodies) == OURS
    for operation, (method, path, body) in bodies.items():
        with pytest.raises(ApiError) as caught:
            ours.read(path) if method == "GET" else ours.write(method, path, body)
        assert (caught.value.status, caught.value.details) == (403, {"operation": operation})
    assert bot.sdk.wallets.get_wallet(wallet["id"])["id"] == wallet["id"]
    assert bot.sdk.wallets.list_transfers(wallet["id"])["walletId"] == wallet["id"]


def test_a_fresh_service_account_can_do_nothing(world: World, wallet: Any) -> None:
    nobody = world.service_account("without-permission", None)
    refused(nobody.sdk.wallets.list_wallets, 403, says="Wallets:Read")
    refused(lambda: nobody.sdk.wallets.list_transfers(wallet["id"]), 403, says="Wallets:Transfers:Read")
    refused(lambda: world.pay(nobody, wallet, RECIPIENT, 1, "nothing"), 403, says="Wallets:Transfers:Create")
    for operation, call in forbidden_calls(world, nobody.sdk, wallet).items():
        assert refused(call, 403).details == {"operation": operation}


def test_permissions_change_at_once(world: World, wallet: Any) -> None:
    permissions = world.admin.sdk.permissions
    held = assert_conforms(permissions.list_permissions(), permission_types.ListPermissionsResponse)["items"]
    (full,) = [each for each in held if each["name"] == "ManagedFullAdminAccess"]
    assert (full["isImmutable"], full["operations"]) == (True, sorted(OPERATIONS))
    refused(lambda: permissions.update_permission(full["id"], {"name": "mine"}), 412)
    who = world.service_account("short-lived", None)
    role = permissions.create_permission({"name": "Look", "operations": ["Wallets:Read", "Permissions:Archive"]})
    assert role["operations"] == ["Permissions:Delete", "Wallets:Read"], "older spellings become canonical"
    given = permissions.assign_permission(role["id"], {"identityId": who.user_id})
    assert_conforms(given, permission_types.AssignPermissionResponse)
    refused(lambda: permissions.assign_permission(role["id"], {"identityId": who.user_id}), 409)
    listed = permissions.list_assignments(role["id"])
    assert assert_conforms(listed, permission_types.ListAssignmentsResponse)["items"] == [given]
    assert who.sdk.wallets.get_wallet(wallet["id"])["id"] == wallet["id"]
    permissions.revoke_permission(role["id"], given["id"], {"force": True})
    refused(lambda: who.sdk.wallets.get_wallet(wallet["id"]), 403)
    permissions.assign_permission(role["id"], {"identityId": who.user_id})
    archived = permissions.archive_permission(role["id"], {"isArchived": True})
    assert assert_conforms(archived, permission_types.ArchivePermissionResponse)["isArchived"] is True
    refused(lambda: who.sdk.wallets.get_wallet(wallet["id"]), 403)


def test_a_service_account_is_switched_off_at_once(world: World) -> None:
    auth, who = world.admin.sdk.auth, world.service_account("switched")
    refused(lambda: auth.create_service_account({"name": "switched", "publicKey": new_key()[1]}), 409)
    assert auth.update_service_account(who.user_id, {"name": "renamed"})["userInfo"]["name"] == "renamed"
    off = auth.deactivate_service_account(who.user_id, {"force": True})
    assert assert_conforms(off, auth_types.CreateServiceAccountResponse)["userInfo"]["isActive"] is False
    refused(who.sdk.wallets.list_wallets, 401, says="deactivated")
    assert auth.activate_service_account(who.user_id)["userInfo"]["isActive"] is True
    assert "items" in who.sdk.wallets.list_wallets()
    assert auth.delete_service_account(who.user_id, {"force": True})["userInfo"]["userId"] == who.user_id
    refused(who.sdk.wallets.list_wallets, 401)
    assert who.user_id not in {each["userInfo"]["userId"] for each in auth.list_service_accounts()["items"]}


# Keys, registration, login


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_every_kind_of_key_signs(world: World, wallet: Any, kind: str) -> None:
    payer = world.service_account(f"payer-{kind}", key_kind=kind)
    paid = world.pay(payer, wallet, RECIPIENT, 7 * USDC, f"paid-with-{kind}", contract=world.token)
    assert world.wait_for(paid, "Confirmed", "Failed")["status"] == "Confirmed"
    email = f"{kind.lower()}@example.com"
    person = world.person(email, ["Permissions:Create"], key_kind=kind)
    permissions = person.sdk.permissions
    assert permissions.create_permission({"name": kind, "operations": ["Permissions:Create"]})["name"] == kind
    more = {"name": f"More {kind}", "operations": ["Wallets:Read"]}
    assert refused(lambda: permissions.create_permission(more), 403).details == {"operations": ["Wallets:Read"]}
    other, _ = new_key(kind)
    thief = world.client(payer.token, credential_id=payer.credential_id, private_key=other)
    refused(lambda: thief.wallets.transfer_asset(wallet["id"], {}), 403)


def test_a_challenge_conforms_and_lists_every_key_of_the_caller(world: World, bot: Identity, wallet: Any) -> None:
    body = {
        "userActionHttpMethod": "POST",
        "userActionHttpPath": f"/wallets/{wallet['id']}/transfers?x=1",
        "userActionPayload": "",
        "userActionServerKind": "Api",
    }
    opened = bot.sdk.auth.create_user_action_challenge(body)
    assert_conforms(opened, auth_types.CreateUserActionChallengeResponse, also={"preimage"})
    assert opened["allowCredentials"] == {
        "key": [{"type": "public-key", "id": bot.credential_id}],
        "webauthn": [],
    }
    assert [each["kind"] for each in opened["supportedCredentialKinds"]] == ["Key", "Fido2"]
    for kind in opened["supportedCredentialKinds"]:
        assert not kind["requiresSecondFactor"] and kind["factor"] in ("first", "either")
    assert len(base64.urlsafe_b64decode(opened["challenge"] + "=")) == 32, "a digest of what is signed"
    signer = KeySigner(
        credential_id=bot.credential_id, private_key=bot.private_key, app_origin="https://elsewhere.example"
    )
    signed = {"challengeIdentifier": opened["challengeIdentifier"], "firstFactor": signer.sign(opened)}
    assert_conforms(bot.sdk.auth.create_user_action_signature(signed), auth_types.CreateUserActionSignatureResponse)


def test_a_bearer_token_names_its_organization_to_clients_that_look(world: World, bot: Identity) -> None:
    for token in (bot.token, world.admin.token, world.log_in(world.person("looks@example.com")).token):
        middle = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        assert claims["https://custom/app_metadata"]["orgId"] == world.org_id
        assert claims["exp"] > time.time() + 3600


def test_registration_conforms_and_an_invitation_works_once(world: World) -> None:
    private, _ = new_key()
    invitation = world.invite("once@example.com")
    asked = {"orgId": world.org_id, "username": invitation.email, "registrationCode": invitation.code}
    anonymous = world.client()
    begun = anonymous.auth.create_registration_challenge(asked)
    assert_conforms(begun, auth_types.CreateRegistrationChallengeResponse)
    assert begun["user"]["id"] == invitation.user_id
    assert begun["supportedCredentialKinds"]["firstFactor"] == ["Key", "Fido2"]
    info = key_attestation(private, begun["challenge"])
    body = {"firstFactorCredential": {"credentialKind": "Key", "credentialInfo": info, "credentialName": "laptop"}}
    refused(lambda: anonymous.auth.register(body), 401)
    joining = world.client(begun["temporaryAuthenticationToken"])
    refused(lambda: joining.auth.list_users(), 401)
    made = assert_conforms(joining.auth.register(body), auth_types.RegisterResponse)
    assert {"uuid", "kind", "name"} <= set(made["credential"])
    assert made["user"] == {"id": invitation.user_id, "username": invitation.email, "orgId": world.org_id}
    refused(lambda: joining.auth.register(body), 401)
    refused(lambda: anonymous.auth.create_registration_challenge(asked), 401)


@pytest.mark.parametrize(
    "wrong",
    [{"registrationCode": "guess"}, {"username": "x@example.com"}, {"orgId": "or-00000-00000-0000000000000000"}],
)
def test_a_wrong_invitation_says_nothing_about_what_is_wrong(world: World, wrong: dict[str, str]) -> None:
    invitation = world.invite(f"{next(iter(wrong)).lower()}@example.com")
    asked = {"orgId": world.org_id, "username": invitation.email, "registrationCode": invitation.code}
    auth = world.client().auth
    error = refused(lambda: auth.create_registration_challenge({**asked, **wrong}), 401)
    other = refused(lambda: auth.create_registration_challenge({**asked, "registrationCode": ""}), 401)
    assert error.message == other.message


def test_an_invitation_that_names_a_key_takes_no_other(world: World) -> None:
    (private, public), (other, _) = new_key(), new_key()
    invitation = world.invite("named@example.com", public_key=public)
    refused(lambda: world.register(invitation, other), 400, says="public key")
    assert world.register(invitation, private).token


def test_login_and_logout(world: World) -> None:
    person = world.person("in-and-out@example.com")
    second, third = world.log_in(person), world.log_in(person)
    assert len({person.token, second.token, third.token}) == 3
    credentials = second.sdk.auth.list_credentials()
    (own,) = assert_conforms(credentials, auth_types.ListCredentialsResponse)["items"]
    required = {"kind", "credentialId", "credentialUuid", "dateCreated", "isActive", "name", "publicKey", "origin"}
    assert required | {"relyingPartyId"} <= set(own)
    assert (own["credentialId"], own["kind"], own["isActive"]) == (person.credential_id, "Key", True)
    assert_conforms(second.sdk.auth.logout({}), auth_types.LogoutResponse)
    refused(second.sdk.auth.list_credentials, 401)
    assert third.sdk.auth.list_credentials() == credentials
    third.sdk.auth.logout({"allSessions": True})
    for each in (person, third):
        refused(each.sdk.auth.list_credentials, 401)
    assert world.log_in(person).sdk.auth.list_credentials() == credentials


def test_a_login_challenge_works_once_and_for_its_own_key(world: World, bot: Identity) -> None:
    person, other = world.person("careful@example.com"), world.person("other@example.com")
    auth = world.client().auth
    begun = auth.create_login_challenge({"username": person.username, "orgId": world.org_id})
    assert_conforms(begun, auth_types.CreateLoginChallengeResponse)
    assert begun["allowCredentials"]["key"] == [{"type": "public-key", "id": person.credential_id}]

    def answer(who: Identity, credential_id: str, challenge: Any = begun) -> Callable[[], Any]:
        signer = KeySigner(credential_id=credential_id, private_key=who.private_key, app_origin=world.url)
        body = {"challengeIdentifier": challenge["challengeIdentifier"], "firstFactor": signer.sign(challenge)}
        return lambda: auth.login(body)

    with pytest.raises(DfnsError) as stolen:
        answer(other, person.credential_id)()
    with pytest.raises(DfnsError) as swapped:
        answer(other, other.credential_id)()
    assert {stolen.value.status_code, swapped.value.status_code} <= {401, 403}
    assert answer(person, person.credential_id)()["token"]
    refused(answer(person, person.credential_id), 401, says="used")
    for name, org_id in (("bot", world.org_id), (person.username, "or-1")):
        made_up = auth.create_login_challenge({"username": name, "orgId": org_id})
        refused(answer(person, person.credential_id, made_up), 401)


# Lists


@pytest.mark.parametrize("spelling", ["paginationToken", "pagination_token"])
def test_pages_join_up_in_either_spelling(world: World, wallet: Any, bot: Identity, spelling: str) -> None:
    names = [f"page-{spelling[-6:]}-{number}" for number in range(5)]
    made = [world.pay(bot, wallet, RECIPIENT, 1 + number, name)["id"] for number, name in enumerate(names)]
    listings: dict[str, Callable[[Any], Any]] = {
        "transfers": lambda query: bot.sdk.wallets.list_transfers(wallet["id"], query),
        "wallets": world.admin.sdk.wallets.list_wallets,
        "users": world.admin.sdk.auth.list_users,
        "permissions": world.admin.sdk.permissions.list_permissions,
        "webhooks": world.admin.sdk.webhooks.list_webhooks,
        "policies": world.admin.sdk.policies.list_policies,
        "approvals": world.admin.sdk.policies.list_approvals,
    }
    for name, listing in listings.items():
        whole = [each.get("id") or each["userId"] for each in listing({"limit": 500})["items"]]
        seen: list[str] = []
        query: dict[str, Any] = {"limit": 2}
        while True:
            page = listing(query)
            assert len(page["items"]) <= 2
            seen += [each.get("id") or each["userId"] for each in page["items"]]
            if "nextPageToken" not in page:
                break
            query = {"limit": "2", spelling: page["nextPageToken"]}
            assert len(seen) <= len(whole), f"{name} never ends"
        assert seen == whole, name
    newest_first = [each["id"] for each in bot.sdk.wallets.list_transfers(wallet["id"], {"limit": 5})["items"]]
    assert newest_first == made[::-1]
    for wrong in ({"limit": 0}, {"limit": "two"}, {"limit": 501}, {spelling: "made-up"}):
        error = refused(functools.partial(listings["transfers"], wrong), 400)
        assert error.details["field"] in ("limit", "paginationToken")


# Transfers


def test_an_external_id_is_one_payout_for_ever(world: World, bot: Identity, wallet: Any) -> None:
    body = {"kind": "Native", "to": RECIPIENT, "amount": "1000", "externalId": "for-ever"}
    first = bot.sdk.wallets.transfer_asset(wallet["id"], body)
    done = world.wait_for(first, "Confirmed")
    for same in ({**body, "priority": "Standard"}, dict(reversed(body.items()))):
        assert bot.sdk.wallets.transfer_asset(wallet["id"], same) == done
    for other in ({**body, "amount": "1001"}, {**body, "to": "0x" + "45" * 20}, {**body, "priority": "Fast"}):
        error = refused(lambda other=other: bot.sdk.wallets.transfer_asset(wallet["id"], other), 409)  # type: ignore[misc]
        assert error.details == {"duplicate": {"id": first["id"], "externalId": "for-ever"}}
    rival = world.service_account("rival")
    error = refused(lambda: rival.sdk.wallets.transfer_asset(wallet["id"], body), 409)
    assert error.details == {"duplicate": {"externalId": "for-ever"}}, "another's payout is not shown"
    without = {name: value for name, value in body.items() if name != "externalId"}
    assert "require_external_id" in refused(lambda: bot.sdk.wallets.transfer_asset(wallet["id"], without), 400).message


def test_the_initiator_takes_a_held_payout_back(world: World, wallet: Any) -> None:
    person = world.person("asked@example.com")
    world.watch("taken-back", {"userId": {"in": [person.user_id]}})
    held_from = world.wallet("held", tags=["taken-back"], dollars=0)
    payer = world.service_account("second-thoughts", [*PAYER, "Wallets:Transfers:Abort"])
    held = world.pay(payer, held_from, RECIPIENT, 5, "taken-back")
    assert held["status"] == "Pending"
    ended = payer.sdk.wallets.abort_transfer(held_from["id"], held["id"])
    assert (ended["status"], ended["id"]) == ("Rejected", held["id"])
    assert person.sdk.policies.get_approval(held["approvalId"])["status"] == "Denied"
    refused(lambda: payer.sdk.wallets.abort_transfer(held_from["id"], held["id"]), 412)


def test_a_service_account_votes_only_if_it_is_listed_and_allowed(world: World, bot: Identity) -> None:
    voter = world.service_account("voter", VOTER)
    anyone = world.watch("machines", {})
    paying = world.wallet("machines", tags=["machines"], dollars=0)
    held = world.pay(bot, paying, RECIPIENT, 5, "machines-1")
    vote = {"value": "Approved"}
    refused(lambda: voter.sdk.policies.create_approval_decision(held["approvalId"], vote), 403)
    listed = {"userId": {"in": [voter.user_id]}}
    body = {name: anyone[name] for name in ("name", "activityKind", "rule", "action", "filters")}
    body["action"]["approvalGroups"][0]["approvers"] = listed
    refused(lambda: world.admin.sdk.policies.update_policy(anyone["id"], body), 400, says="serviceAccountsCanApprove")
    body["action"]["approvalGroups"][0]["serviceAccountsCanApprove"] = True
    world.admin.sdk.policies.update_policy(anyone["id"], body)
    assert voter.sdk.policies.create_approval_decision(held["approvalId"], vote)["status"] == "Approved"
    assert world.wait_for(held, "Confirmed", "Rejected", "Failed")["status"] == "Confirmed"
    assert world.admin.sdk.policies.delete_policy(anyone["id"])["status"] == "Archived"
    assert world.pay(bot, paying, RECIPIENT, 5, "machines-2")["status"] == "Executing"


def test_approvals_are_found_by_who_may_decide(world: World, bot: Identity) -> None:
    """``approverId`` names a potential approver: what waits for me, and what I decided."""
    one, two = world.person("finds-one@example.com"), world.person("finds-two@example.com")
    world.watch("found", {"userId": {"in": [one.user_id]}})
    paying = world.wallet("found", tags=["found"], dollars=0)
    held = world.pay(bot, paying, RECIPIENT, 5, "found")

    def found(who: str, **query: str) -> set[str]:
        listed = one.sdk.policies.list_approvals({"approverId": who, **query})["items"]
        return {each["activity"]["transferRequest"]["id"] for each in listed}

    assert held["id"] in found(one.user_id, status="Pending")
    for other in (two.user_id, bot.user_id):
        assert held["id"] not in found(other)
    for wrong in ("us-%", '"', held["id"]):
        assert refused(functools.partial(found, wrong), 400).details == {"field": "approverId"}
    one.sdk.policies.create_approval_decision(held["approvalId"], {"value": "Denied"})
    assert held["id"] in found(one.user_id, status="Denied", initiator_id=bot.user_id)
    world.watch("anyone", {})
    held = world.pay(bot, world.wallet("anyone", tags=["anyone"], dollars=0), RECIPIENT, 5, "anyone")
    assert held["id"] in found(two.user_id)
    assert held["id"] not in found(bot.user_id), "anyone means any person"


# Text and webhooks


def test_names_outside_ascii(world: World, bot: Identity) -> None:
    """The SDK signs such a body escaped and sends it raw; what comes back and what is delivered is the same text."""
    admin = world.admin.sdk
    with world.receiver("wallet.created", "policy.approval.resolved") as (receiver, hook):
        wallet = world.wallet(CAFE, tags=["cafe"], dollars=0)
        assert admin.wallets.get_wallet(wallet["id"])["name"] == CAFE
        assert admin.permissions.create_permission({"name": CAFE, "operations": ["Wallets:Read"]})["name"] == CAFE
        account = admin.auth.create_service_account({"name": f"bot {CAFE}", "publicKey": new_key()[1]})
        assert account["userInfo"]["name"] == f"bot {CAFE}"
        policy = world.watch("cafe", {})
        body = {name: policy[name] for name in ("activityKind", "rule", "action", "filters")}
        assert admin.policies.update_policy(policy["id"], {**body, "name": CAFE})["name"] == CAFE
        assert admin.webhooks.update_webhook(hook["id"], {"description": CAFE})["description"] == CAFE
        held = world.pay(bot, wallet, RECIPIENT, 5, "cafe")
        person = world.person("zoe@example.com")
        decided = person.sdk.policies.create_approval_decision(held["approvalId"], {"value": "Denied", "reason": CAFE})
        assert decided["decisions"][0]["reason"] == CAFE
        receiver.wait_for("wallet.created", lambda data: data["wallet"]["name"] == CAFE)
        receiver.wait_for("policy.approval.resolved", lambda data: data["approval"]["decisions"][0]["reason"] == CAFE)
        for arrival in receiver.arrivals:
            assert arrival.body.isascii()
            again = json.dumps(arrival.event, separators=(",", ":")).encode()
            signature = "sha256=" + hmac.new(hook["secret"].encode(), again, hashlib.sha256).hexdigest()
            assert signature == arrival.headers["x-dfns-webhook-signature"]


def test_a_failed_delivery_is_repeated_as_the_contract_says(world: World) -> None:
    with world.receiver("wallet.created") as (receiver, hook):
        receiver.answers.put(500)
        receiver.answers.put(204)  # success is exactly 200
        world.admin.sdk.wallets.create_wallet({"network": NETWORK})
        third = receiver.wait_for("wallet.created", lambda _: len(receiver.arrivals) == 3)
        first, second, third = receiver.events()
        assert [each["deliveryAttempt"] for each in (first, second, third)] == [1, 2, 3]
        assert ("retryOf" in first, second["retryOf"], third["retryOf"]) == (False, first["id"], second["id"])
        assert first["data"] == second["data"] == third["data"]
        assert len({each.headers["webhook-id"] for each in receiver.arrivals}) == 1
        events = world.admin.sdk.webhooks.list_webhook_events
        for spelling in ("deliveryFailed", "delivery_failed"):
            failed = assert_conforms(events(hook["id"], {spelling: "true"}), webhook_types.ListWebhookEventsResponse)
            assert {each["status"] for each in failed["items"]} == {"500", "204"}


def test_a_disabled_or_deleted_webhook_hears_nothing(world: World) -> None:
    webhooks = world.admin.sdk.webhooks
    receiver = Receiver()
    try:
        made = webhooks.create_webhook({"url": receiver.url, "events": ["wallet.created"], "status": "Disabled"})
        world.admin.sdk.wallets.create_wallet({"network": NETWORK, "name": "unheard"})
        changed = webhooks.update_webhook(made["id"], {"status": "Enabled"})
        assert assert_conforms(changed, webhook_types.UpdateWebhookResponse)["url"] == receiver.url
        world.admin.sdk.wallets.create_wallet({"network": NETWORK, "name": "heard"})
        assert receiver.wait_for("wallet.created")["data"]["wallet"]["name"] == "heard"
        assert_conforms(webhooks.delete_webhook(made["id"]), webhook_types.DeleteWebhookResponse)
        refused(lambda: webhooks.get_webhook(made["id"]), 404)
    finally:
        receiver.close()


def test_what_is_not_offered_is_a_plain_404(world: World) -> None:
    sdk = world.admin.sdk
    for call in (sdk.keys.list_keys, sdk.vaults.list_vaults, sdk.fee_sponsors.list_fee_sponsors):
        assert refused(call, 404, says="not offered").error_code == "not_offered"
