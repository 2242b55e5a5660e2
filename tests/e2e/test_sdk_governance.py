"""Changes that wait for people, through both official SDKs against a live server.

To the Python SDK a 202 is a plain answer; the JavaScript SDK throws it. Either way it is a change request, which people
decide about with the calls for any other approval.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from dfns_sdk import DfnsClient, DfnsDelegatedClient, DfnsDelegatedClientConfig, DfnsError, KeySigner
from dfns_sdk.generated.policies.types import CreateApprovalDecisionResponse

from outlay.evidence.attestation import key_attestation
from outlay.web import contract, openapi
from tests.dfns_types import assert_conforms, assert_id
from tests.e2e.exchanges import Exchange, of_script, recorded
from tests.e2e.node_scripts import caller, run
from tests.e2e.rules import ask, governing, payouts
from tests.world import NETWORK, USDC, VOTER, Identity, Receiver, World, new_key, until

SETTINGS = """
[governance]
loosening_delay_s = 1

[policies]
default = "block"
"""
"""Here a wallet's first policy is what lets it pay, so adding a tag or a policy can loosen too."""

WAITING = {
    "POST /v2/policies": ("Policy", "Create"),
    "PUT /v2/policies/{policyId}": ("Policy", "Update"),
    "DELETE /v2/policies/{policyId}": ("Policy", "Update"),
    "PUT /permissions/{permissionId}": ("Permission", "Update"),
    "PUT /permissions/{permissionId}/archive": ("Permission", "Update"),
    "DELETE /permissions/{permissionId}": ("Permission", "Update"),
    "POST /permissions/{permissionId}/assignments": ("Assignment", "Create"),
    "DELETE /permissions/{permissionId}/assignments/{assignmentId}": ("Assignment", "Delete"),
    "PUT /auth/users/{userId}/activate": ("User", "Update"),
    "PUT /auth/service-accounts/{userId}/activate": ("User", "Update"),
    "PUT /auth/credentials/activate": ("Credential", "Update"),
    "PUT /auth/pats/{tokenId}/activate": ("Credential", "Update"),
    "POST /wallets": ("Wallet", "Create"),
    "PUT /wallets/{walletId}/tags": ("Wallet", "Update"),
    "DELETE /wallets/{walletId}/tags": ("Wallet", "Update"),
}
"""Call -> kind and operation of the change request it is answered with."""

PYTHON_ONLY = {"DELETE /permissions/{permissionId}"}
AT_ONCE = {
    "DELETE /v2/policies/{policyId}",
    "PUT /permissions/{permissionId}/archive",
    "DELETE /permissions/{permissionId}",
    "DELETE /permissions/{permissionId}/assignments/{assignmentId}",
}
"""What needs the quorum and no delay: to take something away from somebody, and to take back a policy made lately."""

RECIPIENT = "0x" + "88" * 20


def limit(dollars: float) -> dict[str, Any]:
    return {"kind": "TransactionAmountLimit", "configuration": {"limit": dollars, "currency": "USD"}}


# What there is before changes wait


@dataclass(frozen=True, kw_only=True)
class Council:
    """A world whose changes wait: two of three approvers have to agree."""

    world: World
    receiver: Receiver
    approvers: list[Identity]  #: the last one also makes keys and tokens of their own
    bot: Identity
    stages: dict[str, dict[str, Any]]  #: what each story is about, by its name


@pytest.fixture(scope="module")
def council(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Council]:
    with World.open(tmp_path_factory.mktemp("governed"), preset="none", extra=SETTINGS) as world:
        names = ("one", "two", "three")
        people = [world.person(f"{each}@approvers.example", [*VOTER, "Auth:Pats:Create"]) for each in names]
        bot = world.service_account("payouts bot")
        stages = {name: prepare(world, name, bot) for name in ("python", "node")}
        with world.receiver() as (receiver, _):
            guard(world, people, stages)
            yield Council(world=world, receiver=receiver, approvers=people, bot=bot, stages=stages)


