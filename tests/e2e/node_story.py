"""Every offered call through the official JavaScript SDK.

The scripts in ``node/`` make the calls; the checks are here.
"""

from typing import Any

import dfns_sdk.generated.auth.types as auth_types
import dfns_sdk.generated.permissions.types as permission_types
import dfns_sdk.generated.policies.types as policy_types
import dfns_sdk.generated.wallets.types as wallet_types
import dfns_sdk.generated.webhooks.types as webhook_types

from tests.dfns_types import assert_conforms, assert_id
from tests.e2e.exchanges import Exchange, Step, of_script
from tests.e2e.node_scripts import caller, run
from tests.e2e.python_story import EVENT_EXTRAS, TOKEN_EXTRAS, TRANSFER_EXTRAS, USER_EXTRAS, only
from tests.e2e.rules import ask, every_rule, payouts
from tests.world import ETH, KEY_KINDS, NETWORK, PAYER, USDC, Receiver, World

RECIPIENT = "0x" + "67" * 20


def identities(world: World) -> list[Exchange]:
    """People, their keys and tokens, and service accounts, with a key of each kind."""
    wallet = world.admin.sdk.wallets.create_wallet({"network": NETWORK})
    result = run(world, "identities.mjs", admin=caller(world.admin), walletId=wallet["id"])
    check_people(result, world.org_id)
    check_keys(result["credentials"])
    made = assert_conforms(result["onDevice"], auth_types.CreateCredentialWithCodeResponse)
    assert made["isActive"] is False and result["switchedOn"]["message"]
    assert [each["kind"] for each in result["tokens"]] == list(KEY_KINDS)
    for each in result["tokens"]:
        check_token(each, result["userId"])
    assert [each["kind"] for each in result["accounts"]] == list(KEY_KINDS)
    for each in result["accounts"]:
        check_account(each, result["heldId"])
    assert world.admin.sdk.wallets.get_wallet(wallet["id"])["name"] == f"bot {KEY_KINDS[-1]}"
    return of_script(result)


def check_people(result: Any, org_id: str) -> None:
    """One person joined, was listed, switched off and removed."""
    user_id = result["userId"]
    assert_conforms(result["opened"], auth_types.CreateRegistrationChallengeResponse)
    joined = assert_conforms(result["registered"], auth_types.RegisterResponse)
    assert joined["user"] == {"id": user_id, "username": "full-node@people.example", "orgId": org_id}
    vouched = assert_conforms(result["vouched"], auth_types.ActivateUserResponse, also=USER_EXTRAS)
    assert vouched["mayVote"] is True
    assert vouched in result["everybody"]["items"]
    assert result["endUsers"] == {"items": []}
    assert result["loggedOut"]["message"]
    assert result["afterLogout"]["httpStatus"] == 401
    for name, declared in (
        ("deactivated", auth_types.DeactivateUserResponse),
        ("seen", auth_types.GetUserResponse),
        ("removed", auth_types.DeleteUserResponse),
    ):
        found = assert_conforms(result[name], declared, also=USER_EXTRAS)
        assert (found["userId"], found["isActive"]) == (user_id, False)
    assert user_id not in {each["userId"] for each in result["remaining"]["items"]}


def check_keys(credentials: Any) -> None:
    """Each key was added with the one before it, and switched that one off, on and off."""
    assert [each["kind"] for each in credentials] == list(KEY_KINDS)
    for number, each in enumerate(credentials, start=1):
        assert each["challenge"]["kind"] == "Key"
        made = assert_conforms(each["made"], auth_types.CreateCredentialResponse)
        assert (made["credentialId"], made["name"]) == (f"a key of kind {each['kind']}", each["kind"])
        for answer in (each["off"], each["on"]):
            assert assert_conforms(answer, auth_types.ActivateCredentialResponse)["message"]
        items = each["after"]["items"]
        assert len(items) == number + 1
        assert [one["credentialUuid"] for one in items if one["isActive"]] == [made["credentialUuid"]]


