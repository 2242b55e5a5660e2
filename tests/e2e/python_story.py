"""Every offered call through the official Python SDK, area by area, for people and machines of the step's own."""

import functools
import time
from collections.abc import Callable
from typing import Any

import dfns_sdk.generated.auth.types as auth_types
import dfns_sdk.generated.permissions.types as permission_types
import dfns_sdk.generated.policies.types as policy_types
import dfns_sdk.generated.wallets.types as wallet_types
import dfns_sdk.generated.webhooks.types as webhook_types
import pytest
from dfns_sdk import DfnsError

from outlay.evidence.attestation import key_attestation
from tests.dfns_types import assert_conforms, assert_id
from tests.e2e.rules import ALWAYS, ask, every_rule, governing, payouts
from tests.world import ETH, KEY_KINDS, NETWORK, PAYER, USDC, Identity, Receiver, World, new_key, until

RECIPIENT = "0x" + "66" * 20
TRANSFER_EXTRAS = ("waitingReason", "flag")
USER_EXTRAS = ("externalId", "mayVote", "registrationCode", "credentials")
TOKEN_EXTRAS = ("dateExpires", "externalId")
EVENT_EXTRAS = ("deliveryAttempt", "retryOf", "deliveryFailed", "nextAttemptDate", "eventId")


def refused(call: Callable[[], Any], status: int) -> DfnsError:
    """Check that a call is refused, and return the SDK's error."""
    with pytest.raises(DfnsError) as caught:
        call()
    assert caught.value.status_code == status, f"{caught.value.status_code}: {caught.value.message}"
    return caught.value


# Identities


def people(world: World) -> None:
    """Invited, registered, logged in, vouched for, switched off and on, logged out, removed."""
    admin = world.admin.sdk.auth
    who = world.person("full-python@people.example", vouched=None)
    found = assert_conforms(admin.get_user(who.user_id), auth_types.GetUserResponse, also=USER_EXTRAS)
    assert (found["isRegistered"], found["mayVote"]) == (True, False)
    listed = assert_conforms(admin.list_users({"limit": 500}), auth_types.ListUsersResponse)["items"]
    assert [each for each in listed if each["userId"] == who.user_id] == [found]
    assert who.user_id in {each["userId"] for each in admin.list_users({"kind": "CustomerEmployee"})["items"]}
    assert admin.list_users({"kind": "EndUser"}) == {"items": []}, "there are no end users"
    vouched = assert_conforms(admin.activate_user(who.user_id), auth_types.ActivateUserResponse, also=USER_EXTRAS)
    assert vouched["mayVote"] is True
    off = assert_conforms(admin.deactivate_user(who.user_id), auth_types.DeactivateUserResponse, also=USER_EXTRAS)
    assert off["isActive"] is False
    refused(who.sdk.auth.list_credentials, 401)
    assert admin.activate_user(who.user_id)["isActive"] is True
    again = world.log_in(who)
    left = assert_conforms(again.sdk.auth.logout({"allSessions": False}), auth_types.LogoutResponse)
    assert left["message"]
    refused(again.sdk.auth.list_credentials, 401)
    gone = assert_conforms(admin.delete_user(who.user_id), auth_types.DeleteUserResponse, also=USER_EXTRAS)
    assert (gone["userId"], gone["isActive"]) == (who.user_id, False)
    assert who.user_id not in {each["userId"] for each in admin.list_users({"limit": 500})["items"]}
    refused(functools.partial(world.log_in, who), 401)


