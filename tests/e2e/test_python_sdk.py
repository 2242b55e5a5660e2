"""The official Python SDK, unmodified, against a live server on a real local chain.

``test_the_whole_story`` is one working day from the admin's key to the last event. The tests around it look at one
promise each and share its server.
"""

import base64
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import dfns_sdk.generated.auth.types as auth_types
import dfns_sdk.generated.permissions.types as permission_types
import dfns_sdk.generated.policies.types as policy_types
import dfns_sdk.generated.wallets.types as wallet_types
import dfns_sdk.generated.webhooks.types as webhook_types
import pytest
import standardwebhooks
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from dfns_sdk import DfnsError

from outlay.client import call
from tests.dfns_types import assert_conforms, assert_id
from tests.world import ETH, NETWORK, PAYER, USDC, Arrival, Receiver, World, new_key, until

SUPPLIER = "0x" + "11" * 20
CONTRACTOR = "0x" + "22" * 20
STRANGER = "0x" + "33" * 20
TRANSFER_EXTRAS = ("waitingReason", "flag")
USER_EXTRAS = ("externalId", "mayVote", "registrationCode", "credentials")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Open one world for this module."""
    with World.open(tmp_path_factory.mktemp("python-sdk")) as opened:
        yield opened


def assert_refused(call: Callable[[], Any], status: int, *, code: str | None = None, says: str = "") -> DfnsError:
    """Check that the SDK reports a refusal as the contract shapes it, and return the error."""
    with pytest.raises(DfnsError) as caught:
        call()
    error = caught.value
    assert error.status_code == status, f"{error.status_code}: {error.message}"
    assert code is None or error.error_code == code
    assert says in error.message
    assert isinstance(error.details, dict)
    return error


# The story


@dataclass
class Story:
    """What one step leaves to the next."""

    world: World
    receiver: Receiver
    hook: Any = None
    bot: Any = None
    vouched: Any = None
    unvouched: Any = None
    wallets: list[Any] = field(default_factory=list)
    paid: list[Any] = field(default_factory=list)
    ended: list[Any] = field(default_factory=list)
    before: dict[tuple[str, str], int] = field(default_factory=dict)


def test_the_whole_story(world: World) -> None:
    receiver = Receiver()
    story = Story(world, receiver)
    try:
        set_up_service_account(story)
        set_up_people(story)
        set_up_wallets(story)
        fill_the_preset(story)
        subscribe(story)
        small_payouts_flow(story)
        a_large_payout_is_approved(story)
        another_is_denied(story)
        the_cap_blocks(story)
        every_event_arrived(story)
        every_signature_verifies(story)
        chain_and_ledger_agree(story)
        assert story.world.admin.sdk.webhooks.delete_webhook(story.hook["id"]) == {"deleted": True}
    finally:
        receiver.close()


def set_up_service_account(story: Story) -> None:
    """The admin's key from init makes a permission, and a service account that holds it and nothing else."""
    admin = story.world.admin.sdk
    made = story.world.made["admin"]
    assert_id(story.world.org_id, "or")
    assert_id(made["userId"], "us")
    role = admin.permissions.create_permission({"name": "Payouts", "operations": list(PAYER)})
    assert_conforms(role, permission_types.CreatePermissionResponse)
    assert_id(role["id"], "pm")
    assert role["operations"] == sorted(PAYER)
    assert (role["status"], role["isImmutable"], role["isArchived"]) == ("Active", False, False)
    private, public = new_key()
    body = {"name": "payout-bot", "publicKey": public, "permissionId": role["id"], "daysValid": 30}
    account = admin.auth.create_service_account(body)
    assert_conforms(account, auth_types.CreateServiceAccountResponse)
    who, (token,) = account["userInfo"], account["accessTokens"]
    assert_conforms(who, auth_types.GetUserResponse, also=USER_EXTRAS)
    assert (who["isServiceAccount"], who["isRegistered"], who["isActive"]) == (True, True, True)
    assert (who["kind"], who["orgId"], who["name"]) == ("CustomerEmployee", story.world.org_id, "payout-bot")
    (assignment,) = who["permissionAssignments"]
    assert_id(assignment["assignmentId"], "as")
    assert (assignment["permissionId"], assignment["permissionName"]) == (role["id"], "Payouts")
    assert assignment["operations"] == sorted(PAYER)
    required = {"accessToken", "dateCreated", "credId", "isActive", "kind", "linkedUserId", "linkedAppId", "name"}
    assert required | {"orgId", "permissionAssignments", "publicKey", "tokenId"} <= set(token)
    assert (token["kind"], token["linkedUserId"], token["publicKey"]) == ("ServiceAccount", who["userId"], public)
    again = admin.auth.get_service_account(who["userId"])
    assert "accessToken" not in again["accessTokens"][0], "a token's text is shown once"
    story.bot = story.world.identity(
        user_id=who["userId"],
        username="payout-bot",
        credential_id=token["credId"],
        private_key=private,
        token=token["accessToken"],
    )


