"""The official JavaScript SDK with its key signer, unmodified, against a live server on a real local chain.

The scripts in ``node/`` make the calls and print what the SDK returned and every HTTP exchange; the checks are here.
"""

from typing import Any

import dfns_sdk.generated.wallets.types as wallet_types

from tests.dfns_types import assert_conforms, assert_id
from tests.e2e.node_scripts import caller, run, statuses
from tests.world import ETH, KEY_KINDS, NETWORK, PAYER, USDC, Receiver, World, new_key

RECIPIENT = "0x" + "55" * 20


def test_a_person_registers_logs_in_and_out(world: World) -> None:
    private, _ = new_key("P-256")
    invitation = world.invite("node@example.com")
    person = {
        "username": invitation.email,
        "code": invitation.code,
        "credentialId": "a-name-of-my-own",
        "privateKey": private,
    }
    result = run(world, "join.mjs", person=person, wrongOrgId="or-00000-00000-0000000000000000")
    user = {"id": invitation.user_id, "username": invitation.email, "orgId": world.org_id}
    assert result["registered"]["user"] == user
    assert_id(result["registered"]["credential"]["uuid"], "cr")
    (credential,) = result["credentials"]["items"]
    assert credential["credentialId"] == "a-name-of-my-own"
    # The SDK itself compares the token's organization with the one it was given, before it calls anything.
    assert result["foreign"]["httpStatus"] is None
    assert "not scoped to org ID" in result["foreign"]["message"]
    # The key signer signs only if the challenge lists its credential.
    assert (result["unlisted"]["name"], result["unlisted"]["httpStatus"]) == ("DfnsError", -1)
    assert "a-name-of-my-own" in result["unlisted"]["message"]
    assert set(result["loggedOut"]) == {"message"}
    assert (result["afterwards"]["name"], result["afterwards"]["httpStatus"]) == ("DfnsError", 401)
    assert statuses(result) == {200, 401}


def test_payouts_flow_wait_and_are_refused(world: World) -> None:
    free = world.wallet("free", tags=(), coins=ETH, dollars=100 * USDC)
    watched = world.wallet("watched", tags=("node",), coins=ETH, dollars=0)
    capped = world.wallet("capped", tags=("node-cap",), coins=0, dollars=2 * USDC)
    approver = world.person("node-approver@example.com")
    world.watch("node", {"userId": {"in": [approver.user_id]}})
    world.admin.sdk.policies.create_policy(
        {
            "name": "At most one dollar",
            "activityKind": "Wallets:Sign",
            "rule": {"kind": "TransactionAmountLimit", "configuration": {"limit": 1, "currency": "USD"}},
            "action": {"kind": "Block"},
            "filters": {"walletId": {"in": [capped["id"]]}},
        }
    )
    payers = {kind: world.service_account(f"node-{kind}", key_kind=kind) for kind in KEY_KINDS}
    with world.receiver() as (receiver, hook):
        result = run(
            world,
            "pay.mjs",
            payers={kind: caller(who) for kind, who in payers.items()},
            approver=caller(approver),
            freeWallet=free["id"],
            watchedWallet=watched["id"],
            cappedWallet=capped["id"],
            token=world.token,
            recipient=RECIPIENT,
        )
        check_what_flowed(world, result, free["id"])
        check_what_was_refused(result)
        check_what_waited(result, approver.user_id)
        receiver.wait_for("wallet.transfer.confirmed", lambda data: data["transferRequest"] == result["released"])
        check_deliveries(world, receiver, hook["secret"])
    assert statuses(result, method="POST", path="/transfers") == {200, 409}, "never 202: the SDK throws at it"
    assert 202 not in statuses(result)
    assert world.chain.token_balance(world.token, RECIPIENT) == len(KEY_KINDS) * 1_250_000
    assert world.chain.balance(RECIPIENT) == 10**15


def check_what_flowed(world: World, result: Any, wallet_id: str) -> None:
    """Every kind of key paid once; a repeated request returned the same transfer."""
    assert [each["kind"] for each in result["paid"]] == list(KEY_KINDS)
    for each in result["paid"]:
        assert_conforms(each["asked"], wallet_types.TransferAssetResponse, also=("waitingReason", "flag"))
        assert each["asked"]["requestBody"] == each["body"]
        assert each["confirmed"]["status"] == "Confirmed"
        assert each["again"] == each["confirmed"]
    pages = result["pages"]
    assert [len(page["items"]) for page in pages] == [3, 1]
    assert ["nextPageToken" in page for page in pages] == [True, False]
    assert {page["walletId"] for page in pages} == {wallet_id}
    listed = [transfer for page in pages for transfer in page["items"]]
    assert listed == [each["confirmed"] for each in reversed(result["paid"])]
    seen = world.admin.sdk.wallets.list_transfers(wallet_id)["items"]
    assert seen == listed, "both SDKs read the same"


