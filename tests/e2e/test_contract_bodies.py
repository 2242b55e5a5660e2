"""Answers of a live server, member by member, against the contract's field tables.

The tables below are written from the contract and not from our code: what is required, what may be there, which
values an enum has. Members of our own are listed apart, so that none appears unnoticed.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from outlay.evidence.attestation import key_attestation
from tests.door import Door, open_door
from tests.world import NETWORK, VOTER, World, new_key, until

Form = Any
"""A type, a pattern, the values of an enum, a table, or a list of one of these; ``None`` stands for anything."""


@dataclass(frozen=True)
class OrNull:
    """A form, or null."""

    form: Form


@dataclass(frozen=True, kw_only=True)
class Table:
    """The members of one object."""

    required: Mapping[str, Form]
    optional: Mapping[str, Form] = field(default_factory=dict)
    ours: Mapping[str, Form] = field(default_factory=dict)  #: optional too
    never: Collection[str] = ()  #: optional members of the contract that this server has no use for

    def members(self) -> Mapping[str, Form]:
        """Return all members."""
        return {**self.required, **self.optional, **self.ours}


def misfits(value: Any, form: Form, place: str) -> list[str]:
    """Return what is wrong with a value: a line each."""
    if isinstance(form, OrNull):
        return [] if value is None else misfits(value, form.form, place)
    if isinstance(form, Table):
        return _misfits_of_object(value, form, place)
    if isinstance(form, list):
        if not isinstance(value, list):
            return [f"{place} is no list: {value!r}"]
        return [line for index, each in enumerate(value) for line in misfits(each, form[0], f"{place}[{index}]")]
    if isinstance(form, tuple):
        return [] if value in form else [f"{place} is not one of {form}: {value!r}"]
    if isinstance(form, re.Pattern):
        fits = isinstance(value, str) and form.fullmatch(value)
        return [] if fits else [f"{place} does not match {form.pattern}: {value!r}"]
    kinds = (int, float) if form is float else form
    if form is None or (isinstance(value, kinds) and (form is bool or not isinstance(value, bool))):
        return []
    return [f"{place} is no {form.__name__}: {value!r}"]


def _misfits_of_object(value: Any, table: Table, place: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{place} is no object: {value!r}"]
    known = table.members()
    found = [f"{place}.{name} is missing" for name in table.required if name not in value]
    found += [f"{place}.{name} is unknown" for name in value if name not in known]
    for name in value.keys() & known.keys():
        found += misfits(value[name], known[name], f"{place}.{name}")
    return found


def an_id(prefix: str) -> re.Pattern[str]:
    return re.compile(prefix + r"-[a-z0-9]{5}-[a-z0-9]{5}-[a-z0-9]{14,16}")


# The contract

WHEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
DIGITS = re.compile(r"\d+")
HASH = re.compile(r"0x[0-9a-f]{64}")
ADDRESS = re.compile(r"0x[0-9a-f]{40}")
HEX = re.compile(r"[0-9a-f]+")
PEM = re.compile(r"-----BEGIN (RSA )?PUBLIC KEY-----\n.*", re.DOTALL)
JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+")
USER, WALLET, ORG = an_id("us"), an_id("wa"), an_id("or")
TOKEN, CREDENTIAL, PERMISSION, ASSIGNMENT = an_id("to"), an_id("cr"), an_id("pm"), an_id("as")
POLICY, APPROVAL, TRANSFER, EVENT = an_id("plc"), an_id("ap"), an_id("xfr"), an_id("whe")
QUOTES = Table(required={"USD": float}, optional={"EUR": float}, never=["EUR"])
FACTS = {"symbol": str, "decimals": int, "verified": (True, False)}
ABOUT = Table(required={}, optional={**FACTS, "quotes": QUOTES})
ABOUT_FEE = replace(ABOUT, never=["quotes"])
ASSIGNED = Table(
    required={"permissionName": str, "permissionId": PERMISSION, "assignmentId": re.compile(r"|as-.+")},
    optional={"operations": [str]},
)
USER_KINDS = ("CustomerEmployee", "EndUser")
TOKEN_KINDS = ("Pat", "ServiceAccount", "Token", "Code", "Recovery", "Temp", "Application")
CREDENTIAL_KINDS = ("Fido2", "Key", "Password", "Totp", "RecoveryKey", "PasswordProtectedKey")
TRANSFER_STATUSES = ("Pending", "Executing", "Broadcasted", "Confirmed", "Failed", "Rejected")
KEYS_OF_A_USER = Table(
    required={"credentialUuid": CREDENTIAL, "credentialId": str, "name": str, "fingerprint": str, "isActive": bool}
)

TABLES: dict[str, Table] = {
    "user": Table(
        required={
            "username": str,
            "name": str,
            "userId": USER,
            "kind": USER_KINDS,
            "credentialUuid": re.compile(r"|cr-.+"),
            "isActive": bool,
            "isServiceAccount": bool,
            "isRegistered": bool,
            "isSSORequired": bool,
            "permissionAssignments": [ASSIGNED],
        },
        optional={"credentialId": str, "orgId": ORG, "tenantId": an_id("acct"), "permissions": [str]},
        ours={"mayVote": bool, "externalId": str, "registrationCode": str, "credentials": [KEYS_OF_A_USER]},
        never=["tenantId"],
    ),
    "token": Table(
        required={
            "dateCreated": WHEN,
            "credId": str,
            "isActive": bool,
            "kind": TOKEN_KINDS,
            "linkedUserId": USER,
            "linkedAppId": str,
            "name": str,
            "orgId": ORG,
            "permissionAssignments": [ASSIGNED],
            "publicKey": PEM,
            "tokenId": TOKEN,
        },
        optional={"accessToken": JWT},
        ours={"dateExpires": WHEN, "externalId": str},
    ),
    "credential": Table(
        required={
            "kind": CREDENTIAL_KINDS,
            "credentialId": str,
            "credentialUuid": CREDENTIAL,
            "dateCreated": WHEN,
            "isActive": bool,
            "name": str,
            "publicKey": PEM,
            "relyingPartyId": str,
            "origin": str,
        }
    ),
    "assignment": Table(
        required={
            "id": ASSIGNMENT,
            "permissionId": PERMISSION,
            "identityId": USER,
            "isImmutable": bool,
            "dateCreated": WHEN,
            "dateUpdated": WHEN,
        },
        optional={"pendingChangeRequest": dict},
        never=["pendingChangeRequest"],
    ),
    "wallet": Table(
        required={
            "id": WALLET,
            "network": str,
            "signingKey": Table(
                required={
                    "id": str,
                    "scheme": ("DH", "ECDSA", "EdDSA", "Schnorr"),
                    "curve": ("ed25519", "secp256k1", "stark"),
                    "publicKey": HEX,
                },
                optional={"delegatedTo": USER},
                never=["delegatedTo"],
            ),
            "status": ("Active", "Inactive", "Archived"),
            "dateCreated": WHEN,
            "custodial": bool,
            "tags": [str],
        },
        optional={"address": ADDRESS, "name": str, "externalId": str, "dateDeleted": WHEN, "validatorId": str}
        | {"networkInfo": None, "vaultId": str},
        ours={"frozenReason": str, "drainedReason": str},
        never=["dateDeleted", "validatorId", "networkInfo", "vaultId"],
    ),
    "transfer": Table(
        required={
            "id": TRANSFER,
            "walletId": WALLET,
            "network": str,
            "requester": Table(required={"userId": USER}, optional={"tokenId": TOKEN}),
            "requestBody": Table(
                required={"kind": ("Native", "Erc20"), "to": re.compile(r"0x[0-9a-fA-F]{40}"), "amount": DIGITS},
                optional={"contract": ADDRESS, "externalId": str, "priority": ("Slow", "Standard", "Fast")}
                | {"memo": str, "travelRule": dict, "feeSponsorId": str},
                never=["memo", "travelRule", "feeSponsorId"],
            ),
            "metadata": Table(required={"asset": ABOUT}),
            "status": TRANSFER_STATUSES,
            "dateRequested": WHEN,
        },
        optional={
            "reason": str,
            "txHash": HASH,
            "fee": DIGITS,
            "datePolicyResolved": WHEN,
            "dateBroadcasted": WHEN,
            "dateConfirmed": WHEN,
            "approvalId": APPROVAL,
            "externalId": str,
            "feeSponsorId": an_id("fs"),
            "replacementId": an_id("tx"),
            "details": dict,
        },
        ours={"waitingReason": str, "flag": str},
        never=["feeSponsorId", "replacementId", "details"],
    ),
    "policy": Table(
        required={
            "id": POLICY,
            "name": str,
            "status": ("Active", "Archived"),
            "activityKind": ("Wallets:Sign", "Policies:Modify", "Permissions:Modify", "Permissions:Assign"),
            "rule": Table(required={"kind": str}, optional={"configuration": dict}),
            "action": Table(
                required={"kind": ("RequestApproval", "Block", "NoAction")},
                optional={
                    "approvalGroups": [
                        Table(
                            required={
                                "quorum": int,
                                "approvers": Table(
                                    required={}, optional={"userId": Table(required={"in": [USER]}, optional={})}
                                ),
                            },
                            optional={"name": str, "initiatorCanApprove": bool, "serviceAccountsCanApprove": bool},
                        )
                    ],
                    "autoRejectTimeout": OrNull(int),
                },
            ),
        },
        optional={
            "dateCreated": WHEN,
            "dateUpdated": WHEN,
            "filters": Table(
                required={},
                optional={
                    "walletId": Table(required={"in": [WALLET]}),
                    "walletTags": Table(required={}, optional={"hasAny": [str], "hasAll": [str]}),
                    "policyId": Table(required={"in": [POLICY]}),
                    "permissionId": Table(required={"in": [PERMISSION]}),
                },
            ),
        },
        ours={"version": int},
    ),
    "webhook": Table(
        required={
            "id": an_id("wh"),
            "url": str,
            "events": [str],
            "status": ("Enabled", "Disabled"),
            "dateCreated": WHEN,
            "dateUpdated": WHEN,
        },
        optional={"description": str, "secret": str},
    ),
    "event": Table(
        required={"id": EVENT, "kind": str, "date": WHEN, "data": dict, "status": str, "timestampSent": int},
        optional={"error": str, "deliveryAttempt": int, "retryOf": EVENT, "deliveryFailed": bool}
        | {"nextAttemptDate": WHEN},
    ),
    "delivered event": Table(
        required={"id": EVENT, "kind": str, "date": WHEN, "data": dict, "timestampSent": int, "deliveryAttempt": int},
        optional={"retryOf": EVENT, "status": str},
        ours={"subject": str, "sequence": int},
        never=["status"],
    ),
    "assets": Table(
        required={
            "walletId": WALLET,
            "network": str,
            "assets": [
                Table(
                    required={"kind": ("Native", "Erc20"), "decimals": int, "balance": DIGITS},
                    optional={"contract": ADDRESS, "symbol": str, "verified": bool, "quotes": QUOTES},
                )
            ],
        },
        optional={"netWorth": QUOTES},
    ),
    "history item": Table(
        required={
            "walletId": WALLET,
            "direction": ("In", "Out"),
            "network": str,
            "blockNumber": int,
            "txHash": HASH,
            "timestamp": WHEN,
            "kind": ("NativeTransfer", "Erc20Transfer"),
            "value": DIGITS,
            "metadata": Table(required={"asset": ABOUT}, optional={"fee": ABOUT_FEE}),
        },
        optional={"index": str, "from": ADDRESS, "to": ADDRESS, "contract": ADDRESS, "fee": DIGITS, **FACTS},
        never=["index"],
    ),
}
_LEVEL = Table(required={"maxPriorityFeePerGas": DIGITS, "maxFeePerGas": DIGITS}, ours={"withinFeeCap": bool})
TABLES["fees"] = Table(
    required={"kind": ("Bitcoin", "Eip1559"), "network": str, "blockNumber": int, "baseFeePerGas": DIGITS}
    | {"slow": _LEVEL, "standard": _LEVEL, "fast": _LEVEL}
)
TABLES["service account"] = Table(required={"userInfo": TABLES["user"], "accessTokens": [TABLES["token"]]})
TABLES["change request"] = Table(
    required={
        "id": an_id("cr"),
        "kind": ("Policy", "Permission", "Assignment", "Alias", "SmartContract"),
        "operationKind": ("Update", "Create", "Delete"),
        "status": ("Applied", "Failed", "Pending", "Rejected"),
        "requester": Table(required={"userId": USER}, optional={"tokenId": TOKEN}),
        "entityId": str,
        "dateCreated": WHEN,
        "body": dict,
    },
    optional={"approvalId": APPROVAL, "dateResolved": WHEN},
    ours={"before": None, "after": dict, "digest": HEX, "loosens": bool, "effectiveDate": WHEN, "reason": str},
)
ASSIGNMENT_OF_A_CHANGE = ("id", "permissionId", "identityId", "isImmutable")
TABLES["policy"] = replace(
    TABLES["policy"], optional={**TABLES["policy"].optional, "pendingChangeRequest": TABLES["change request"]}
)
TABLES["permission"] = Table(
    required={
        "id": PERMISSION,
        "name": str,
        "operations": [str],
        "status": ("Active",),
        "isImmutable": bool,
        "isArchived": bool,
        "dateCreated": WHEN,
        "dateUpdated": WHEN,
    },
    optional={"pendingChangeRequest": TABLES["change request"]},
)
TABLES["approval"] = Table(
    required={
        "id": APPROVAL,
        "initiatorId": USER,
        "activity": Table(
            required={"kind": ("Wallets:Sign", "Policies:Modify", "Permissions:Modify", "Permissions:Assign")},
            optional={"transferRequest": TABLES["transfer"], "changeRequest": TABLES["change request"]},
        ),
        "status": ("Pending", "Approved", "Denied", "Expired"),
        "dateUpdated": WHEN,
        "policyEvaluations": [Table(required={"policyId": POLICY, "triggered": bool, "reason": str})],
        "decisions": [
            Table(required={"userId": USER, "date": WHEN, "value": ("Approved", "Denied"), "reason": OrNull(str)})
        ],
    },
    optional={"expirationDate": WHEN, "dateCreated": WHEN, "dateResolved": WHEN},
    ours={"approvalGroups": [dict]},
)


PLACES = {id(table): name for name, table in TABLES.items()}
"""Tables that may stand inside others, by what they are called."""


# The answers

Answers = dict[str, list[Any]]
RECIPIENT = "0x" + "1c" * 20


@pytest.fixture(scope="module")
def answers(world: World) -> Answers:
    """Return answers of every kind: created, read, listed, changed."""
    found: Answers = {name: [] for name in TABLES}
    _people(world, found)
    _permissions(world, found)
    _wallets_and_transfers(world, found)
    _webhooks(world, found)
    return found


def _people(world: World, found: Answers) -> None:
    auth = world.admin.sdk.auth
    body = {"email": "clerk-of-bodies@example.com", "kind": "CustomerEmployee", "externalId": "clerk"}
    invited = auth.create_user(body)
    found["user"] += [invited, auth.get_user(invited["userId"]), *auth.list_users({"limit": 500})["items"]]
    found["user"] += [auth.activate_user(invited["userId"]), auth.deactivate_user(invited["userId"])]
    private, public = new_key()
    permission = world.permission("bodies", ["Wallets:Read"])
    made = auth.create_service_account(
        {
            "name": "a bot of bodies",
            "publicKey": public,
            "permissionId": permission,
            "externalId": "bot",
            "daysValid": 9,
        }
    )
    bot = made["userInfo"]["userId"]
    found["service account"] += [made, auth.get_service_account(bot), *auth.list_service_accounts()["items"]]
    found["service account"] += [auth.update_service_account(bot, {"name": "the bot of bodies"})]
    private, public = new_key("P-256")
    token = auth.create_personal_access_token(
        {
            "name": "a token of bodies",
            "publicKey": public,
            "permissionId": permission,
            "externalId": "t",
            "daysValid": 1,
        }
    )
    found["token"] += [token, auth.get_personal_access_token(token["tokenId"])]
    found["token"] += auth.list_personal_access_tokens()["items"]
    found["token"] += [each for answer in found["service account"] for each in answer["accessTokens"]]
    person = world.person("keys-of-bodies@example.com", ())
    begun = person.sdk.auth.create_credential_challenge({"kind": "Key"})
    private, _ = new_key("secp256k1")
    added = person.sdk.auth.create_credential(
        {
            "credentialKind": "Key",
            "credentialInfo": key_attestation(private, begun["challenge"]),
            "credentialName": "second key",
            "challengeIdentifier": begun["challengeIdentifier"],
        }
    )
    found["credential"] += [added, *person.sdk.auth.list_credentials()["items"]]


def _permissions(world: World, found: Answers) -> None:
    sdk = world.admin.sdk.permissions
    made = sdk.create_permission({"name": "permission of bodies", "operations": ["Wallets:Read"]})
    someone = world.person("assigned-of-bodies@example.com", ())
    assigned = sdk.assign_permission(made["id"], {"identityId": someone.user_id})
    found["assignment"] += [assigned, *sdk.list_assignments(made["id"])["items"]]
    found["permission"] += [made, sdk.get_permission(made["id"]), *sdk.list_permissions({"limit": 500})["items"]]
    found["permission"] += [sdk.update_permission(made["id"], {"name": "permission of bodies, renamed"})]
    found["permission"] += [sdk.archive_permission(made["id"], {"isArchived": True})]


def _wallets_and_transfers(world: World, found: Answers) -> None:
    sdk, policies = world.admin.sdk.wallets, world.admin.sdk.policies
    paying = world.wallet("paying of bodies", tags=["bodies-pays"])
    holding = world.wallet("holding of bodies", tags=["bodies-holds"])
    bare = sdk.create_wallet({"network": NETWORK, "externalId": "bare"})
    found["wallet"] += [paying, holding, bare, sdk.get_wallet(bare["id"]), sdk.update_wallet(bare["id"], {"name": "b"})]
    found["wallet"] += sdk.list_wallets()["items"]
    voter = world.person("voter-of-bodies@example.com", VOTER)
    asked = world.watch("bodies-holds", {"userId": {"in": [voter.user_id]}}, initiatorCanApprove=False)
    filters = {"walletTags": {"hasAll": ["bodies-holds"]}, "walletId": {"in": [holding["id"]]}}
    limit = {"kind": "TransactionAmountLimit", "configuration": {"limit": 10**6, "currency": "USD"}}
    body = {"name": "bodies", "activityKind": "Wallets:Sign", "rule": limit, "action": {"kind": "Block"}}
    blocking = policies.create_policy({**body, "filters": filters})
    found["policy"] += [asked, blocking, policies.get_policy(asked["id"])]
    found["policy"] += policies.list_policies({"limit": 500})["items"]
    coins = world.wait_for(world.pay(world.admin, paying, RECIPIENT, 5, "bodies-coins"), "Confirmed")
    token = {"kind": "Erc20", "contract": world.token, "to": RECIPIENT, "amount": "6", "externalId": "bodies-tokens"}
    tokens = sdk.transfer_asset(paying["id"], {**token, "priority": "Fast"})
    big = world.pay(world.admin, paying, RECIPIENT, 10**30, "bodies-too-much")
    held = world.pay(world.admin, holding, RECIPIENT, 7, "bodies-held")
    denied = world.pay(world.admin, holding, RECIPIENT, 8, "bodies-denied")
    blocked = world.pay(world.admin, holding, RECIPIENT, 10**24, "bodies-blocked")
    assert (held["status"], blocked["status"]) == ("Pending", "Rejected")
    decide = voter.sdk.policies.create_approval_decision
    found["approval"] += [policies.get_approval(held["approvalId"])]
    found["approval"] += [decide(held["approvalId"], {"value": "Approved"})]
    found["approval"] += [decide(denied["approvalId"], {"value": "Denied", "reason": "not known"})]
    found["approval"] += policies.list_approvals({"limit": 500})["items"]
    waiting = until(lambda: _with(sdk.get_transfer(paying["id"], big["id"]), "waitingReason"), "a reason to wait")
    found["transfer"] += [coins, tokens, big, held, denied, blocked, waiting]
    found["transfer"] += [world.wait_for(tokens, "Confirmed"), world.wait_for(held, "Confirmed")]
    found["transfer"] += [sdk.abort_transfer(paying["id"], big["id"])]
    for wallet in (paying, holding):
        found["transfer"] += sdk.list_transfers(wallet["id"])["items"]
        found["history item"] += sdk.get_wallet_history(wallet["id"])["items"]
        found["assets"] += [sdk.get_wallet_assets(wallet["id"], {"netWorth": "true"})]
    found["fees"] += [world.admin.sdk.networks.estimate_fees({"network": NETWORK})]
    policies.delete_policy(blocking["id"])
    found["policy"] += [policies.get_policy(blocking["id"])]


def _with(answer: Any, member: str) -> Any:
    return answer if member in answer else None


def _webhooks(world: World, found: Answers) -> None:
    sdk = world.admin.sdk.webhooks
    with world.receiver("wallet.created") as (receiver, made):
        receiver.answers.put(500)
        world.admin.sdk.wallets.create_wallet({"network": NETWORK})
        until(lambda: len(receiver.arrivals) > 1, "the second attempt")
        events = until(lambda: _several(sdk.list_webhook_events(made["id"])["items"]), "both attempts")
        found["webhook"] += [made, sdk.get_webhook(made["id"]), *sdk.list_webhooks()["items"]]
        found["webhook"] += [sdk.update_webhook(made["id"], {"description": "of bodies"})]
        found["event"] += [*events, sdk.get_webhook_event(made["id"], events[0]["id"])]
        found["delivered event"] += receiver.events()


def _several(items: list[Any]) -> list[Any]:
    return items if len(items) > 1 else []


@pytest.fixture(scope="module")
def governed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    """Return answers of an organization in which changes wait for people."""
    with open_door(tmp_path_factory.mktemp("governed")) as door:
        yield _governed(door)


def _governed(door: Door) -> Answers:
    people = [door.person(f"{name}@example.com", VOTER) for name in ("first", "second", "third")]
    approvers = {"userId": {"in": [who.user_id for who in people]}}
    ask = {"kind": "RequestApproval", "approvalGroups": [{"quorum": 1, "approvers": approvers}]}
    always, limit = {"kind": "AlwaysTrigger"}, {"limit": 10, "currency": "USD"}
    rule = {"kind": "TransactionAmountLimit", "configuration": limit}
    policy = {"name": "cap", "activityKind": "Wallets:Sign", "rule": rule, "action": {"kind": "Block"}}
    capped = door.write(door.admin, "POST", "/v2/policies", policy).ok()
    permission = door.write(door.admin, "POST", "/permissions", {"name": "p", "operations": ["Wallets:Read"]}).ok()
    made = []
    gates: list[tuple[str, Any]] = [
        ("Permissions:Modify", {"permissionId": {"in": [permission["id"]]}}),
        ("Permissions:Assign", None),
        ("Policies:Modify", {"policyId": {"in": [capped["id"]]}}),
    ]
    for kind, filters in gates:
        body: dict[str, Any] = {"name": kind, "activityKind": kind, "rule": always, "action": ask}
        body.update({"filters": filters} if filters else {})
        made.append(door.write(door.admin, "POST", "/v2/policies", body).ok())
    changed = {"name": "cap", "activityKind": "Wallets:Sign", "rule": {**rule, "configuration": {**limit, "limit": 11}}}
    asked = []
    assignments = f"/permissions/{permission['id']}/assignments"
    for method, path, body in (
        ("PUT", f"/v2/policies/{capped['id']}", {**changed, "action": {"kind": "Block"}}),
        ("PUT", f"/permissions/{permission['id']}", {"operations": ["Wallets:Read", "Wallets:Create"]}),
        ("POST", assignments, {"identityId": people[0].user_id}),
    ):
        answer = door.write(door.admin, method, path, body)
        assert answer.status == 202, answer.raw
        asked.append(answer.body)
    seen = [door.get(f"/v2/policy-approvals/{each['approvalId']}").ok() for each in asked]
    denied = door.write(people[0], "POST", f"/v2/policy-approvals/{seen[2]['id']}/decisions", {"value": "Denied"}).ok()
    shown = [door.get(f"/v2/policies/{capped['id']}").ok(), door.get(f"/permissions/{permission['id']}").ok()]
    return {
        "policy": [*made, shown[0]],
        "permission": [shown[1]],
        "change request": [*asked, *(each["pendingChangeRequest"] for each in shown)],
        "approval": [*seen, denied],
    }


def fits(found: Answers, name: str) -> None:
    """Check all answers of one kind."""
    assert found[name], f"no {name} was answered"
    wrong = [line for index, answer in enumerate(found[name]) for line in misfits(answer, TABLES[name], f"{index}")]
    assert not wrong, "\n".join([f"{len(wrong)} misfits of {name}", *wrong[:10]])


@pytest.mark.parametrize("name", sorted(TABLES.keys() - {"change request"}))
def test_every_answer_has_the_members_of_the_contract(answers: Answers, name: str) -> None:
    fits(answers, name)


@pytest.mark.parametrize("name", ["approval", "change request", "permission", "policy"])
def test_answers_about_changes_that_wait_have_the_members_of_the_contract(governed: Answers, name: str) -> None:
    fits(governed, name)


def test_a_change_shows_the_whole_object_as_it_would_be(governed: Answers) -> None:
    policy, permission, assignment = governed["change request"][:3]
    assert (policy["kind"], policy["operationKind"]) == ("Policy", "Update")
    assert misfits(policy["body"], TABLES["policy"], "body") == []
    assert policy["body"]["rule"]["configuration"]["limit"] == 11
    assert policy["body"]["id"] == policy["entityId"]
    assert (permission["kind"], permission["operationKind"]) == ("Permission", "Update")
    assert misfits(permission["body"], TABLES["permission"], "body") == []
    assert permission["body"]["operations"] == ["Wallets:Create", "Wallets:Read"]
    assert (assignment["kind"], assignment["operationKind"]) == ("Assignment", "Create")
    given = Table(required={name: TABLES["assignment"].required[name] for name in ASSIGNMENT_OF_A_CHANGE})
    assert misfits(assignment["body"], given, "body") == []
    for each, approval in zip(governed["change request"][:2], governed["approval"][:2], strict=True):
        assert approval["activity"]["changeRequest"] == each
        assert each["approvalId"] == approval["id"]
    assert governed["approval"][3]["activity"]["changeRequest"]["status"] == "Rejected"


def test_every_optional_member_was_there_once(answers: Answers, governed: Answers) -> None:
    """Else a table would say nothing about it. Those that never come are named in it."""
    seen: set[str] = set()
    wanted: set[str] = set()
    for name, table in TABLES.items():
        wanted |= optional(table, name)
        for answer in [*answers[name], *governed.get(name, [])]:
            seen |= given(answer, table, name)
    assert sorted(wanted - seen) == []


def given(value: Any, form: Form, place: str) -> set[str]:
    """Return the members an answer has, by the place its table gives them."""
    if isinstance(form, list):
        return {line for each in value for line in given(each, form[0], place)}
    if not isinstance(form, Table):
        return set()
    place = PLACES.get(id(form), place)
    inner = [given(value[name], each, f"{place}.{name}") for name, each in form.members().items() if name in value]
    return {f"{place}.{name}" for name in value}.union(*inner)


def optional(form: Form, place: str) -> set[str]:
    """Return every optional member of a form by its place, but for those that never come."""
    table = form[0] if isinstance(form, list) else form
    if not isinstance(table, Table) or PLACES.get(id(table), place) != place:
        return set()  # a table inside another one is looked at by itself
    found = {f"{place}.{name}" for name in table.optional.keys() - set(table.never)}
    return found.union(*(optional(each, f"{place}.{name}") for name, each in table.members().items()))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"id": None}, "x.id does not match"),
        ({"id": "wa-1"}, "x.id does not match"),
        ({"name": ...}, "x.name is missing"),
        ({"color": "red"}, "x.color is unknown"),
        ({"isImmutable": 1}, "x.isImmutable is no bool"),
        ({"operations": "Wallets:Read"}, "x.operations is no list"),
        ({"operations": ["Wallets:Read", 5]}, "x.operations[1] is no str"),
        ({"status": "active"}, "x.status is not one of"),
        ({"dateCreated": "2026-01-01T00:00:00Z"}, "x.dateCreated does not match"),
        ({"pendingChangeRequest": []}, "x.pendingChangeRequest is no object"),
        ({"pendingChangeRequest": {}}, "x.pendingChangeRequest.status is missing"),
    ],
)
def test_a_misfit_is_found(answers: Answers, changes: dict[str, Any], line: str) -> None:
    good = answers["permission"][0]
    assert misfits(good, TABLES["permission"], "x") == []
    bad = {name: value for name, value in {**good, **changes}.items() if value is not ...}
    assert any(each.startswith(line) for each in misfits(bad, TABLES["permission"], "x"))