def set_up_people(story: Story) -> None:
    """Two people join: one whose key the invitation named, one whose key nobody has vouched for yet."""
    world = story.world
    story.vouched = world.person("first-approver@example.com", vouched="invitation")
    story.unvouched = world.person("second-approver@example.com", vouched=None)
    for person, counts in ((story.vouched, True), (story.unvouched, False)):
        seen = assert_conforms(
            world.admin.sdk.auth.get_user(person.user_id), auth_types.GetUserResponse, also=USER_EXTRAS
        )
        assert_id(seen["userId"], "us")
        assert (seen["username"], seen["isRegistered"], seen["isServiceAccount"]) == (person.username, True, False)
        assert seen["mayVote"] is counts
        assert seen["credentialId"] == person.credential_id
    listed = assert_conforms(world.admin.sdk.auth.list_users(), auth_types.ListUsersResponse)["items"]
    assert {story.vouched.user_id, story.unvouched.user_id, world.admin.user_id} <= {each["userId"] for each in listed}
    assert story.bot.user_id not in {each["userId"] for each in listed}


def set_up_wallets(story: Story) -> None:
    """One wallet is made with the tag that the preset watches, the other is tagged afterwards."""
    world, wallets = story.world, story.world.admin.sdk.wallets
    first = wallets.create_wallet({"network": NETWORK, "name": "hot-1", "tags": ["payouts"], "externalId": "w-1"})
    assert_conforms(first, wallet_types.CreateWalletResponse, also=("frozenReason",))
    assert_id(first["id"], "wa")
    assert_id(first["signingKey"]["id"], "key")
    assert (first["network"], first["status"], first["tags"]) == (NETWORK, "Active", ["payouts"])
    assert (first["signingKey"]["scheme"], first["signingKey"]["curve"]) == ("ECDSA", "secp256k1")
    assert len(first["signingKey"]["publicKey"]) == 66
    assert (first["custodial"], first["name"], first["externalId"]) == (True, "hot-1", "w-1")
    second = wallets.create_wallet({"network": NETWORK, "name": "hot-2"})
    assert wallets.tag_wallet(second["id"], {"tags": ["payouts", "temporary"]}) == {}
    assert wallets.untag_wallet(second["id"], {"tags": ["temporary"]}) == {}
    assert wallets.get_wallet(second["id"])["tags"] == ["payouts"]
    renamed = wallets.update_wallet(second["id"], {"name": "hot-two", "externalId": None})
    assert (renamed["name"], renamed["tags"], "externalId" in renamed) == ("hot-two", ["payouts"], False)
    story.wallets = [first, second]
    for wallet in story.wallets:
        assert first["address"] != second["address"]
        world.fund(wallet, coins=ETH, dollars=60_000 * USDC)