def prepare(world: World, name: str, bot: Identity) -> dict[str, Any]:
    """Make what one story changes, and write down how: as JSON, because a script reads it too."""
    admin, tag = world.admin.sdk, f"{name}-payouts"

    def policy(label: str, dollars: float) -> Any:
        return admin.policies.create_policy(payouts(f"{name} {label}", limit(dollars), {"kind": "Block"}, tag))

    def wallet(*tags: str) -> str:
        return str(admin.wallets.create_wallet({"network": NETWORK, "tags": list(tags)})["id"])

    count = {"kind": "TransactionCountVelocity", "configuration": {"limit": 3, "timeframe": 60}}
    for label in ("capped", "loose"):
        admin.policies.create_policy(payouts(f"{name} {label}", count, {"kind": "Block"}, f"{name}-{label}"))
    roles = {
        label: world.permission(f"{name} {label}", ["Wallets:Read"])
        for label in ("widened", "archived", "deleted", "given", "taken", "looking")
    }
    assignment = admin.permissions.assign_permission(roles["taken"], {"identityId": bot.user_id})
    return {
        **roles,
        "tag": tag,
        "bot": bot.user_id,
        "assignment": assignment["id"],
        "newcomer": world.person(f"{name}@newcomers.example", vouched=None).user_id,
        "opening": payouts(f"{name} opening", limit(5), {"kind": "Block"}, f"{name}-opened"),
        "loosened": policy("loosened", 100)["id"],
        "looser": payouts(f"{name} loosened", limit(1000), {"kind": "Block"}, tag),
        "dropped": policy("dropped", 2000)["id"],
        "operations": ["Policies:Read", "Wallets:Read"],
        "wallet": {"network": NETWORK, "name": f"{name} late", "tags": [f"{name}-capped"]},
        "untagged": wallet(),
        "escaping": wallet(tag, f"{name}-loose"),
        "paying": wallet(tag),
    }


def guard(world: World, people: list[Identity], stages: dict[str, dict[str, Any]]) -> None:
    """From now on two of three people have to agree; the guard of the policies comes last, for it guards them all."""
    both = ask(*(each.user_id for each in people), quorum=2)
    names = ("widened", "archived", "deleted", "given", "taken")
    roles = [stage[name] for stage in stages.values() for name in names]
    for body in (
        governing("Changed permissions", "Permissions:Modify", both, permissionId=roles),
        governing("Given permissions", "Permissions:Assign", both, permissionId=roles),
        governing("Changed policies", "Policies:Modify", both),
    ):
        made = world.admin.sdk.policies.create_policy(body)
        assert made["status"] == "Active"
        assert {name: made.get(name) for name in body} == body


# What both stories check


def check_asked(asked: dict[str, Any], stage: dict[str, Any], world: World) -> None:
    """Each call was answered with the change request of the contract, and changed nothing."""
    for call, request in asked.items():
        assert_id(request["id"], "cr")
        assert_id(request["approvalId"], "ap")
        assert (request["kind"], request["operationKind"]) == WAITING[call], call
        assert (request["status"], "dateResolved" in request) == ("Pending", False)
        assert_id(request["requester"]["tokenId"], "to")
        assert request["loosens"] is (call not in AT_ONCE), call
    looser = asked["PUT /v2/policies/{policyId}"]
    assert (looser["entityId"], looser["requester"]["userId"]) == (stage["loosened"], world.admin.user_id)
    assert {name: looser["body"][name] for name in stage["looser"]} == stage["looser"]
    given = asked["POST /permissions/{permissionId}/assignments"]
    wanted = {"id": given["entityId"], "permissionId": stage["given"], "identityId": stage["bot"]}
    assert {name: given["body"][name] for name in wanted} == wanted


def check_waiting(policy: Any, assignments: Any, asked: dict[str, Any]) -> None:
    """What is to change shows what waits, and is as it was."""
    assert policy["pendingChangeRequest"] == asked["PUT /v2/policies/{policyId}"]
    assert (policy["version"], policy["rule"]["configuration"]["limit"]) == (1, 100)
    (held,) = assignments["items"]
    assert held["pendingChangeRequest"] == asked["DELETE /permissions/{permissionId}/assignments/{assignmentId}"]


def check_approvals(approvals: dict[str, Any], asked: dict[str, Any]) -> None:
    """Two people agreed to each, and each was made."""
    assert approvals.keys() == asked.keys()
    for call, approval in approvals.items():
        assert_conforms(approval, CreateApprovalDecisionResponse, also=("approvalGroups",))
        assert (approval["id"], approval["status"]) == (asked[call]["approvalId"], "Approved")
        assert [each["value"] for each in approval["decisions"]] == ["Approved", "Approved"]
        request = approval["activity"]["changeRequest"]
        assert (request["id"], request["status"], "dateResolved" in request) == (asked[call]["id"], "Applied", True)
        assert approval["activity"]["kind"] in ("Policies:Modify", "Permissions:Modify", "Permissions:Assign")


