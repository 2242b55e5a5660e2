"""What bodies and answers look like, as JSON Schema: for the published description of the API, and for tests.

Answers may hold more members than are listed here; those that are listed keep their meaning. Bodies may not.
"""

from collections.abc import Mapping
from typing import Any

from outlay.actions.decide import REASON_MAX
from outlay.actions.present_changes import NAMES
from outlay.actions.webhooks import DESCRIPTION_MAX, STATUSES
from outlay.core import ids
from outlay.core.event import EVENT_KINDS, EVERY_KIND
from outlay.core.operation import ALIASES, OPERATIONS
from outlay.core.personal_token import DAYS_MAX
from outlay.core.policy import (
    CURRENCY,
    GOVERNING,
    PERMISSIONS_ASSIGN,
    PERMISSIONS_MODIFY,
    POLICIES_MODIFY,
    WALLETS_REFILL,
    WALLETS_SIGN,
)
from outlay.core.policy_document import (
    ASSETS_MAX,
    LIMIT_DIGITS,
    LIMIT_PATTERN,
    TID_MAX,
    TID_PATTERN,
    TIMEOUT_MAX,
    WAIT_MARGIN,
    WAIT_MAX,
)
from outlay.core.velocity import TIMEFRAME_MAX, Scope
from outlay.evidence.challenge import METHODS

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
WHOLE: Schema = {"type": "integer"}
ANY_OBJECT: Schema = {"type": "object"}
WHEN: Schema = {"type": "string", "format": "date-time"}
AMOUNT: Schema = {
    "type": "string",
    "pattern": "^[1-9][0-9]{0,77}$",
    "description": "base units as ASCII digits: no sign, point, exponent, space or leading zero; at most 2^256 - 1",
}
ADDRESS: Schema = {
    "type": "string",
    "pattern": "^0x[0-9a-fA-F]{40}$",
    "description": "0x and 40 hex digits; mixed case must be the right checksum (EIP-55)",
}
PUBLIC_KEY: Schema = {"type": "string", "format": "pem"}
EXTERNAL_ID: Schema = {
    "type": "string",
    "pattern": "^[!-~]{1,50}$",
    "description": "your own id of this payout; the same id never pays twice. Required unless configured otherwise",
}


def one_of(*values: str) -> Schema:
    """Return the schema of a text with a few values."""
    return {"type": "string", "enum": list(values)}


def an_id(prefix: str) -> Schema:
    """Return the schema of our identifiers with ``prefix``."""
    return {"type": "string", "pattern": f"^{prefix}-[a-z0-9]{{5}}-[a-z0-9]{{5}}-[a-z0-9]{{14,16}}$"}


def list_of(item: Schema, *, least: int | None = None, most: int | None = None, unique: bool = False) -> Schema:
    """Return the schema of a list."""
    bounds = {"minItems": least, "maxItems": most, "uniqueItems": unique or None}
    return {"type": "array", "items": item, **{name: value for name, value in bounds.items() if value is not None}}