def fill_the_preset(story: Story) -> None:
    """The preset's policies read back as they were documented; an admin names the people by PUT."""
    admin = story.world.admin.sdk
    listed = admin.policies.list_policies({"status": "Active"})["items"]
    by_kind = {each["rule"]["kind"]: each for each in listed}
    assert len(listed) == len(by_kind) == 3
    for each in listed:
        assert_id(each["id"], "plc")
        assert (each["status"], each["activityKind"]) == ("Active", "Wallets:Sign")
        assert each["filters"] == {"walletTags": {"hasAny": ["payouts"]}}
        assert {"name", "dateCreated", "dateUpdated", "rule", "action"} <= set(each)
        assert admin.policies.get_policy(each["id"]) == each
    cap = by_kind["TransactionAmountVelocity"]
    assert cap["action"] == {"kind": "Block"}
    limits = {"limit": 100_000, "currency": "USD", "timeframe": 1440, "scope": "policy"}
    assert cap["rule"]["configuration"] == limits
    large = by_kind["TransactionAmountLimit"]
    assert large["rule"]["configuration"] == {"limit": 10_000, "currency": "USD"}
    assert large["action"]["autoRejectTimeout"] == 1440
    (group,) = large["action"]["approvalGroups"]
    assert (group["name"], group["quorum"]) == ("approvers", 1)
    assert group["approvers"] == {"userId": {"in": []}}, "nobody can approve before an admin names people"
    filled = story.world.fill_groups([story.vouched, story.unvouched])
    assert {each["rule"]["kind"] for each in filled} == {"TransactionAmountLimit", "TransactionRecipientWhitelist"}
    for each in filled:
        (group,) = each["action"]["approvalGroups"]
        assert group["approvers"]["userId"]["in"] == [story.vouched.user_id, story.unvouched.user_id]
    known = next(each for each in filled if each["rule"]["kind"] == "TransactionRecipientWhitelist")
    body = {name: known[name] for name in ("name", "activityKind", "rule", "action", "filters")}
    body["rule"]["configuration"]["addresses"] = [SUPPLIER, CONTRACTOR]
    assert admin.policies.update_policy(known["id"], body)["rule"] == body["rule"]


def subscribe(story: Story) -> None:
    """The secret is in the answer of create and nowhere else."""
    webhooks = story.world.admin.sdk.webhooks
    body = {"url": story.receiver.url, "events": ["*"], "description": "the story"}
    made = webhooks.create_webhook(body)
    assert_id(made["id"], "wh")
    assert_conforms(made, webhook_types.CreateWebhookResponse)
    assert made["status"] == "Enabled"
    seen = assert_conforms(webhooks.get_webhook(made["id"]), webhook_types.GetWebhookResponse)
    assert seen == {name: value for name, value in made.items() if name != "secret"}
    assert webhooks.ping_webhook(made["id"]) == {"status": "200"}
    assert story.receiver.wait_for("webhook.ping")["deliveryAttempt"] == 1
    story.receiver.arrivals.clear()
    story.hook = made