def add_key(who: Identity, kind: str) -> tuple[Any, str]:
    """Add a key of this kind to somebody's own, and return it with its private part."""
    private, public = new_key(kind)
    begun = who.sdk.auth.create_credential_challenge({"kind": "Key"})
    required = {"user", "challengeIdentifier", "challenge", "attestation", "pubKeyCredParams", "rp"}
    assert required <= begun.keys()
    assert (begun["kind"], begun["user"]["id"]) == ("Key", who.user_id)
    body = {
        "credentialKind": "Key",
        "credentialInfo": key_attestation(private, begun["challenge"]),
        "credentialName": f"a {kind} key",
        "challengeIdentifier": begun["challengeIdentifier"],
    }
    made = assert_conforms(who.sdk.auth.create_credential(body), auth_types.CreateCredentialResponse)
    assert_id(made["credentialUuid"], "cr")
    assert (made["kind"], made["name"], made["isActive"]) == ("Key", f"a {kind} key", True)
    assert made["publicKey"].strip() == public.strip()
    return made, private


def credentials(world: World) -> None:
    """A person and a service account change keys, through every kind: the new one withdraws the old one."""
    person, machine = world.person("full-python@keys.example"), world.service_account("full-python-keys")
    for who in (person, machine):
        for kind in KEY_KINDS:
            (old,) = assert_conforms(who.sdk.auth.list_credentials(), auth_types.ListCredentialsResponse)["items"]
            made, private = add_key(who, kind)
            who = world.identity(
                user_id=who.user_id,
                username=who.username,
                credential_id=made["credentialId"],
                private_key=private,
                token=who.token,
            )
            if who.user_id == person.user_id:
                who = world.log_in(who)  # a session ends with its key; a machine's token goes on with the next one
            withdraw(who, old["credentialUuid"], made["credentialUuid"])
        if who.user_id == person.user_id:
            add_with_code(world, who)


def add_with_code(world: World, who: Identity) -> None:
    """Register a key from a place where none of the person's is, with a code; another of theirs switches it on."""
    auth, elsewhere, (private, _) = who.sdk.auth, world.client().auth, new_key()
    opened = auth.create_credential_code({"expiration": int(time.time()) + 600})
    code = assert_conforms(opened, auth_types.CreateCredentialCodeResponse)["code"]
    begun = elsewhere.create_credential_challenge_with_code({"credentialKind": "Key", "code": code})
    body = {
        "credentialKind": "Key",
        "credentialInfo": key_attestation(private, begun["challenge"]),
        "credentialName": "another device",
        "challengeIdentifier": begun["challengeIdentifier"],
    }
    made = assert_conforms(elsewhere.create_credential_with_code(body), auth_types.CreateCredentialWithCodeResponse)
    assert made["isActive"] is False
    assert auth.activate_credential({"credentialUuid": made["credentialUuid"]})["message"]
    assert auth.delete_credential(made["credentialUuid"]) == {}


def withdraw(who: Identity, old: str, new: str) -> None:
    """Switch a key off and on and remove it, signed with another of the same identity."""
    auth, named = who.sdk.auth, {"credentialUuid": old}
    off = assert_conforms(auth.deactivate_credential(named), auth_types.DeactivateCredentialResponse)
    assert off["message"]
    shown = {each["credentialUuid"]: each["isActive"] for each in auth.list_credentials()["items"]}
    assert shown == {old: False, new: True}
    assert assert_conforms(auth.activate_credential(named), auth_types.ActivateCredentialResponse)["message"]
    refused(lambda: auth.delete_credential(new), 412)
    assert_conforms(auth.delete_credential(old), auth_types.DeleteCredentialResponse)
    assert [each["credentialUuid"] for each in auth.list_credentials()["items"]] == [new]