def members(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object that may hold more."""
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": sorted(required)}


def exactly(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object that holds nothing else."""
    return {**members(required, optional), "additionalProperties": False}


def ref(name: str) -> Schema:
    """Return a reference to a named schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def page(name: str, extra: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of one page of a list."""
    return members({"items": list_of(ref(name)), **(extra or {})}, {"nextPageToken": TEXT})


USER, WALLET, POLICY = an_id(ids.USER), an_id(ids.WALLET), an_id(ids.POLICY)
MANDATE = an_id(f"({ids.MANDATE}|{ids.SCHEDULE})")
_ASKER: Schema = {"anyOf": [USER, MANDATE], "description": "a mandate asks for its refills and runs by itself"}
_TAG: Schema = {"type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9:_./ -]{0,62}[A-Za-z0-9])?$"}
_TAGS = list_of(_TAG, least=1, most=50)
_LIMIT: Schema = {
    "anyOf": [{"type": "integer", "minimum": 0, "maximum": 10**LIMIT_DIGITS - 1}, {"type": "number", "minimum": 0}],
    "description": f"dollars: at most {LIMIT_DIGITS} significant digits, 8 of them after the point",
}
_ASSET_LIMIT = exactly(
    {
        "network": {"type": "string", "minLength": 1, "maxLength": 64},
        "tid": {
            "type": "string",
            "pattern": f"^{TID_PATTERN}$",
            "maxLength": TID_MAX,
            "description": "native:<symbol> or erc20:<contract>, in lower case",
        },
        "limit": {
            "type": "string",
            "pattern": f"^({LIMIT_PATTERN})$",
            "description": "base units of the asset, at most 2^256 - 1",
        },
    }
)
_REASON: Schema = {"type": "string", "minLength": 1, "maxLength": REASON_MAX}
_VELOCITY = {
    "timeframe": {"type": "integer", "minimum": 1, "maximum": TIMEFRAME_MAX, "description": "minutes"},
}
_SCOPE = {"scope": one_of(*(each.value for each in Scope))}
_CURRENCY = one_of(CURRENCY)
_OPERATION = one_of(*OPERATIONS, *ALIASES)
_EVENTS = list_of(one_of(EVERY_KIND, *EVENT_KINDS), least=1)
_HOOK_STATUS = one_of(*STATUSES)
_PRIORITY = one_of("Slow", "Standard", "Fast")
_TRANSFER_MEMBERS = {"to": ADDRESS, "amount": AMOUNT, "externalId": EXTERNAL_ID, "priority": _PRIORITY}
_ATTESTED = exactly({"credId": TEXT, "clientData": TEXT, "attestationData": TEXT})
_KEY_ASSERTION = exactly(
    {"credId": TEXT, "clientData": TEXT, "signature": TEXT},
    {"algorithm": TEXT, "authenticatorData": TEXT, "userHandle": TEXT},
)
_FACTOR = exactly({"kind": one_of("Key", "Fido2"), "credentialAssertion": _KEY_ASSERTION})


def _rule(kind: str, configuration: Schema, *, bare: bool = False) -> Schema:
    parts = {"kind": {"const": kind}, "configuration": configuration}
    return exactly({"kind": parts["kind"]}, {"configuration": configuration}) if bare else exactly(parts)


RULE: Schema = {
    "oneOf": [
        _rule("AlwaysTrigger", exactly({}), bare=True),
        _rule("TransactionAmountLimit", exactly({"limit": _LIMIT, "currency": _CURRENCY})),
        _rule("TransactionAmountLimitNominal", exactly({"assets": list_of(_ASSET_LIMIT, least=1, most=ASSETS_MAX)})),
        _rule("TransactionAmountVelocity", exactly({"limit": _LIMIT, "currency": _CURRENCY, **_VELOCITY}, _SCOPE)),
        _rule("TransactionCountVelocity", exactly({"limit": {"type": "integer", "minimum": 0}, **_VELOCITY}, _SCOPE)),
        _rule("TransactionRecipientWhitelist", exactly({"addresses": list_of(ADDRESS, most=1000)})),
    ]
}
_LISTED = exactly({"userId": exactly({"in": list_of(USER, least=1, most=100, unique=True)})})
_GROUP = exactly(
    {"quorum": {"type": "integer", "minimum": 1, "maximum": 100}, "approvers": {"anyOf": [exactly({}), _LISTED]}},
    {
        "name": {"type": "string", "minLength": 1, "maxLength": 200},
        "initiatorCanApprove": FLAG,
        "serviceAccountsCanApprove": FLAG,
    },
)
_WAIT: Schema = {
    "type": "integer",
    "minimum": 1,
    "maximum": WAIT_MAX - WAIT_MARGIN,
    "description": "ours; velocity rules only: minutes a payout may wait for room under the limit",
}
ACTION: Schema = {
    "oneOf": [
        exactly({"kind": {"const": "NoAction"}}),
        exactly({"kind": {"const": "Block"}}, {"wait": _WAIT}),
        exactly(
            {
                "kind": {"const": "RequestApproval"},
                "approvalGroups": list_of(_GROUP, least=1, most=100),
            },
            {
                "autoRejectTimeout": {"type": ["integer", "null"], "minimum": 1, "maximum": TIMEOUT_MAX},
                "per": {
                    **one_of("row", "batch"),
                    "description": f"ours; {WALLETS_SIGN} only: batch lets one decision do for all a batch holds",
                },
            },
        ),
    ]
}
_SOME_TAGS = list_of({"type": "string", "minLength": 1, "maxLength": 64}, least=1, most=100, unique=True)


def _among(prefix: str, kinds: str) -> Schema:
    listed = exactly({"in": list_of(an_id(prefix), least=1, most=1000, unique=True)})
    return {**listed, "description": f"only with {kinds}"}


FILTERS: Schema = exactly(
    {},
    {
        "walletId": _among(ids.WALLET, f"{WALLETS_SIGN} and {WALLETS_REFILL}"),
        "walletTags": exactly({}, {"hasAny": _SOME_TAGS, "hasAll": _SOME_TAGS}),
        "policyId": _among(ids.POLICY, POLICIES_MODIFY),
        "permissionId": _among(ids.PERMISSION, f"{PERMISSIONS_MODIFY} and {PERMISSIONS_ASSIGN}"),
    },
)

BODIES: Mapping[str, Mapping[str, Schema]] = {
    "ActionInit": {"userActionHttpMethod": one_of(*sorted(METHODS)), "userActionHttpPath": {"pattern": "^/"}},
    "ActionSign": {"firstFactor": _FACTOR},
    "ApplyConfig": {"moneySettings": ANY_OBJECT},
    "ArchivePermission": {"isArchived": {"const": True}},
    "CreateAssignment": {"identityId": USER},
    "CreateCredential": {"credentialKind": one_of("Key", "Fido2"), "credentialInfo": _ATTESTED},
    "CodeInit": {"credentialKind": one_of("Key", "Fido2")},
    "CreatePat": {
        "publicKey": {**PUBLIC_KEY, "description": "Ed25519, P-256, secp256k1, or RSA of at least 2048 bits"},
        "permissionId": {**an_id(ids.PERMISSION), "description": "what the token may do at most"},
        "daysValid": {"minimum": 1, "maximum": DAYS_MAX},
        "secondsValid": {"minimum": 1, "maximum": DAYS_MAX * 86_400, "description": "instead of daysValid"},
    },
    "CreatePermission": {"operations": list_of(_OPERATION, least=1)},
    "CreateServiceAccount": {
        "publicKey": {**PUBLIC_KEY, "description": "Ed25519, P-256, secp256k1, or RSA of at least 2048 bits"},
        "permissionId": an_id(ids.PERMISSION),
        "daysValid": {"minimum": 1, "maximum": 730},
    },
    "CredentialInit": {"kind": one_of("Key", "Fido2")},
    "CredentialName": {"credentialUuid": an_id(ids.CREDENTIAL)},
    "CreateUser": {
        "email": {"format": "email", "maxLength": 254},
        "kind": one_of("CustomerEmployee"),
        "isSSORequired": {"const": False},
        "publicKey": {**PUBLIC_KEY, "description": "the key that alone may take up the invitation"},
    },
    "CreateWallet": {"tags": list_of(_TAG, most=50)},
    "CreateWebhook": {
        "url": {"format": "uri"},
        "events": _EVENTS,
        "status": _HOOK_STATUS,
        "description": {"maxLength": DESCRIPTION_MAX},
    },
    "DecisionBody": {"value": one_of("Approved", "Denied"), "reason": {"maxLength": REASON_MAX}},
    "Erc20Transfer": {"contract": ADDRESS, **_TRANSFER_MEMBERS},
    "Login": {"firstFactor": _FACTOR},
    "NativeTransfer": _TRANSFER_MEMBERS,
    "NewCredential": {
        "credentialKind": one_of("Key", "Fido2"),
        "credentialInfo": _ATTESTED,
    },
    "PolicyBody": {
        "name": {"minLength": 1, "maxLength": 200},
        "activityKind": {
            **one_of(WALLETS_SIGN, WALLETS_REFILL, *GOVERNING),
            "description": f"all but {WALLETS_SIGN} and {WALLETS_REFILL} have the rule AlwaysTrigger and an action"
            " that asks people; Block too, but for Policies:Modify",
        },
        "rule": RULE,
        "action": ACTION,
        "filters": FILTERS,
    },
    "Tags": {"tags": _TAGS},
    "LiftFreeze": {
        "scope": one_of("all", "wallet", "network", "identity"),
        "subject": {"maxLength": 64, "description": "empty for all"},
        "reason": _REASON,
    },
    "ReseedSigner": {
        "minNonces": {
            "additionalProperties": {"type": "integer", "minimum": 0},
            "description": "of every wallet, by its id: the lowest nonce that may be signed",
        },
        "reason": _REASON,
    },
    "Unfreeze": {"reason": _REASON},
    "UnfreezeNetwork": {"reason": _REASON},
    "UnfreezeAsset": {"reason": _REASON, "asset": {"description": "native, or the contract in lower case"}},
    "UpdatePermission": {"operations": list_of(_OPERATION, least=1)},
    "UpdateWebhook": {
        "url": {"format": "uri"},
        "events": _EVENTS,
        "status": _HOOK_STATUS,
        "description": {"maxLength": DESCRIPTION_MAX},
    },
}
"""Body -> member -> what its type alone does not say."""

_ASSIGNED = members({"permissionId": an_id(ids.PERMISSION), "permissionName": TEXT, "operations": list_of(TEXT)})
_KEY_ON_RECORD = members(
    {
        "credentialUuid": an_id(ids.CREDENTIAL),
        "credentialId": TEXT,
        "name": TEXT,
        "fingerprint": {"type": "string", "description": "SHA-256 of the key's SPKI bytes, in hex"},
        "isActive": FLAG,
    }
)
_ALLOWED = members({"key": list_of(members({"type": TEXT, "id": TEXT})), "webauthn": list_of(ANY_OBJECT)})

_HASH: Schema = {"type": "string", "pattern": "^0x[0-9a-f]{64}$"}
_DIGITS: Schema = {"type": "string", "pattern": "^[0-9]+$"}
_QUOTES = members({"USD": {"type": "number", "minimum": 0}})
_ASSET_FACTS = members({}, {"symbol": TEXT, "decimals": WHOLE, "verified": FLAG, "quotes": _QUOTES})
_FEE_LEVEL = members(
    {
        "maxPriorityFeePerGas": _DIGITS,
        "maxFeePerGas": _DIGITS,
        "withinFeeCap": {"type": "boolean", "description": "false: a payout would wait for the price to fall"},
    }
)
_OFFER: Mapping[str, Schema] = {
    **dict.fromkeys(("gasLimit", "maxFeePerGas", "maxPriorityFeePerGas"), _DIGITS),
    "gasPrice": {**_DIGITS, "description": "on a network without EIP-1559, in the place of the other two"},
}
_ATTEMPT = members(
    {"id": an_id(ids.TRANSACTION), "purpose": one_of("payout", "void"), "gasLimit": _DIGITS},
    {**_OFFER, "txHash": _HASH, "dateSigned": WHEN, "dateBroadcasted": WHEN},
)

OBJECTS: Mapping[str, Schema] = {
    "Challenge": members({"challenge": TEXT, "challengeIdentifier": TEXT, "allowCredentials": _ALLOWED}),
    "RegistrationChallenge": members(
        {"challenge": TEXT, "temporaryAuthenticationToken": TEXT, "user": members({"id": USER, "name": TEXT})}
    ),
    "Registered": members(
        {
            "credential": members({"uuid": an_id(ids.CREDENTIAL), "credentialId": TEXT, "kind": TEXT, "name": TEXT}),
            "user": members({"id": USER, "username": TEXT, "orgId": an_id(ids.ORGANIZATION)}),
        }
    ),
    "Credential": members(
        {
            "credentialId": TEXT,
            "credentialUuid": an_id(ids.CREDENTIAL),
            "kind": TEXT,
            "isActive": FLAG,
            "name": TEXT,
            "publicKey": TEXT,
            "dateCreated": WHEN,
        }
    ),
    "CredentialChallenge": members(
        {"kind": one_of("Key", "Fido2"), "challenge": TEXT, "challengeIdentifier": TEXT, "user": members({"id": USER})}
    ),
    "AccessToken": members(
        {
            "tokenId": an_id(ids.TOKEN),
            "kind": one_of("Pat", "ServiceAccount"),
            "name": TEXT,
            "credId": TEXT,
            "publicKey": TEXT,
            "linkedUserId": USER,
            "orgId": an_id(ids.ORGANIZATION),
            "isActive": FLAG,
            "dateCreated": WHEN,
            "dateExpires": WHEN,
            "permissionAssignments": list_of(_ASSIGNED),
        },
        {
            "accessToken": {"type": "string", "description": "only in the answer that created it"},
            "externalId": TEXT,
        },
    ),
    "User": members(
        {
            "userId": USER,
            "username": TEXT,
            "isActive": FLAG,
            "isServiceAccount": FLAG,
            "isRegistered": FLAG,
            "permissions": list_of(TEXT),
            "permissionAssignments": list_of(_ASSIGNED),
            "credentials": list_of(_KEY_ON_RECORD),
        },
        {
            "mayVote": FLAG,
            "externalId": TEXT,
            "registrationCode": {"type": "string", "description": "only in the answer that invited the person"},
        },
    ),
    "ServiceAccount": members({"userInfo": ref("User"), "accessTokens": list_of(ref("AccessToken"))}),
    "Permission": members(
        {
            "id": an_id(ids.PERMISSION),
            "name": TEXT,
            "operations": list_of(TEXT),
            "isImmutable": FLAG,
            "isArchived": FLAG,
            "dateCreated": WHEN,
            "dateUpdated": WHEN,
        }
    ),
    "Assignment": members({"id": an_id(ids.ASSIGNMENT), "permissionId": an_id(ids.PERMISSION), "identityId": USER}),
    "Wallet": members(
        {
            "id": WALLET,
            "network": TEXT,
            "address": ADDRESS,
            "signingKey": members({"id": TEXT, "scheme": TEXT, "curve": TEXT, "publicKey": TEXT}),
            "status": one_of("Active", "Inactive", "Archived"),
            "dateCreated": WHEN,
            "custodial": FLAG,
            "tags": list_of(TEXT),
        },
        {"name": TEXT, "externalId": TEXT, "frozenReason": TEXT, "drainedReason": TEXT},
    ),
    "WalletAssets": members(
        {
            "walletId": WALLET,
            "network": TEXT,
            "assets": list_of(
                members(
                    {"kind": one_of("Native", "Erc20"), "decimals": WHOLE, "balance": _DIGITS},
                    {"contract": ADDRESS, "symbol": TEXT, "verified": FLAG, "quotes": _QUOTES},
                )
            ),
        },
        {"netWorth": {**_QUOTES, "description": "left out while something in the wallet has no price"}},
    ),
    "HistoryItem": members(
        {
            "walletId": WALLET,
            "direction": one_of("Out"),
            "network": TEXT,
            "blockNumber": WHOLE,
            "txHash": _HASH,
            "timestamp": WHEN,
            "kind": one_of("NativeTransfer", "Erc20Transfer"),
            "from": ADDRESS,
            "to": ADDRESS,
            "value": AMOUNT,
            "metadata": members({"asset": _ASSET_FACTS}, {"fee": _ASSET_FACTS}),
        },
        {"contract": ADDRESS, "fee": _DIGITS, "symbol": TEXT, "decimals": WHOLE, "verified": FLAG},
    ),
    "NetworkFees": members(
        {
            "kind": one_of("Eip1559"),
            "network": TEXT,
            "blockNumber": WHOLE,
            "baseFeePerGas": _DIGITS,
            "slow": _FEE_LEVEL,
            "standard": _FEE_LEVEL,
            "fast": _FEE_LEVEL,
        }
    ),
    "Transfer": members(
        {
            "id": an_id(ids.TRANSFER),
            "walletId": WALLET,
            "network": TEXT,
            "requester": members({"userId": _ASKER}, {"tokenId": an_id(ids.TOKEN)}),
            "requestBody": ANY_OBJECT,
            "metadata": members({"asset": ANY_OBJECT}),
            "status": one_of("Pending", "Executing", "Broadcasted", "Confirmed", "Failed", "Rejected"),
            "dateRequested": WHEN,
        },
        {
            "reason": TEXT,
            "waitingReason": TEXT,
            "flag": TEXT,
            "txHash": _HASH,
            "fee": _DIGITS,
            "datePolicyResolved": WHEN,
            "dateBroadcasted": WHEN,
            "dateConfirmed": WHEN,
            "approvalId": an_id(ids.APPROVAL),
            "externalId": TEXT,
            "mandateId": {**MANDATE, "description": "of a refill, or a recurring payout"},
            "poolId": {**an_id(ids.POOL), "description": "of a payout that names a pool"},
            "replacementId": {**an_id(ids.TRANSACTION), "description": "the cancellation, or the newest speed-up"},
            "details": members({"nonce": WHOLE, "attempts": list_of(_ATTEMPT, least=1)}),
        },
    ),
    "Transaction": members(
        {
            "id": an_id(ids.TRANSACTION),
            "walletId": WALLET,
            "network": TEXT,
            "requester": members({"userId": _ASKER}),
            "requestBody": members(
                {"kind": one_of("Eip1559", "Evm"), "nonce": WHOLE, "value": _DIGITS}, {"to": ADDRESS, **_OFFER}
            ),
            "status": one_of("Executing", "Broadcasted", "Confirmed", "Failed"),
            "dateRequested": WHEN,
            "details": members({"transferId": an_id(ids.TRANSFER), "purpose": one_of("payout", "void")}),
        },
        {"reason": TEXT, "txHash": _HASH, "fee": _DIGITS, "dateBroadcasted": WHEN},
    ),
    "Policy": members(
        {
            "id": POLICY,
            "name": TEXT,
            "activityKind": TEXT,
            "rule": ANY_OBJECT,
            "action": ANY_OBJECT,
            "status": one_of("Active", "Archived"),
            "version": {"type": "integer", "minimum": 1},
        },
        {"filters": ANY_OBJECT, "dateCreated": WHEN, "dateUpdated": WHEN},
    ),
    "Approval": members(
        {
            "id": an_id(ids.APPROVAL),
            "initiatorId": _ASKER,
            "activity": members(
                {"kind": TEXT}, {"transferRequest": ref("Transfer"), "changeRequest": ref("ChangeRequest")}
            ),
            "status": one_of("Pending", "Approved", "Denied", "Expired"),
            "dateCreated": WHEN,
            "policyEvaluations": list_of(ANY_OBJECT),
            "decisions": list_of(members({"userId": USER, "value": one_of("Approved", "Denied"), "date": WHEN})),
        },
        {"expirationDate": WHEN, "dateResolved": WHEN, "dateUpdated": WHEN, "approvalGroups": list_of(ANY_OBJECT)},
    ),
    "ChangeRequest": members(
        {
            "id": an_id(ids.CHANGE),
            "kind": one_of(*sorted({kind for kind, _, _ in NAMES.values()})),
            "operationKind": one_of("Create", "Update", "Delete"),
            "status": one_of("Pending", "Applied", "Failed", "Rejected"),
            "requester": members({"userId": USER, "tokenId": an_id(ids.TOKEN)}),
            "entityId": TEXT,
            "approvalId": an_id(ids.APPROVAL),
            "dateCreated": WHEN,
            "body": ANY_OBJECT,
            "after": ANY_OBJECT,
            "digest": TEXT,
            "loosens": FLAG,
        },
        {"before": {}, "dateResolved": WHEN, "effectiveDate": WHEN, "reason": TEXT},
    ),
    "Webhook": members(
        {
            "id": an_id(ids.WEBHOOK),
            "url": TEXT,
            "events": list_of(TEXT),
            "status": _HOOK_STATUS,
            "dateCreated": WHEN,
            "dateUpdated": WHEN,
        },
        {
            "description": TEXT,
            "secret": {"type": "string", "description": "only in the answer that created it"},
            "oldSecretUntil": {**WHEN, "description": "only beside a new secret: the one before signs too until then"},
            "failingSince": {**WHEN, "description": "nothing was taken since; absent while deliveries are taken"},
            "disabledReason": {**TEXT, "description": "why it was switched off by itself"},
        },
    ),
    "WebhookEvent": members(
        {
            "id": an_id(ids.DELIVERY),
            "kind": TEXT,
            "date": WHEN,
            "data": ANY_OBJECT,
            "status": TEXT,
            "timestampSent": WHOLE,
            "deliveryAttempt": {"type": "integer", "minimum": 1},
            "deliveryFailed": FLAG,
        },
        {"retryOf": an_id(ids.DELIVERY), "error": TEXT, "nextAttemptDate": WHEN},
    ),
    "PayoutProof": exactly(
        {
            "v": {"const": 1},
            "records": list_of(ANY_OBJECT, least=1),
            "payout": ANY_OBJECT,
            "asked": list_of(exactly({"policyId": an_id(ids.POLICY), "version": WHOLE})),
            "decisions": list_of(ANY_OBJECT),
            "transaction": {"type": "string", "pattern": "^0x(?:[0-9a-f]{2})+$"},
        }
    ),
    "Error": members(
        {
            "error": members(
                {
                    "id": TEXT,
                    "status": {"type": "integer", "minimum": 400},
                    "code": {"type": "string", "description": "stable; see the reference of errors"},
                    "message": TEXT,
                    "details": members({}, {"field": {"type": "string", "description": "the member that is wrong"}}),
                }
            ),
            "message": TEXT,
        }
    ),
}
"""Name -> schema of what answers are made of."""