def check_effects(council: Council, stage: dict[str, Any], asked: dict[str, Any], made: dict[str, Any]) -> None:
    """Everything that was agreed on is so now."""
    admin = council.world.admin.sdk
    loosened = admin.policies.get_policy(stage["loosened"])
    assert (loosened["version"], loosened["rule"]["configuration"]["limit"]) == (2, 1000)
    assert "pendingChangeRequest" not in loosened
    active = {each["name"]: each["id"] for each in admin.policies.list_policies({"status": "Active"})["items"]}
    assert stage["opening"]["name"] in active
    assert stage["dropped"] not in active.values()
    assert admin.permissions.get_permission(stage["widened"])["operations"] == stage["operations"]
    assert admin.permissions.get_permission(stage["archived"])["isArchived"] is True
    gone = "DELETE /permissions/{permissionId}" in asked
    assert admin.permissions.get_permission(stage["deleted"])["isArchived"] is gone
    (given,) = admin.permissions.list_assignments(stage["given"])["items"]
    assert given["identityId"] == stage["bot"]
    assert admin.permissions.list_assignments(stage["taken"]) == {"items": []}
    assert admin.auth.get_user(stage["newcomer"])["mayVote"] is True
    assert admin.auth.get_service_account(made["account"]["userInfo"]["userId"])["userInfo"]["isActive"] is True
    member = council.approvers[-1].sdk.auth
    assert member.get_personal_access_token(made["pat"]["tokenId"])["isActive"] is True
    keys = {each["credentialUuid"]: each["isActive"] for each in member.list_credentials()["items"]}
    assert keys[made["credential"]["credentialUuid"]] is True
    for token in (made["account"]["accessTokens"][0]["accessToken"], made["pat"]["accessToken"]):
        assert council.world.client(token).wallets.list_wallets()["items"]
    assert stage["wallet"]["name"] in {each.get("name") for each in admin.wallets.list_wallets()["items"]}
    assert admin.wallets.get_wallet(stage["untagged"])["tags"] == [stage["tag"]]
    assert stage["tag"] not in admin.wallets.get_wallet(stage["escaping"])["tags"]


def check_told(council: Council, asked: dict[str, Any]) -> None:
    """Programs were told of each change when it was asked for and when it ended, and who has to know of it."""
    for request in asked.values():

        def of_change(data: Any, request: Any = request) -> bool:
            return bool(data["changeRequest"]["id"] == request["id"])

        def of_approval(data: Any, request: Any = request) -> bool:
            return bool(data["approval"]["id"] == request["approvalId"])

        told = council.receiver.wait_for("change.requested", of_change)["data"]
        assert told["changeRequest"] == request
        assert council.world.admin.user_id in {each["userId"] for each in told["admins"]}
        ended = council.receiver.wait_for("change.resolved", of_change)["data"]["changeRequest"]
        assert ended["status"] == "Applied"
        opened = council.receiver.wait_for("policy.approval.pending", of_approval)["data"]["approval"]
        assert (opened["status"], opened["activity"]["changeRequest"]) == ("Pending", request)
        closed = council.receiver.wait_for("policy.approval.resolved", of_approval)["data"]["approval"]
        assert (closed["status"], len(closed["decisions"])) == ("Approved", 2)


def waited(exchanges: list[Exchange]) -> set[str]:
    """Return the operations that were answered 202."""
    found = {contract.find(each.method, each.path) for each in exchanges if each.status == 202}
    return {f"{each.method} {contract.normal(each.path)}" for each in found if each is not None}


# The stories


def approve(who: Identity, approval_id: str, value: str = "Approved") -> Any:
    """Decide; whoever signed over records that somebody else has added to meanwhile signs again."""
    for _ in range(20):
        try:
            return who.sdk.policies.create_approval_decision(approval_id, {"value": value})
        except DfnsError as error:
            if error.error_code != "head_moved":
                raise
    raise AssertionError("the records never stood still")