def personal_tokens(world: World) -> None:
    """A person's programs, with a key of each kind: at most what the person may, and gone when they say so."""
    person = world.person("full-python@tokens.example", ["Auth:Pats:Create", "Wallets:Read", "Wallets:Update"])
    limit = world.permission("full-python: wallets only", ["Wallets:Read", "Wallets:Update"])
    wallet = world.admin.sdk.wallets.create_wallet({"network": NETWORK})
    auth = person.sdk.auth
    for kind in KEY_KINDS:
        private, public = new_key(kind)
        body = {"name": f"token {kind}", "publicKey": public, "externalId": "t-1", "permissionId": limit}
        made = auth.create_personal_access_token({**body, "daysValid": 7})
        assert_conforms(made, auth_types.CreatePersonalAccessTokenResponse, also=TOKEN_EXTRAS)
        assert_id(made["tokenId"], "to")
        assert (made["kind"], made["linkedUserId"], made["isActive"]) == ("Pat", person.user_id, True)
        (held,) = made["permissionAssignments"]
        assert (held["permissionId"], held["operations"]) == (limit, ["Wallets:Read", "Wallets:Update"])
        program = world.client(made["accessToken"], credential_id=made["credId"], private_key=private)
        named = f"by a program with {kind}"
        assert program.wallets.update_wallet(wallet["id"], {"name": named})["name"] == named
        refused(lambda program=program: program.auth.create_credential_challenge({"kind": "Key"}), 403)  # type: ignore[misc]
        switch_token(auth, program, made)


def switch_token(auth: Any, program: Any, made: Any) -> None:
    """Read a token, rename it, switch it off and on, and remove it."""
    token_id, known = made["tokenId"], {name: value for name, value in made.items() if name != "accessToken"}
    seen = assert_conforms(
        auth.get_personal_access_token(token_id), auth_types.GetPersonalAccessTokenResponse, also=TOKEN_EXTRAS
    )
    assert seen == known, "the text of a token is shown once"
    listed = assert_conforms(auth.list_personal_access_tokens(), auth_types.ListPersonalAccessTokensResponse)
    assert listed["items"] == [known]
    renamed = auth.update_personal_access_token(token_id, {"name": "another name"})
    assert_conforms(renamed, auth_types.UpdatePersonalAccessTokenResponse, also=TOKEN_EXTRAS)
    assert (renamed["name"], renamed["externalId"]) == ("another name", "t-1")
    off = auth.deactivate_personal_access_token(token_id)
    assert_conforms(off, auth_types.DeactivatePersonalAccessTokenResponse, also=TOKEN_EXTRAS)
    assert off["isActive"] is False
    refused(program.wallets.list_wallets, 401)
    on = auth.activate_personal_access_token(token_id)
    assert_conforms(on, auth_types.ActivatePersonalAccessTokenResponse, also=TOKEN_EXTRAS)
    assert on["isActive"] is True
    assert program.wallets.list_wallets({"limit": 1})["items"]
    gone = auth.delete_personal_access_token(token_id)
    assert_conforms(gone, auth_types.DeletePersonalAccessTokenResponse, also=TOKEN_EXTRAS)
    refused(program.wallets.list_wallets, 401)
    assert auth.list_personal_access_tokens() == {"items": []}


def service_accounts(world: World) -> None:
    """Made with a key of each kind, read, renamed, switched off and on, removed."""
    auth = world.admin.sdk.auth
    role = world.permission("full-python: look at wallets", ["Wallets:Read"])
    for kind in KEY_KINDS:
        _, public = new_key(kind)
        body = {"name": f"full-python {kind}", "publicKey": public, "permissionId": role, "daysValid": 1}
        made = assert_conforms(
            auth.create_service_account({**body, "externalId": "s-1"}), auth_types.CreateServiceAccountResponse
        )
        user_id = made["userInfo"]["userId"]
        (token,) = made["accessTokens"]
        assert (token["kind"], token["publicKey"].strip()) == ("ServiceAccount", public.strip())
        client = world.client(token.pop("accessToken"))
        assert assert_conforms(auth.get_service_account(user_id), auth_types.GetServiceAccountResponse) == made
        listed = assert_conforms(auth.list_service_accounts(), auth_types.ListServiceAccountsResponse)["items"]
        assert [each for each in listed if each["userInfo"]["userId"] == user_id] == [made]
        renamed = auth.update_service_account(user_id, {"name": f"renamed {kind}", "externalId": "s-2"})
        who = assert_conforms(renamed, auth_types.UpdateServiceAccountResponse)["userInfo"]
        assert (who["name"], who["externalId"]) == (f"renamed {kind}", "s-2")
        off = auth.deactivate_service_account(user_id, {"force": True})
        assert_conforms(off, auth_types.DeactivateServiceAccountResponse)
        refused(client.wallets.list_wallets, 401)
        on = assert_conforms(auth.activate_service_account(user_id), auth_types.ActivateServiceAccountResponse)
        assert (off["userInfo"]["isActive"], on["userInfo"]["isActive"]) == (False, True)
        assert client.wallets.list_wallets({"limit": 1})["items"]
        gone = auth.delete_service_account(user_id, {"force": False})
        assert_conforms(gone, auth_types.DeleteServiceAccountResponse)
        refused(client.wallets.list_wallets, 401)