def check_token(each: Any, user_id: str) -> None:
    """One personal access token: what it is, what it did, and that it ended."""
    made = assert_conforms(each["made"], auth_types.CreatePersonalAccessTokenResponse, also=TOKEN_EXTRAS)
    assert_id(made["tokenId"], "to")
    assert (made["kind"], made["linkedUserId"]) == ("Pat", user_id)
    assert each["renamed"]["name"] == f"node {each['kind']}"
    assert each["seen"] == {name: value for name, value in made.items() if name != "accessToken"}
    assert each["listed"]["items"] == [each["seen"]]
    assert each["updated"]["name"] == f"{each['kind']} again"
    for name in ("seen", "updated", "off", "on", "gone"):
        assert_conforms(each[name], auth_types.GetPersonalAccessTokenResponse, also=TOKEN_EXTRAS)
    assert [each[name]["isActive"] for name in ("off", "on", "gone")] == [False, True, False]
    assert [each[name]["httpStatus"] for name in ("forbidden", "whileOff", "afterwards")] == [403, 401, 401]
    assert each["whileOn"]["items"]
    assert each["left"] == {"items": []}


def check_account(each: Any, permission_id: str) -> None:
    """One service account: what it is, what it did, and that it ended."""
    made = assert_conforms(each["made"], auth_types.CreateServiceAccountResponse)
    who, (token,) = made["userInfo"], made["accessTokens"]
    assert [one["permissionId"] for one in who["permissionAssignments"]] == [permission_id]
    assert each["renamed"]["name"] == f"bot {each['kind']}"
    token.pop("accessToken")
    assert each["read"] == made
    assert made in each["listed"]["items"]
    assert each["updated"]["userInfo"]["name"] == f"full-node {each['kind']} again"
    for name in ("updated", "off", "on", "gone"):
        assert_conforms(each[name], auth_types.GetServiceAccountResponse)
    assert [each[name]["userInfo"]["isActive"] for name in ("off", "on", "gone")] == [False, True, False]
    assert [each[name]["httpStatus"] for name in ("whileOff", "afterwards")] == [401, 401]
    assert each["whileOn"]["items"]


def settings(world: World) -> list[Exchange]:
    """Permissions, policies of every kind, webhooks."""
    bot = world.service_account("full-node-permitted", None)
    person = world.person("full-node@policies.example")
    actions = ({"kind": "Block"}, {"kind": "NoAction"}, ask(person.user_id))
    bodies = [
        [payouts(f"full-node {rule['kind']}", rule, action, "full-node-nothing") for action in actions]
        for rule in every_rule(world.token)
    ]
    receiver = Receiver()
    try:
        result = run(
            world,
            "settings.mjs",
            admin=caller(world.admin),
            bot=caller(bot),
            userId=bot.user_id,
            policies=bodies,
            network=NETWORK,
            hookUrl=receiver.url,
        )
    finally:
        receiver.close()
    check_permission(result["permission"])
    for wanted, found in zip(bodies, result["policies"], strict=True):
        for version, (body, answer) in enumerate(zip(wanted, found["answers"], strict=True), start=1):
            assert (only(answer, body), answer["version"]) == (body, version)
        assert found["read"] == found["answers"][-1]
        assert found["read"] in found["active"]["items"]
        assert (found["gone"]["id"], found["gone"]["status"]) == (found["read"]["id"], "Archived")
    check_webhook(result["webhooks"])
    return of_script(result)


def check_permission(found: Any) -> None:
    """Made, changed, given, taken, archived."""
    assert_conforms(found["made"], permission_types.CreatePermissionResponse)
    assert_conforms(found["changed"], permission_types.UpdatePermissionResponse)
    assert_conforms(found["seen"], permission_types.GetPermissionResponse)
    assert found["changed"]["operations"] == ["Policies:Read", "Wallets:Read"]
    assert found["seen"] == found["changed"]
    assert found["seen"] in found["listed"]["items"]
    assert_conforms(found["assigned"], permission_types.AssignPermissionResponse)
    assert found["assignments"]["items"] == [found["assigned"]]
    assert "items" in found["whileHeld"]
    assert found["afterwards"]["httpStatus"] == 403
    assert assert_conforms(found["archived"], permission_types.ArchivePermissionResponse)["isArchived"] is True


def check_webhook(found: Any) -> None:
    """Made, read, pinged, told, changed, deleted."""
    made = assert_conforms(found["webhook"], webhook_types.CreateWebhookResponse)
    assert found["read"] == {name: value for name, value in made.items() if name != "secret"}
    assert found["read"] in found["hooks"]["items"]
    assert found["ping"] == {"status": "200"}
    assert_conforms(found["event"], webhook_types.GetWebhookEventResponse, also=EVENT_EXTRAS)
    assert found["event"] == found["events"]["items"][0]
    assert found["event"]["data"] == {"wallet": found["wallet"]}
    assert assert_conforms(found["disabled"], webhook_types.UpdateWebhookResponse)["status"] == "Disabled"
    assert found["deleted"] == {"deleted": True}