def small_payouts_flow(story: Story) -> None:
    """Coins and dollars to known recipients leave at once; a repeated request pays nobody twice."""
    world, (first, second), sdk = story.world, story.wallets, story.bot.sdk
    coins = {"kind": "Native", "to": SUPPLIER, "amount": str(ETH // 100), "externalId": "story-coins"}
    dollars = {
        "kind": "Erc20",
        "contract": world.token,
        "to": CONTRACTOR,
        "amount": str(250 * USDC),
        "externalId": "story-dollars",
        "priority": "Fast",
    }
    story.before = balances(world, SUPPLIER, CONTRACTOR, STRANGER)
    for wallet, body in ((first, coins), (second, dollars)):
        asked = sdk.wallets.transfer_asset(wallet["id"], body)
        assert_conforms(asked, wallet_types.TransferAssetResponse, also=TRANSFER_EXTRAS)
        assert_id(asked["id"], "xfr")
        assert (asked["walletId"], asked["network"]) == (wallet["id"], NETWORK)
        assert (asked["requestBody"], asked["externalId"]) == (body, body["externalId"])
        assert asked["requester"]["userId"] == story.bot.user_id
        assert_id(asked["requester"]["tokenId"], "to")
        assert asked["status"] == "Executing"
        assert not {"approvalId", "txHash", "reason"} & set(asked)
        done = world.wait_for(asked, "Confirmed", "Failed", "Rejected")
        assert_conforms(done, wallet_types.GetTransferResponse, also=TRANSFER_EXTRAS)
        assert done["status"] == "Confirmed"
        assert {"txHash", "fee", "dateBroadcasted", "dateConfirmed", "datePolicyResolved"} <= set(done)
        assert done["dateRequested"] <= done["datePolicyResolved"] <= done["dateBroadcasted"] <= done["dateConfirmed"]
        assert sdk.wallets.get_transfer(wallet["id"], asked["id"]) == done
        assert sdk.wallets.transfer_asset(wallet["id"], body) == done, "the same request is the same transfer"
        story.paid.append(done)
    assert story.paid[0]["metadata"] == {
        "asset": {"symbol": "ETH", "decimals": 18, "verified": True, "quotes": {"USD": 3000}}
    }
    assert story.paid[1]["metadata"]["asset"]["symbol"] == "USDC"
    for wallet, body in ((first, {**coins, "amount": "1"}), (second, coins)):
        refused = assert_refused(
            lambda wallet=wallet, body=body: sdk.wallets.transfer_asset(wallet["id"], body),  # type: ignore[misc]
            409,
            code="conflict",
            says="Conflicting transfer with same externalId",
        )
        assert refused.details == {"duplicate": {"id": story.paid[0]["id"], "externalId": "story-coins"}}
    listed = sdk.wallets.list_transfers(first["id"])
    assert_conforms(listed, wallet_types.ListTransfersResponse)
    assert listed["walletId"] == first["id"]
    assert [each["id"] for each in listed["items"]] == [story.paid[0]["id"]]


def a_large_payout_is_approved(story: Story) -> None:
    """Over $10,000 it waits, as an ordinary answer; a vote counts only once somebody vouched for the voter's key."""
    world, wallet = story.world, story.wallets[0]
    asked = world.pay(story.bot, wallet, SUPPLIER, 12_000 * USDC, "story-large", contract=world.token)
    assert_conforms(asked, wallet_types.TransferAssetResponse, also=TRANSFER_EXTRAS)
    assert (asked["status"], "txHash" in asked) == ("Pending", False)
    assert_id(asked["approvalId"], "ap")
    (waiting,) = story.vouched.sdk.policies.list_approvals({"status": "Pending"})["items"]
    assert_conforms(waiting, policy_types.GetApprovalResponse, also=("approvalGroups",))
    assert (waiting["id"], waiting["initiatorId"]) == (asked["approvalId"], story.bot.user_id)
    assert (waiting["status"], waiting["decisions"]) == ("Pending", [])
    assert waiting["dateCreated"] < waiting["expirationDate"]
    activity = waiting["activity"]
    assert (activity["kind"], activity["transferRequest"]["id"]) == ("Wallets:Sign", asked["id"])
    triggered = [each for each in waiting["policyEvaluations"] if each["triggered"]]
    assert len(waiting["policyEvaluations"]) == 3, "every matching policy is evaluated"
    assert len(triggered) == 1
    assert "12,000" in triggered[0]["reason"] or "12000" in triggered[0]["reason"]
    assert story.vouched.sdk.policies.get_approval(waiting["id"]) == waiting
    for query in ({"initiatorId": story.bot.user_id}, {"approverId": story.unvouched.user_id}):
        found = story.vouched.sdk.policies.list_approvals({"status": "Pending", **query})
        assert [each["id"] for each in found["items"]] == [waiting["id"]]
    assert story.vouched.sdk.policies.list_approvals({"initiatorId": story.vouched.user_id})["items"] == []

    vote = {"value": "Approved", "reason": "invoice checked"}
    policies = story.unvouched.sdk.policies
    assert_refused(lambda: policies.create_approval_decision(waiting["id"], vote), 403, says="vouches for the key")
    assert story.vouched.sdk.policies.get_approval(waiting["id"]) == waiting
    activated = world.admin.sdk.auth.activate_user(story.unvouched.user_id)
    assert_conforms(activated, auth_types.ActivateUserResponse, also=USER_EXTRAS)
    assert activated["mayVote"] is True
    decided = policies.create_approval_decision(waiting["id"], vote)
    assert_conforms(decided, policy_types.CreateApprovalDecisionResponse, also=("approvalGroups",))
    assert decided["status"] == "Approved"
    (decision,) = decided["decisions"]
    assert (decision["userId"], decision["value"]) == (story.unvouched.user_id, "Approved")
    assert decision["reason"] == "invoice checked"
    assert decided["dateResolved"] >= decision["date"]
    late = story.vouched.sdk.policies
    assert_refused(lambda: late.create_approval_decision(waiting["id"], {"value": "Denied"}), 412)
    done = world.wait_for(asked, "Confirmed", "Failed", "Rejected")
    assert (done["status"], done["approvalId"]) == ("Confirmed", waiting["id"])
    story.paid.append(done)


def another_is_denied(story: Story) -> None:
    """A recipient nobody knows waits as well; one denial ends it."""
    world = story.world
    asked = world.pay(story.bot, story.wallets[1], STRANGER, 40 * USDC, "story-unknown", contract=world.token)
    assert asked["status"] == "Pending"
    own = {"value": "Approved"}
    assert_refused(
        lambda: story.bot.sdk.policies.create_approval_decision(asked["approvalId"], own),
        403,
        says="Policies:Evaluations:Vote",
    )
    denied = story.vouched.sdk.policies.create_approval_decision(
        asked["approvalId"], {"value": "Denied", "reason": "who is this?"}
    )
    assert (denied["status"], denied["decisions"][0]["value"]) == ("Denied", "Denied")
    ended = story.bot.sdk.wallets.get_transfer(asked["walletId"], asked["id"])
    assert_conforms(ended, wallet_types.GetTransferResponse, also=TRANSFER_EXTRAS)
    assert (ended["status"], "txHash" in ended) == ("Rejected", False)
    assert "who is this?" in ended["reason"]
    story.ended.append(ended)
    for status, count in (("Pending", 0), ("Approved", 1), ("Denied", 1), ("Expired", 0)):
        found = story.vouched.sdk.policies.list_approvals({"status": status})["items"]
        assert [each["status"] for each in found] == [status] * count


def the_cap_blocks(story: Story) -> None:
    """$100,000 a day over all wallets of the policy: what is beyond is refused in an ordinary answer."""
    world, wallet = story.world, story.wallets[1]
    blocked = world.pay(story.bot, wallet, SUPPLIER, 90_000 * USDC, "story-cap", contract=world.token)
    assert_conforms(blocked, wallet_types.TransferAssetResponse, also=TRANSFER_EXTRAS)
    assert (blocked["status"], "approvalId" in blocked, "txHash" in blocked) == ("Rejected", False, False)
    assert "100,000" in blocked["reason"] or "100000" in blocked["reason"]
    assert world.pay(story.bot, wallet, SUPPLIER, 90_000 * USDC, "story-cap", contract=world.token) == blocked
    # The sum counts: the same request on its own would have been held for a person, not blocked.
    smaller = world.pay(story.bot, wallet, SUPPLIER, 87_000 * USDC, "story-below", contract=world.token)
    assert smaller["status"] == "Pending"
    story.vouched.sdk.policies.create_approval_decision(smaller["approvalId"], {"value": "Denied"})
    story.ended += [blocked, world.wait_for(smaller, "Rejected")]


def every_event_arrived(story: Story) -> None:
    """Each change of each transfer was told exactly once, with the transfer as it then was."""
    for done in story.paid:
        story.receiver.wait_for("wallet.transfer.confirmed", lambda data, done=done: data["transferRequest"] == done)  # type: ignore[misc]
    for ended in story.ended:
        story.receiver.wait_for("wallet.transfer.rejected", lambda data, ended=ended: data["transferRequest"] == ended)  # type: ignore[misc]
    flows = ["requested", "broadcasted", "confirmed"]
    expected = Counter({(f"wallet.transfer.{step}", done["id"]): 1 for done in story.paid for step in flows})
    expected.update(
        (f"wallet.transfer.{step}", ended["id"]) for ended in story.ended for step in ("requested", "rejected")
    )
    held = [each for each in [*story.paid, *story.ended] if "approvalId" in each]
    assert len(held) == 3
    expected.update(
        (f"policy.approval.{step}", each["approvalId"]) for each in held for step in ("pending", "resolved")
    )
    blocked = story.ended[1]
    # The cap, and the limit for large payouts, which every blocked one exceeds as well.
    expected.update({("policy.triggered", each["id"]): 1 for each in held})
    expected[("policy.triggered", blocked["id"])] = 2

    def got() -> Counter[Any]:
        return Counter(subject(event) for event in story.receiver.events() if subject(event) is not None)

    # Events of one payout come in any order: the last to be made need not be the last to arrive.
    until(lambda: not expected - got(), "every event arrived")
    assert got() == expected
    for event in story.receiver.events():
        assert_id(event["id"], "whe")
        assert (event["deliveryAttempt"], "retryOf" in event) == (1, False)
    for event in story.receiver.events("policy.approval.resolved"):
        assert event["data"]["approval"]["status"] in ("Approved", "Denied")
    logged = story.world.admin.sdk.webhooks.list_webhook_events(story.hook["id"], {"kind": "wallet.transfer.confirmed"})
    extras = ("deliveryAttempt", "retryOf", "deliveryFailed", "nextAttemptDate", "eventId")
    for each in assert_conforms(logged, webhook_types.ListWebhookEventsResponse)["items"]:
        assert_conforms(each, webhook_types.GetWebhookEventResponse, also=extras)
        assert each["status"] == "200"
        assert story.world.admin.sdk.webhooks.get_webhook_event(story.hook["id"], each["id"]) == each
    sent = {event["id"] for event in story.receiver.events("wallet.transfer.confirmed")}
    assert {each["id"] for each in logged["items"]} == sent


def subject(event: Any) -> tuple[str, str] | None:
    """Return the kind and what it is about, for events about transfers and approvals."""
    data = event["data"]
    if "transferRequest" in data:
        return event["kind"], data["transferRequest"]["id"]
    if "approval" in data:
        return event["kind"], data["approval"]["id"]
    if "policyEvaluation" in data:
        assert_id(data["policyEvaluation"]["id"], "plce")
        return event["kind"], data["policyEvaluation"]["activity"]["transferRequest"]["id"]
    return None


def every_signature_verifies(story: Story) -> None:
    """Raw, re-serialised, and by the Standard Webhooks library; and each check can fail."""
    arrivals = list(story.receiver.arrivals)
    assert len(arrivals) == len({each.headers["webhook-id"] for each in arrivals}), "an event came twice"
    for arrival in arrivals:
        assert verifies(story.world, arrival, story.hook["secret"])
    assert not verifies(story.world, arrivals[0], "whsec_" + "A" * 43 + "=")
    bent = Arrival(arrivals[0].headers, arrivals[0].body.replace(b'"deliveryAttempt":1', b'"deliveryAttempt":2'))
    assert not verifies(story.world, bent, story.hook["secret"])


def verifies(world: World, arrival: Arrival, secret: str) -> bool:
    """Tell whether a delivery proves its origin in every way the documents promise."""
    headers = dict(arrival.headers)
    given = headers["x-dfns-webhook-signature"]
    rewritten = json.dumps(json.loads(arrival.body), separators=(",", ":")).encode()
    by_hmac = [
        "sha256=" + hmac.new(secret.encode(), text, hashlib.sha256).hexdigest() for text in (arrival.body, rewritten)
    ]
    published = str(call(world.url, "GET", "/v1/webhook-key")["publicKey"]).removeprefix("whpk_")
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(published))
    by_key = dict(each.split(",") for each in headers["webhook-signature"].split(" "))["v1a"]
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + arrival.body
    try:
        standardwebhooks.Webhook(secret).verify(arrival.body.decode(), headers)
        key.verify(base64.b64decode(by_key), content)
    except (standardwebhooks.WebhookVerificationError, InvalidSignature):
        return False
    return by_hmac == [given, given]


def balances(world: World, *addresses: str) -> dict[tuple[str, str], int]:
    """Return what the chain says each address holds of coins and dollars."""
    held = {(address, "native"): world.chain.balance(address) for address in addresses}
    return held | {(address, world.token): world.chain.token_balance(world.token, address) for address in addresses}


def chain_and_ledger_agree(story: Story) -> None:
    """To the last base unit: recipients got what was asked, wallets lost that and the fees, and the ledger knows."""
    world = story.world
    gained = Counter(balances(world, SUPPLIER, CONTRACTOR, STRANGER))
    gained.subtract(story.before)
    assert +gained == {
        (SUPPLIER, "native"): ETH // 100,
        (SUPPLIER, world.token): 12_000 * USDC,
        (CONTRACTOR, world.token): 250 * USDC,
    }
    for wallet in story.wallets:
        expected = {"native": ETH, world.token: 60_000 * USDC}
        for done in story.paid:
            if done["walletId"] == wallet["id"]:
                expected[done["requestBody"].get("contract", "native")] -= int(done["requestBody"]["amount"])
                expected["native"] -= int(done["fee"])
        assert balances(world, wallet["address"]) == {
            (wallet["address"], asset): amount for asset, amount in expected.items()
        }
        assert {asset: world.spendable(wallet["id"], asset) for asset in expected} == expected