# What is permitted


def permissions(world: World) -> None:
    """A permission is made, changed, given, taken, and taken out of use in either of the two ways."""
    calls = world.admin.sdk.permissions
    who = world.service_account("full-python-permitted", None)
    for name in ("archived", "deleted"):
        made = calls.create_permission({"name": f"full-python: to be {name}", "operations": ["Wallets:Read"]})
        assert_conforms(made, permission_types.CreatePermissionResponse)
        key = made["id"]
        assert assert_conforms(calls.get_permission(key), permission_types.GetPermissionResponse) == made
        operations = ["Policies:Read", "Wallets:Read"]
        changed = calls.update_permission(key, {"operations": operations})
        assert assert_conforms(changed, permission_types.UpdatePermissionResponse)["operations"] == operations
        listed = assert_conforms(calls.list_permissions({"limit": 500}), permission_types.ListPermissionsResponse)
        assert [each for each in listed["items"] if each["id"] == key] == [changed]
        given = calls.assign_permission(key, {"identityId": who.user_id})
        assert_conforms(given, permission_types.AssignPermissionResponse)
        held = calls.list_assignments(key)
        assert assert_conforms(held, permission_types.ListAssignmentsResponse)["items"] == [given]
        assert who.sdk.policies.list_policies()
        calls.revoke_permission(key, given["id"], {"force": True})
        refused(who.sdk.policies.list_policies, 403)
        calls.assign_permission(key, {"identityId": who.user_id})
        if name == "archived":
            gone = calls.archive_permission(key, {"isArchived": True})
            assert_conforms(gone, permission_types.ArchivePermissionResponse)
            assert gone["isArchived"] is True
        else:
            assert calls.delete_permission(key)["id"] == key
        refused(who.sdk.policies.list_policies, 403)
        assert calls.get_permission(key)["isArchived"] is True


def policies(world: World) -> None:
    """A rule of every kind with every action; changed by full replacement, then archived."""
    calls = world.admin.sdk.policies
    person = world.person("full-python@policies.example")
    for rule in every_rule(world.token):
        body = payouts(f"full-python {rule['kind']}", rule, {"kind": "Block"}, "full-python-nothing")
        made = calls.create_policy(body)
        assert_id(made["id"], "plc")
        assert (made["status"], made["version"], only(made, body)) == ("Active", 1, body)
        assert assert_conforms(calls.get_policy(made["id"]), policy_types.GetPolicyResponse, also=made) == made
        for version, action in ((2, {"kind": "NoAction"}), (3, ask(person.user_id))):
            body = {**body, "action": action}
            changed = calls.update_policy(made["id"], body)
            assert (changed["version"], only(changed, body)) == (version, body)
        assert changed in calls.list_policies({"status": "Active", "limit": "500"})["items"]
        gone = calls.delete_policy(made["id"])
        assert (gone["id"], gone["status"]) == (made["id"], "Archived")
        archived = assert_conforms(calls.list_policies({"status": "Archived"}), policy_types.ListPoliciesResponse)
        assert made["id"] in {each["id"] for each in archived["items"]}