def money(world: World) -> list[Exchange]:
    """Wallets, balances, fees, transfers that flow, wait, are approved and denied."""
    tag = "full-node-paying"
    wallet = world.wallet(tag, tags=(tag,), coins=ETH, dollars=100 * USDC)
    approver, bot = world.person("full-node@approvers.example"), world.service_account("full-node-bot", PAYER)
    limit = {"kind": "TransactionAmountLimit", "configuration": {"limit": 10, "currency": "USD"}}
    world.admin.sdk.policies.create_policy(payouts("Over $10, Node", limit, ask(approver.user_id), tag))
    result = run(
        world,
        "money.mjs",
        admin=caller(world.admin),
        approver=caller(approver),
        bot=caller(bot),
        network=NETWORK,
        recipient=RECIPIENT,
        token=world.token,
        walletId=wallet["id"],
    )
    made = assert_conforms(result["made"], wallet_types.CreateWalletResponse, also=("frozenReason",))
    assert (result["tagged"], result["untagged"]) == ({}, {})
    assert result["seen"] == {**made, "name": "full-node too", "tags": ["two"]}
    assert {**result["renamed"], "tags": ["two"]} == result["seen"]
    assert result["seen"] in result["listed"]["items"]
    fees = result["fees"]
    assert (fees["kind"], int(fees["fast"]["maxFeePerGas"]) > 0) == ("Eip1559", True)
    check_transfers(result, approver.user_id)
    assert world.chain.token_balance(world.token, RECIPIENT) == 25 * USDC
    return of_script(result)


def check_transfers(result: Any, approver_id: str) -> None:
    """One flowed, one was approved, one denied; the history and the balances tell what was paid."""
    flowing, held, unwanted = result["flowing"], result["held"], result["unwanted"]
    assert [each["status"] for each in (flowing, held, unwanted)] == ["Executing", "Pending", "Pending"]
    assert {each["id"] for each in result["asked"]["items"]} == {held["approvalId"], unwanted["approvalId"]}
    assert_conforms(result["approval"], policy_types.GetApprovalResponse, also=("approvalGroups",))
    for name, status in (("approved", "Approved"), ("denied", "Denied")):
        assert_conforms(result[name], policy_types.CreateApprovalDecisionResponse, also=("approvalGroups",))
        (decision,) = result[name]["decisions"]
        assert (result[name]["status"], decision["userId"], decision["value"]) == (status, approver_id, status)
    assert result["late"]["httpStatus"] == 412
    for each in (*result["paid"], result["refused"]):
        assert_conforms(each, wallet_types.GetTransferResponse, also=TRANSFER_EXTRAS)
    assert [each["status"] for each in result["paid"]] == ["Confirmed", "Confirmed"]
    assert (result["refused"]["status"], "paid already" in result["refused"]["reason"]) == ("Rejected", True)
    assert result["transfers"]["items"] == [result["refused"], result["paid"][1]]
    assert "nextPageToken" in result["transfers"]
    for each in (result["before"], result["after"]):
        assert_conforms(each, wallet_types.GetWalletAssetsResponse)
    assert result["before"]["netWorth"] == {"USD": 3100}
    left = {each["symbol"]: each["balance"] for each in result["after"]["assets"]}
    assert left["USDC"] == str(75 * USDC)
    assert_conforms(result["history"], wallet_types.GetWalletHistoryResponse)
    assert {each["txHash"] for each in result["history"]["items"]} == {each["txHash"] for each in result["paid"]}


def replacing(world: World) -> list[Exchange]:
    """One is canceled before it is in a block, and nobody is paid."""
    wallet = world.wallet("full-node-replacing", tags=("full-node-replacing",), coins=ETH, dollars=0)
    bot = world.service_account("full-node-replacer", [*PAYER, "Wallets:Transactions:Create"])
    recipient = "0x" + "69" * 20
    with world.no_blocks():
        result = run(world, "replace.mjs", bot=caller(bot), recipient=recipient, walletId=wallet["id"])
    void = assert_conforms(result["void"], wallet_types.CancelTransferResponse)
    assert (result["again"]["id"], result["seen"]["replacementId"]) == (void["id"], void["id"])
    assert result["unknown"]["httpStatus"] == 404
    done = world.wait_for(result["paid"], "Failed")
    assert_conforms(done, wallet_types.GetTransferResponse, also=TRANSFER_EXTRAS)
    assert world.chain.balance(recipient) == 0
    return of_script(result)


STEPS: tuple[Step, ...] = (identities, settings, money, replacing)