def test_the_python_sdk_reads_a_202_as_an_answer(council: Council) -> None:
    stage, people = council.stages["python"], council.approvers
    world, admin = council.world, council.world.admin.sdk
    over = world.pay(council.bot, {"id": stage["paying"]}, RECIPIENT, 500 * USDC, "python-over", contract=world.token)
    assert over["status"] == "Rejected"
    with recorded() as exchanges:
        made = make_late(council, people[-1].sdk)
        calls = everything_that_waits(admin, people[-1].sdk, stage, made)
        asked = {call: ask_for() for call, ask_for in calls.items()}
    check_asked(asked, stage, world)
    assert waited(exchanges) == {contract.normal(call) for call in WAITING}
    check_waiting(
        admin.policies.get_policy(stage["loosened"]), admin.permissions.list_assignments(stage["taken"]), asked
    )
    changed = admin.permissions.get_permission(stage["widened"])
    assert changed["pendingChangeRequest"] == asked["PUT /permissions/{permissionId}"]
    listed = people[0].sdk.policies.list_approvals({"status": "Pending", "approverId": people[0].user_id, "limit": 500})
    assert {each["approvalId"] for each in asked.values()} <= {each["id"] for each in listed["items"]}

    approvals = {}
    for request in asked.values():
        first, last = (approve(who, request["approvalId"]) for who in people[:2])
        assert first["status"] == "Pending"
        # Some are made with the last vote; the rest waits a second longer.
        assert (last["status"] == "Approved") is not request["loosens"]
    for call, request in asked.items():
        approvals[call] = until(lambda request=request: resolved(people[0], request), call)  # type: ignore[misc]
    check_approvals(approvals, asked)
    check_effects(council, stage, asked, made)
    check_told(council, asked)
    under = world.pay(council.bot, {"id": stage["paying"]}, RECIPIENT, 500 * USDC, "python-under", contract=world.token)
    assert under["status"] == "Executing"


def resolved(who: Identity, request: Any) -> Any:
    """Return the approval of a change once it has ended, else None."""
    approval = who.sdk.policies.get_approval(request["approvalId"])
    return approval if approval["activity"]["changeRequest"]["status"] != "Pending" else None


def make_late(council: Council, member: DfnsClient) -> dict[str, Any]:
    """Make an account, a key and a token while changes wait: they start switched off."""
    looking = council.stages["python"]["looking"]
    admin: Any = council.world.admin.sdk
    body = {"name": "python-late", "publicKey": new_key()[1], "permissionId": looking}
    account = admin.auth.create_service_account(body)
    auth: Any = member.auth
    pat = auth.create_personal_access_token({**body, "publicKey": new_key()[1]})
    begun = auth.create_credential_challenge({"kind": "Key"})
    credential = auth.create_credential(
        {
            "credentialKind": "Key",
            "credentialInfo": key_attestation(new_key("P-256")[0], begun["challenge"]),
            "credentialName": "late",
            "challengeIdentifier": begun["challengeIdentifier"],
        }
    )
    assert [account["userInfo"]["isActive"], pat["isActive"], credential["isActive"]] == [False, False, False]
    for token in (account["accessTokens"][0]["accessToken"], pat["accessToken"]):
        with pytest.raises(DfnsError) as refused:
            council.world.client(token).wallets.list_wallets()
        assert refused.value.status_code == 401
    return {"account": account, "pat": pat, "credential": credential}


def everything_that_waits(admin: Any, member: Any, stage: dict[str, Any], made: Any) -> dict[str, Callable[[], Any]]:
    """Return one call of each kind that may wait."""
    policies, permissions, auth, wallets = admin.policies, admin.permissions, admin.auth, admin.wallets
    tags, archived = {"tags": [stage["tag"]]}, {"isArchived": True}
    key = {"credentialUuid": made["credential"]["credentialUuid"]}

    def revoke() -> Any:
        """This SDK drops what a revocation is answered with; the assignment shows that it waits."""
        assert permissions.revoke_permission(stage["taken"], stage["assignment"], {"force": True}) is None
        (held,) = permissions.list_assignments(stage["taken"])["items"]
        return held["pendingChangeRequest"]

    return {
        "POST /v2/policies": lambda: policies.create_policy(stage["opening"]),
        "PUT /v2/policies/{policyId}": lambda: policies.update_policy(stage["loosened"], stage["looser"]),
        "DELETE /v2/policies/{policyId}": lambda: policies.delete_policy(stage["dropped"]),
        "PUT /permissions/{permissionId}": lambda: permissions.update_permission(
            stage["widened"], {"operations": stage["operations"]}
        ),
        "PUT /permissions/{permissionId}/archive": lambda: permissions.archive_permission(stage["archived"], archived),
        "DELETE /permissions/{permissionId}": lambda: permissions.delete_permission(stage["deleted"]),
        "POST /permissions/{permissionId}/assignments": lambda: permissions.assign_permission(
            stage["given"], {"identityId": stage["bot"]}
        ),
        "DELETE /permissions/{permissionId}/assignments/{assignmentId}": revoke,
        "PUT /auth/users/{userId}/activate": lambda: auth.activate_user(stage["newcomer"]),
        "PUT /auth/service-accounts/{userId}/activate": lambda: auth.activate_service_account(
            made["account"]["userInfo"]["userId"]
        ),
        "PUT /auth/credentials/activate": lambda: member.auth.activate_credential(key),
        "PUT /auth/pats/{tokenId}/activate": lambda: member.auth.activate_personal_access_token(made["pat"]["tokenId"]),
        "POST /wallets": lambda: wallets.create_wallet(stage["wallet"]),
        "PUT /wallets/{walletId}/tags": lambda: wallets.tag_wallet(stage["untagged"], tags),
        "DELETE /wallets/{walletId}/tags": lambda: wallets.untag_wallet(stage["escaping"], tags),
    }