def check_what_was_refused(result: Any) -> None:
    """Errors reach the caller with status, message and the whole body."""
    conflict = result["conflict"]
    assert (conflict["name"], conflict["httpStatus"]) == ("DfnsError", 409)
    assert conflict["message"] == "Conflicting transfer with same externalId"
    first = result["paid"][0]
    duplicate = {"id": first["asked"]["id"], "externalId": first["body"]["externalId"]}
    assert conflict["body"]["error"]["details"] == {"duplicate": duplicate}
    assert conflict["body"]["error"]["status"] == 409
    assert (result["forbidden"]["httpStatus"], result["twice"]["httpStatus"]) == (403, 412)
    assert result["forbidden"]["body"]["error"]["details"] == {"operation": "Wallets:Create"}
    assert not set(PAYER) & {"Wallets:Create"}
    blocked = result["blocked"]
    assert (blocked["status"], "approvalId" in blocked) == ("Rejected", False)
    assert blocked["reason"]


def check_what_waited(result: Any, approver_id: str) -> None:
    """A held transfer is an ordinary answer with an approval; a person's vote lets it go."""
    held = result["held"]
    assert_conforms(held, wallet_types.TransferAssetResponse, also=("waitingReason", "flag"))
    assert held["status"] == "Pending"
    assert [each["id"] for each in result["pending"]["items"]] == [held["approvalId"]]
    assert result["approval"] == result["pending"]["items"][0]
    assert result["approval"]["activity"]["transferRequest"]["id"] == held["id"]
    assert result["decided"]["status"] == "Approved"
    (decision,) = result["decided"]["decisions"]
    assert (decision["userId"], decision["value"]) == (approver_id, "Approved")
    assert decision["reason"] == "vérifié, 確認済み 🏦"
    assert (result["released"]["id"], result["released"]["status"]) == (held["id"], "Confirmed")


def check_deliveries(world: World, receiver: Receiver, secret: str) -> None:
    """A JavaScript receiver that writes the event again gets the same text, wherever the text is ASCII."""
    arrivals = list(receiver.arrivals)
    given = [
        {"body": each.body.decode("ascii"), "signature": each.headers["x-dfns-webhook-signature"]} for each in arrivals
    ]
    found = run(world, "receive.mjs", secret=secret, arrivals=given)["verified"]
    plain = [answer for answer, each in zip(found, arrivals, strict=True) if b"\\u" not in each.body]
    assert len(plain) > 10
    assert all(answer == {"same": True, "verified": True} for answer in plain)


def test_delete_carries_a_body(world: World) -> None:
    who = world.service_account("deleted-later", None)
    receiver = Receiver()
    try:
        result = run(
            world,
            "remove.mjs",
            admin=caller(world.admin),
            network=NETWORK,
            publicKey=new_key()[1],
            userId=who.user_id,
            hookUrl=receiver.url,
        )
    finally:
        receiver.close()
    assert statuses(result) == {200}
    assert len([each for each in result["exchanges"] if each["method"] == "DELETE"]) == 5
    names = [result[each]["name"] for each in ("wallet", "permission", "policy")]
    assert names == [result["name"]] * 3, "text outside ASCII comes back as it went"
    assert (result["untagged"], result["tagged"]) == ({}, {})
    assert result["after"]["tags"] == ["three", "two"]
    assert result["assignments"]["items"] == []
    assert result["archivedPermission"]["isArchived"] is True
    assert result["policy"]["rule"]["configuration"]["limit"] == 12.5
    assert (result["archivedPolicy"]["id"], result["archivedPolicy"]["status"]) == (result["policy"]["id"], "Archived")
    assert result["inactive"]["userInfo"]["isActive"] is False
    assert result["archivedAccount"]["userInfo"]["userId"] == result["account"]["userInfo"]["userId"]
    assert result["ping"] == {"status": "200"}
    assert result["webhook"]["description"] == result["name"]
    assert result["deleted"] == {"deleted": True}
    assert result["webhook"]["id"] not in {each["id"] for each in result["left"]["items"]}


def test_the_delegated_client_signs_elsewhere(world: World) -> None:
    wallet = world.wallet("delegated", tags=(), coins=ETH, dollars=0)
    bot = world.service_account("node-delegated")
    result = run(
        world,
        "delegated.mjs",
        admin=caller(world.admin),
        bot=caller(bot),
        userId=bot.user_id,
        walletId=wallet["id"],
        recipient="0x" + "56" * 20,
    )
    assert world.wait_for(result["asked"], "Confirmed", "Failed")["status"] == "Confirmed"
    assert result["assignments"]["items"] == []
    assert statuses(result) == {200}