def only(answer: Any, body: Any) -> Any:
    """Return the members of an answer that its request had too."""
    return {name: answer.get(name) for name in body}


def policies_about_permissions(world: World) -> None:
    """What nobody shall change or give away can be said too; what waits for people is in the story of governance."""
    calls, policy_calls = world.admin.sdk.permissions, world.admin.sdk.policies
    role = world.permission("full-python: fixed", ["Wallets:Read"])
    who = world.service_account("full-python-fixed", None)
    changes: dict[str, Callable[[], Any]] = {
        "Permissions:Modify": lambda: calls.update_permission(role, {"operations": ["Policies:Read"]}),
        "Permissions:Assign": lambda: calls.assign_permission(role, {"identityId": who.user_id}),
    }
    for kind, change in changes.items():
        body = governing(f"full-python {kind}", kind, {"kind": "Block"}, permissionId=[role])
        made = policy_calls.create_policy(body)
        assert only(made, body) == body
        assert refused(change, 403).details["policyId"] == made["id"]
        assert policy_calls.delete_policy(made["id"])["status"] == "Archived"
        assert change()


# Money


def wallets(world: World) -> None:
    """Made, tagged, renamed, looked at: also what the chain says they hold, and what a payout would cost."""
    calls = world.admin.sdk.wallets
    made = calls.create_wallet({"network": NETWORK, "name": "full", "tags": ["full-python"], "externalId": "w-9"})
    assert_conforms(made, wallet_types.CreateWalletResponse, also=("frozenReason",))
    assert_conforms(calls.get_wallet(made["id"]), wallet_types.GetWalletResponse, also=("frozenReason",))
    listed = assert_conforms(calls.list_wallets({"limit": 500}), wallet_types.ListWalletsResponse)["items"]
    assert made in listed
    renamed = calls.update_wallet(made["id"], {"name": "full-python"})
    assert assert_conforms(renamed, wallet_types.UpdateWalletResponse, also=("frozenReason",))["name"] == "full-python"
    tagged = calls.tag_wallet(made["id"], {"tags": ["more"]})
    assert assert_conforms(tagged, wallet_types.TagWalletResponse) == {}
    untagged = calls.untag_wallet(made["id"], {"tags": ["full-python"]})
    assert assert_conforms(untagged, wallet_types.UntagWalletResponse) == {}
    assert calls.get_wallet(made["id"])["tags"] == ["more"]
    world.chain.fund(made["address"], 2 * ETH)
    held = calls.get_wallet_assets(made["id"], {"netWorth": "true"})
    assert_conforms(held, wallet_types.GetWalletAssetsResponse)
    assert {each["symbol"]: each["balance"] for each in held["assets"]} == {"ETH": str(2 * ETH), "USDC": "0"}
    assert held["netWorth"] == {"USD": 6000}
    fees = world.admin.sdk.networks.estimate_fees({"network": NETWORK})
    assert (fees["kind"], fees["network"]) == ("Eip1559", NETWORK)
    for level in ("slow", "standard", "fast"):
        assert int(fees[level]["maxFeePerGas"]) >= int(fees[level]["maxPriorityFeePerGas"]) > 0