def test_the_node_sdk_throws_a_202_with_the_change_request(council: Council) -> None:
    stage, world = council.stages["node"], council.world
    result = run(
        world,
        "govern.mjs",
        admin=caller(world.admin),
        approvers=[caller(each) for each in council.approvers[:2]],
        member=caller(council.approvers[-1]),
        stage=stage,
    )
    assert {each["httpStatus"] for each in result["asked"].values()} == {202}
    asked = {call: each["request"] for call, each in result["asked"].items()}
    assert asked.keys() == WAITING.keys() - PYTHON_ONLY
    assert waited(of_script(result)) == {contract.normal(call) for call in asked}
    assert [result["account"]["userInfo"]["isActive"], result["pat"]["isActive"]] == [False, False]
    assert result["credential"]["isActive"] is False
    check_asked(asked, stage, world)
    check_waiting(result["waiting"], result["revoking"], asked)
    check_approvals(result["approvals"], asked)
    check_effects(council, stage, asked, result)
    check_told(council, asked)


def test_a_decision_signed_over_older_records_is_signed_again(council: Council) -> None:
    """Between the halves of one person's call another person decides: the order of the records is signed too."""
    one, two, three = council.approvers
    policies = council.world.admin.sdk.policies
    tag = {"walletTags": {"hasAny": ["tightened"]}}
    body = {**payouts("tightened", limit(100), {"kind": "Block"}, "tightened"), "filters": tag}
    opening = policies.create_policy(body)
    for who in (one, two):
        approve(who, opening["approvalId"])
    until(lambda: resolved(one, opening), "the policy")
    policy_id = opening["entityId"]
    tighter = policies.update_policy(policy_id, {**body, "rule": limit(10)})
    assert tighter["loosens"] is False
    vote = {"value": "Approved"}
    delegated: Any = DfnsDelegatedClient(DfnsDelegatedClientConfig(auth_token=one.token, base_url=council.world.url))
    with delegated:
        challenge = delegated.policies.create_approval_decision_init(tighter["approvalId"], vote)
        signer = KeySigner(credential_id=one.credential_id, private_key=one.private_key, app_origin=council.world.url)
        signed = {"challengeIdentifier": challenge["challengeIdentifier"], "firstFactor": signer.sign(challenge)}
        assert approve(two, tighter["approvalId"])["status"] == "Pending"
        with pytest.raises(DfnsError) as late:
            delegated.policies.create_approval_decision_complete(tighter["approvalId"], vote, signed)
    assert (late.value.status_code, late.value.error_code) == (409, "head_moved")
    assert approve(one, tighter["approvalId"])["status"] == "Approved"
    assert policies.get_policy(policy_id)["rule"] == limit(10), "a tightening takes hold with the last vote"

    unwanted = policies.update_policy(policy_id, {**body, "rule": limit(10_000)})
    assert unwanted["loosens"] is True
    approve(two, unwanted["approvalId"])
    assert approve(three, unwanted["approvalId"], "Denied")["status"] == "Denied"
    found = policies.get_policy(policy_id)
    assert (found["rule"], "pendingChangeRequest" in found) == (limit(10), False)
    told = council.receiver.wait_for("change.resolved", lambda data: data["changeRequest"]["id"] == unwanted["id"])
    assert told["data"]["changeRequest"]["status"] == "Rejected"


# The table


def test_whatever_waits_is_in_the_stories_and_in_the_table_of_compatibility() -> None:
    described = {f"{method.upper()} {path}" for method, path in openapi.MAY_WAIT}
    assert {call for call in described if " /v1/" not in call} == WAITING.keys()
    for call in WAITING:
        method, path = call.split()
        operation = contract.find(method, path.replace("{", "").replace("}", ""))
        assert operation is not None
        assert "202" in operation.note, f"{call} may be answered 202: say so"