def transfers(world: World) -> None:
    """One flows, one waits and is approved, one waits and is taken back; the history has what was paid."""
    wallet = world.wallet("full-python-paying", tags=("full-python-paying",), coins=ETH, dollars=100 * USDC)
    approver = world.person("full-python@approvers.example")
    bot = world.service_account("full-python-bot", [*PAYER, "Wallets:Transfers:Abort"])
    calls, decides = bot.sdk.wallets, approver.sdk.policies
    limit = {"kind": "TransactionAmountLimit", "configuration": {"limit": 10, "currency": "USD"}}
    action = ask(approver.user_id)
    watching = world.admin.sdk.policies.create_policy(payouts("Over $10", limit, action, "full-python-paying"))

    def pay(dollars: int, name: str) -> Any:
        return world.pay(bot, wallet, RECIPIENT, dollars * USDC, f"full-python-{name}", contract=world.token)

    flowing, held, unwanted = pay(5, "flows"), pay(20, "waits"), pay(30, "unwanted")
    for each, status in ((flowing, "Executing"), (held, "Pending"), (unwanted, "Pending")):
        assert_conforms(each, wallet_types.TransferAssetResponse, also=TRANSFER_EXTRAS)
        assert each["status"] == status
    asked = {each["id"]: each for each in decides.list_approvals({"initiatorId": bot.user_id})["items"]}
    assert set(asked) == {held["approvalId"], unwanted["approvalId"]}
    assert_conforms(asked[held["approvalId"]], policy_types.GetApprovalResponse, also=("approvalGroups",))
    assert decides.get_approval(held["approvalId"]) == asked[held["approvalId"]]
    vote = {"value": "Approved", "reason": "checked"}
    answer = decides.create_approval_decision(held["approvalId"], vote)
    assert_conforms(answer, policy_types.CreateApprovalDecisionResponse, also=("approvalGroups",))
    assert answer["policyEvaluations"][0]["policyId"] == watching["id"]
    aborted = calls.abort_transfer(wallet["id"], unwanted["id"])
    assert_conforms(aborted, wallet_types.AbortTransferResponse, also=TRANSFER_EXTRAS)
    assert (aborted["id"], aborted["status"]) == (unwanted["id"], "Rejected")
    paid = [world.wait_for(each, "Confirmed", "Failed") for each in (flowing, held)]
    assert [each["status"] for each in paid] == ["Confirmed", "Confirmed"]
    for each in paid:
        seen = calls.get_transfer(wallet["id"], each["id"])
        assert assert_conforms(seen, wallet_types.GetTransferResponse, also=TRANSFER_EXTRAS) == each
    listed = assert_conforms(calls.list_transfers(wallet["id"]), wallet_types.ListTransfersResponse)["items"]
    assert [each["id"] for each in listed] == [unwanted["id"], held["id"], flowing["id"]]
    history = calls.get_wallet_history(wallet["id"], {"direction": "Out", "kind": "Erc20Transfer"})
    assert_conforms(history, wallet_types.GetWalletHistoryResponse)
    assert {each["txHash"]: each["value"] for each in history["items"]} == {
        paid[0]["txHash"]: str(5 * USDC),
        paid[1]["txHash"]: str(20 * USDC),
    }


def replacing(world: World) -> None:
    """Before one is in a block it is sped up, then canceled: the answers are transactions, and nobody is paid."""
    wallet = world.wallet("full-python-replacing", tags=("full-python-replacing",), coins=ETH, dollars=0)
    bot = world.service_account("full-python-replacer", [*PAYER, "Wallets:Transactions:Create"])
    calls, recipient = bot.sdk.wallets, "0x" + "68" * 20
    with world.no_blocks():
        paid = world.pay(bot, wallet, recipient, 7, "full-python-replaced")
        world.wait_for(paid, "Broadcasted")
        faster = calls.speed_up_transfer(wallet["id"], paid["id"])
        assert_conforms(faster, wallet_types.SpeedUpTransferResponse)
        until(lambda: world.is_sent(faster["id"]), "the speed-up to be sent")
        void = calls.cancel_transfer(wallet["id"], paid["id"])
        assert_conforms(void, wallet_types.CancelTransferResponse)
        assert calls.cancel_transfer(wallet["id"], paid["id"])["id"] == void["id"]
        refused(lambda: calls.speed_up_transfer(wallet["id"], paid["id"]), 412)
        until(lambda: world.is_sent(void["id"]), "the void to be sent")
    done = world.wait_for(paid, "Failed")
    assert_conforms(done, wallet_types.GetTransferResponse, also=TRANSFER_EXTRAS)
    assert done["replacementId"] == void["id"] != faster["id"]
    assert world.chain.balance(recipient) == 0


def rules_at_work(world: World) -> None:
    """A limit in the asset's own units blocks what is above it; a policy without action only reports."""
    tag = "full-python-nominal"
    wallet = world.wallet(tag, tags=(tag,), coins=ETH, dollars=0)
    bot = world.service_account(tag)
    nominal = next(rule for rule in every_rule(world.token) if rule["kind"] == "TransactionAmountLimitNominal")
    create = world.admin.sdk.policies.create_policy
    blocking = create(payouts("At most five wei", nominal, {"kind": "Block"}, tag))
    watching = create(payouts("Only look", ALWAYS, {"kind": "NoAction"}, tag))
    with world.receiver("policy.triggered") as (receiver, _):
        more = world.pay(bot, wallet, RECIPIENT, 6, "full-python-six")
        assert (more["status"], "approvalId" in more) == ("Rejected", False)
        as_much = world.pay(bot, wallet, RECIPIENT, 5, "full-python-five")
        assert as_much["status"] == "Executing"

        def told() -> set[tuple[str, str]]:
            found = [event["data"]["policyEvaluation"] for event in receiver.events()]
            mine = [each for each in found if each["activity"]["transferRequest"]["id"] in (more["id"], as_much["id"])]
            return {(each["activity"]["transferRequest"]["id"], each["policy"]["id"]) for each in mine}

        wanted = {(more["id"], blocking["id"]), (more["id"], watching["id"]), (as_much["id"], watching["id"])}
        until(lambda: told() >= wanted, "every policy that triggered")
        assert told() == wanted
    assert world.wait_for(as_much, "Confirmed", "Failed")["status"] == "Confirmed"


# Webhooks


def webhooks(world: World) -> None:
    """Subscribed, pinged, told, asked what was sent, changed, removed."""
    calls = world.admin.sdk.webhooks
    receiver = Receiver()
    try:
        made = calls.create_webhook({"url": receiver.url, "events": ["wallet.created"], "description": "full"})
        assert_conforms(made, webhook_types.CreateWebhookResponse)
        secret = made.pop("secret")
        assert secret
        assert assert_conforms(calls.get_webhook(made["id"]), webhook_types.GetWebhookResponse) == made
        listed = assert_conforms(calls.list_webhooks({"limit": 500}), webhook_types.ListWebhooksResponse)["items"]
        assert made in listed
        pinged = assert_conforms(calls.ping_webhook(made["id"]), webhook_types.PingWebhookResponse)
        assert pinged == {"status": "200"}
        wallet = world.admin.sdk.wallets.create_wallet({"network": NETWORK, "name": "told"})
        event = receiver.wait_for("wallet.created", lambda data: data["wallet"] == wallet)
        logged = until(lambda: calls.list_webhook_events(made["id"], {"kind": "wallet.created"})["items"], "the log")
        (attempt,) = [each for each in logged if each["id"] == event["id"]]
        assert (attempt["status"], attempt["data"]) == ("200", event["data"])
        found = calls.get_webhook_event(made["id"], attempt["id"])
        assert assert_conforms(found, webhook_types.GetWebhookEventResponse, also=EVENT_EXTRAS) == attempt
        changed = calls.update_webhook(made["id"], {"status": "Disabled", "events": ["*"]})
        assert_conforms(changed, webhook_types.UpdateWebhookResponse)
        assert (changed["status"], changed["events"], changed["description"]) == ("Disabled", ["*"], "full")
        gone = assert_conforms(calls.delete_webhook(made["id"]), webhook_types.DeleteWebhookResponse)
        assert gone == {"deleted": True}
        refused(lambda: calls.get_webhook(made["id"]), 404)
    finally:
        receiver.close()


STEPS = (
    people,
    credentials,
    personal_tokens,
    service_accounts,
    permissions,
    policies,
    policies_about_permissions,
    wallets,
    transfers,
    replacing,
    rules_at_work,
    webhooks,
)
