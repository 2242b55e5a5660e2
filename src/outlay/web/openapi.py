"""The published description of the API.

The framework knows routes and the types of bodies. What it cannot know is added here: who may call, what is
refused and how, what the texts may hold, and what comes back.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig

from outlay import __version__
from outlay.core import errors, ids
from outlay.core.event import EVENT_KINDS
from outlay.web.v1 import (
    audit_shapes,
    batch_shapes,
    event_data,
    event_shapes,
    mandate_shapes,
    payout_shapes,
    pool_shapes,
)
from outlay.web.wire import (
    ADDRESS,
    ANY_OBJECT,
    BODIES,
    FLAG,
    OBJECTS,
    TEXT,
    USER,
    WHOLE,
    Schema,
    an_id,
    exactly,
    list_of,
    members,
    one_of,
    page,
    ref,
)

OPEN = frozenset(
    {
        "/health/live",
        "/health/ready",
        "/v1/health",
        "/v1/webhook-key",
        "/auth/credentials/code/init",
        "/auth/credentials/code/verify",
        "/auth/login/init",
        "/auth/login",
        "/auth/registration/init",
    }
)
"""Paths that need no bearer token."""

UNSIGNED = OPEN | {
    "/auth/action/init",
    "/auth/action",
    "/auth/credentials/init",
    "/auth/logout",
    "/auth/registration",
    *batch_shapes.UNSIGNED,
}
"""Writes that need no user action."""

_PREFIXES = {
    "wallet": ids.WALLET,
    "transfer": ids.TRANSFER,
    "user": ids.USER,
    "credential": ids.CREDENTIAL,
    "token": ids.TOKEN,
    "permission": ids.PERMISSION,
    "assignment": ids.ASSIGNMENT,
    "policy": ids.POLICY,
    "approval": ids.APPROVAL,
    "webhook": ids.WEBHOOK,
    "event": ids.DELIVERY,
    "change": ids.CHANGE,
    "freeze": ids.FREEZE,
    "mandate": f"({ids.MANDATE}|{ids.SCHEDULE})",
    "pool": ids.POOL,
    "payout": ids.TRANSFER,
    "batch": ids.BATCH,
}
_PARAMETER, _SUFFIX = re.compile(r"\{(\w+)_(id|uuid)\}"), re.compile(r"(Id|Uuid)$")
_NAMING = (
    "/v1/payouts",
    "/v1/batches",
    "/v1/batches/check",
    "/v1/assets/unfreeze",
    "/v1/networks/unfreeze",
    "/auth/credentials/activate",
    "/auth/credentials/deactivate",
)
"""Paths whose body names what they are about."""

_PAGED: Mapping[str, Schema] = {"limit": {"type": "integer", "minimum": 1, "maximum": 500}, "paginationToken": TEXT}

QUERIES: Mapping[tuple[str, str], Mapping[str, Schema]] = {
    ("get", "/auth/users"): {**_PAGED, "kind": one_of("CustomerEmployee", "EndUser", "TenantUser")},
    ("get", "/permissions"): _PAGED,
    ("get", "/permissions/{permissionId}/assignments"): _PAGED,
    ("delete", "/permissions/{permissionId}/assignments/{assignmentId}"): {"force": FLAG},
    ("delete", "/auth/service-accounts/{userId}"): {"force": FLAG},
    ("get", "/wallets"): _PAGED,
    ("get", "/wallets/{walletId}/assets"): {"netWorth": FLAG},
    ("get", "/wallets/{walletId}/history"): {
        **_PAGED,
        "direction": one_of("In", "Out"),
        "kind": one_of("NativeTransfer", "Erc20Transfer"),
        "contract": ADDRESS,
    },
    ("get", "/wallets/{walletId}/transfers"): _PAGED,
    ("get", "/networks/fees"): {"network": {**TEXT, "description": "a configured network; required"}},
    ("get", "/v2/policies"): {**_PAGED, "status": one_of("Active", "Archived")},
    ("get", "/v2/policy-approvals"): {
        **_PAGED,
        "status": one_of("Pending", "Approved", "Denied", "Expired"),
        "initiatorId": USER,
        "approverId": USER,
    },
    ("get", "/v1/changes"): {**_PAGED, "status": one_of("Pending", "Applied", "Failed", "Rejected")},
    ("get", "/v1/mandates"): {
        **_PAGED,
        "status": one_of("Active", "Archived"),
        "kind": {**one_of("Recurring", "Refill"), "description": "Refill: all that fill wallets"},
    },
    ("get", "/v1/mandates/{mandateId}/runs"): {**_PAGED, "status": one_of("Due", "Made", "Missed")},
    ("get", "/v1/pools"): _PAGED,
    ("get", "/v1/mandates/{mandateId}/proposals"): {
        **_PAGED,
        "status": one_of("Open", "Fulfilled", "Withdrawn"),
    },
    ("get", "/webhooks"): _PAGED,
    **audit_shapes.QUERIES,
    **batch_shapes.QUERIES,
    **payout_shapes.QUERIES,
    **event_shapes.QUERIES,
    ("get", "/webhooks/{webhookId}/events"): {**_PAGED, "kind": one_of(*EVENT_KINDS), "deliveryFailed": FLAG},
}
"""What the query may hold. Of a write it changes nothing."""

_DELETED = exactly({"deleted": {"const": True}})
_CONFIG = members({"moneySettings": ANY_OBJECT, "digest": TEXT, "applied": FLAG}, {"appliedDigest": TEXT})

ANSWERS: Mapping[tuple[str, str], Schema] = {
    ("post", "/auth/action/init"): ref("Challenge"),
    ("post", "/auth/action"): members({"userAction": TEXT}),
    ("get", "/auth/credentials"): members({"items": list_of(ref("Credential"))}),
    ("post", "/auth/credentials/init"): ref("CredentialChallenge"),
    ("post", "/auth/credentials"): ref("Credential"),
    ("post", "/auth/credentials/code"): exactly({"code": TEXT, "expiration": TEXT}),
    ("post", "/auth/credentials/code/init"): ref("CredentialChallenge"),
    ("post", "/auth/credentials/code/verify"): ref("Credential"),
    ("put", "/auth/credentials/activate"): members({"message": TEXT}),
    ("put", "/auth/credentials/deactivate"): members({"message": TEXT}),
    ("delete", "/auth/credentials/{credentialUuid}"): exactly({}),
    ("get", "/auth/pats"): members({"items": list_of(ref("AccessToken"))}),
    ("post", "/auth/pats"): ref("AccessToken"),
    ("get", "/auth/pats/{tokenId}"): ref("AccessToken"),
    ("put", "/auth/pats/{tokenId}"): ref("AccessToken"),
    ("put", "/auth/pats/{tokenId}/activate"): ref("AccessToken"),
    ("put", "/auth/pats/{tokenId}/deactivate"): ref("AccessToken"),
    ("delete", "/auth/pats/{tokenId}"): ref("AccessToken"),
    ("post", "/auth/registration/init"): ref("RegistrationChallenge"),
    ("post", "/auth/registration"): ref("Registered"),
    ("post", "/auth/login/init"): ref("Challenge"),
    ("post", "/auth/login"): members({"token": TEXT}),
    ("put", "/auth/logout"): members({"message": TEXT}),
    ("get", "/auth/users"): page("User"),
    ("post", "/auth/users"): ref("User"),
    ("get", "/auth/users/{userId}"): ref("User"),
    ("put", "/auth/users/{userId}/activate"): ref("User"),
    ("put", "/auth/users/{userId}/deactivate"): ref("User"),
    ("delete", "/auth/users/{userId}"): ref("User"),
    ("post", "/v1/users/{userId}/recovery"): exactly({"user": ref("User"), "code": TEXT, "expiration": TEXT}),
    ("get", "/auth/service-accounts"): members({"items": list_of(ref("ServiceAccount"))}),
    ("post", "/auth/service-accounts"): ref("ServiceAccount"),
    ("get", "/auth/service-accounts/{userId}"): ref("ServiceAccount"),
    ("put", "/auth/service-accounts/{userId}"): ref("ServiceAccount"),
    ("put", "/auth/service-accounts/{userId}/activate"): ref("ServiceAccount"),
    ("put", "/auth/service-accounts/{userId}/deactivate"): ref("ServiceAccount"),
    ("delete", "/auth/service-accounts/{userId}"): ref("ServiceAccount"),
    ("get", "/permissions"): page("Permission"),
    ("post", "/permissions"): ref("Permission"),
    ("get", "/permissions/{permissionId}"): ref("Permission"),
    ("put", "/permissions/{permissionId}"): ref("Permission"),
    ("put", "/permissions/{permissionId}/archive"): ref("Permission"),
    ("delete", "/permissions/{permissionId}"): ref("Permission"),
    ("get", "/permissions/{permissionId}/assignments"): page("Assignment"),
    ("post", "/permissions/{permissionId}/assignments"): ref("Assignment"),
    ("delete", "/permissions/{permissionId}/assignments/{assignmentId}"): ref("Assignment"),
    ("get", "/wallets"): page("Wallet"),
    ("post", "/wallets"): ref("Wallet"),
    ("get", "/wallets/{walletId}"): ref("Wallet"),
    ("put", "/wallets/{walletId}"): ref("Wallet"),
    ("get", "/wallets/{walletId}/assets"): ref("WalletAssets"),
    ("get", "/wallets/{walletId}/history"): page("HistoryItem", {"walletId": an_id(ids.WALLET), "network": TEXT}),
    ("get", "/networks/fees"): ref("NetworkFees"),
    ("put", "/wallets/{walletId}/tags"): exactly({}),
    ("delete", "/wallets/{walletId}/tags"): exactly({}),
    ("get", "/wallets/{walletId}/transfers"): page("Transfer", {"walletId": an_id(ids.WALLET)}),
    ("post", "/wallets/{walletId}/transfers"): ref("Transfer"),
    ("get", "/wallets/{walletId}/transfers/{transferId}"): ref("Transfer"),
    ("put", "/wallets/{walletId}/transfers/{transferId}/abort"): ref("Transfer"),
    ("post", "/wallets/{walletId}/transfers/{transferId}/cancel"): ref("Transaction"),
    ("post", "/wallets/{walletId}/transfers/{transferId}/speed-up"): ref("Transaction"),
    ("get", "/v2/policies"): page("Policy"),
    ("post", "/v2/policies"): ref("Policy"),
    ("get", "/v2/policies/{policyId}"): ref("Policy"),
    ("put", "/v2/policies/{policyId}"): ref("Policy"),
    ("delete", "/v2/policies/{policyId}"): ref("Policy"),
    ("get", "/v2/policy-approvals"): page("Approval"),
    ("get", "/v2/policy-approvals/{approvalId}"): ref("Approval"),
    ("post", "/v2/policy-approvals/{approvalId}/decisions"): ref("Approval"),
    ("get", "/webhooks"): page("Webhook"),
    ("post", "/webhooks"): ref("Webhook"),
    ("get", "/webhooks/{webhookId}"): ref("Webhook"),
    ("put", "/webhooks/{webhookId}"): ref("Webhook"),
    ("delete", "/webhooks/{webhookId}"): _DELETED,
    ("post", "/webhooks/{webhookId}/ping"): members({"status": TEXT}, {"error": TEXT}),
    ("get", "/webhooks/{webhookId}/events"): page("WebhookEvent"),
    ("get", "/webhooks/{webhookId}/events/{eventId}"): ref("WebhookEvent"),
    ("get", "/health/live"): members({"status": {"const": "live"}}),
    ("get", "/health/ready"): members({"status": {"const": "ready"}}),
    ("get", "/v1/health"): members({"status": one_of("ok", "recovering"), "admitting": FLAG}),
    ("get", "/v1/webhook-key"): members({"publicKey": TEXT}),
    ("get", "/v1/config"): _CONFIG,
    ("put", "/v1/config"): members({"applied": FLAG, "moneySettings": TEXT, "record": TEXT}),
    ("put", "/v1/wallets/{walletId}/unfreeze"): ref("Wallet"),
    ("put", "/v1/assets/unfreeze"): members({"network": TEXT, "asset": TEXT}),
    ("get", "/v1/freezes"): members(
        {name: list_of(ANY_OBJECT) for name in ("freezes", "wallets", "assets", "networks")},
    ),
    ("put", "/v1/freezes/{freezeId}/lift"): members({"freezeId": TEXT, "scope": TEXT, "subject": TEXT}),
    ("put", "/v1/networks/unfreeze"): members({"network": TEXT}),
    ("get", "/v1/signer"): members({"journalId": TEXT, "seeded": FLAG, "minNonces": ANY_OBJECT}),
    ("put", "/v1/signer/reseed"): members({"journalId": TEXT, "minNonces": ANY_OBJECT}),
    ("get", "/v1/reconciliation"): members({"agrees": FLAG, "wallets": list_of(ANY_OBJECT)}),
    ("get", "/v1/mandates"): page("Mandate"),
    ("post", "/v1/mandates"): ref("Mandate"),
    ("get", "/v1/mandates/{mandateId}"): ref("Mandate"),
    ("get", "/v1/mandates/{mandateId}/proposals"): page("RefillProposal"),
    ("get", "/v1/mandates/{mandateId}/runs"): page("MandateRun", mandate_shapes.NEXT),
    ("post", "/v1/mandates/{mandateId}/archive"): ref("Mandate"),
    ("get", "/v1/pools"): page("Pool"),
    ("post", "/v1/pools"): ref("Pool"),
    ("get", "/v1/pools/{poolId}"): ref("PoolHealth"),
    ("post", "/v1/pools/{poolId}/archive"): ref("Pool"),
    ("post", "/v1/wallets/{walletId}/drain"): ref("Wallet"),
    ("post", "/v1/wallets/{walletId}/resume"): ref("Wallet"),
    ("get", "/v1/changes"): page("ChangeRequest"),
    ("get", "/v1/changes/{changeId}"): ref("ChangeRequest"),
    ("get", "/v1/records"): members({"orgId": an_id(ids.ORGANIZATION), "root": TEXT, "head": TEXT, "seq": WHOLE}),
    ("get", "/v1/evidence/transfers/{transferId}"): ref("PayoutProof"),
    ("get", "/v1/ledger"): members({"accounts": list_of(ANY_OBJECT)}),
    **audit_shapes.ANSWERS,
    **batch_shapes.ANSWERS,
    **payout_shapes.ANSWERS,
    **event_shapes.ANSWERS,
}
"""Operation -> what a success answers."""

MAY_WAIT = frozenset(
    {
        ("post", "/v2/policies"),
        ("put", "/v2/policies/{policyId}"),
        ("delete", "/v2/policies/{policyId}"),
        ("put", "/permissions/{permissionId}"),
        ("put", "/permissions/{permissionId}/archive"),
        ("delete", "/permissions/{permissionId}"),
        ("post", "/permissions/{permissionId}/assignments"),
        ("delete", "/permissions/{permissionId}/assignments/{assignmentId}"),
        ("put", "/auth/users/{userId}/activate"),
        ("put", "/auth/service-accounts/{userId}/activate"),
        ("put", "/auth/credentials/activate"),
        ("put", "/auth/pats/{tokenId}/activate"),
        ("post", "/wallets"),
        ("post", "/v1/mandates"),
        ("put", "/wallets/{walletId}/tags"),
        ("delete", "/wallets/{walletId}/tags"),
        ("put", "/v1/config"),
        ("put", "/v1/wallets/{walletId}/unfreeze"),
        ("put", "/v1/assets/unfreeze"),
        ("put", "/v1/networks/unfreeze"),
        ("put", "/v1/freezes/{freezeId}/lift"),
        ("put", "/v1/signer/reseed"),
    }
)
"""Operations that answer 202 with a change request where a governing policy asks people first."""

EXTRA_BODIES: Mapping[tuple[str, str], Schema] = {
    ("put", "/auth/service-accounts/{userId}/deactivate"): exactly({}, {"force": FLAG}),
    ("put", "/auth/users/{userId}/activate"): exactly({}, {"fingerprints": list_of(TEXT)}),
    ("post", "/v1/users/{userId}/recovery"): exactly({}, {"reason": TEXT}),
}
"""Bodies that a route reads by itself."""

_REFUSALS = {
    400: errors.InvalidInput,
    401: errors.NotAuthenticated,
    403: errors.NotPermitted,
    404: errors.NotFound,
    409: errors.Conflict,
    412: errors.PreconditionFailed,
    413: errors.BodyTooLarge,
    415: errors.UnsupportedMediaType,
    503: errors.Unavailable,
}


EVERY_BODY = {
    **BODIES,
    **audit_shapes.BODIES,
    **batch_shapes.BODIES,
    **mandate_shapes.BODIES,
    **payout_shapes.BODIES,
    **pool_shapes.BODIES,
    **event_shapes.BODIES,
}
EVERY_OBJECT = {
    **OBJECTS,
    **audit_shapes.OBJECTS,
    **batch_shapes.OBJECTS,
    **mandate_shapes.OBJECTS,
    **payout_shapes.OBJECTS,
    **pool_shapes.OBJECTS,
    **event_shapes.OBJECTS,
}
"""What the framework cannot know about bodies, and what answers hold, by name; each area tells its own."""


def document(routes: Router) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of ``routes``."""
    config = OpenAPIConfig(title="Outlay", version=__version__, use_handler_docstrings=True)
    dependencies = {name: _nothing() for name in ("gate", "signer", "courier", "chains", "reconciler")}
    raw = Litestar(
        route_handlers=[routes], dependencies=dependencies, openapi_config=config, logging_config=None
    ).openapi_schema.to_schema()
    schemas = {name: _strict(name, schema) for name, schema in raw["components"]["schemas"].items()}
    return {
        **raw,
        "webhooks": event_data.webhooks(),
        "paths": {_camel(path): _path(_camel(path), item) for path, item in sorted(raw["paths"].items())},
        "components": {
            "schemas": dict(sorted({**schemas, **EVERY_OBJECT}.items())),
            "responses": {str(status): _refusal(kind) for status, kind in _REFUSALS.items()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "userAction": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-DFNS-USERACTION",
                    "description": "single use; from POST /auth/action, for exactly this method, path and body",
                },
                "httpSignature": payout_shapes.SCHEME,
            },
        },
    }


def _nothing() -> Provide:
    """Return a stand-in for what routes are given; it is never asked."""
    return Provide(lambda: None, sync_to_thread=False)


def operations(described: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and operation of everything a document describes."""
    for path, item in described["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def _camel(path: str) -> str:
    return _PARAMETER.sub(lambda match: f"{{{match[1]}{match[2].capitalize()}}}", path)


def _strict(name: str, schema: Schema) -> Schema:
    """Return the schema of a body: no other members, and what its texts may hold."""
    known = EVERY_BODY.get(name, {})
    properties = {member: _narrow(was, known.get(member)) for member, was in schema["properties"].items()}
    return {**schema, "properties": properties, "additionalProperties": False}


def _narrow(schema: Schema, more: Schema | None) -> Schema:
    if more is None:
        return schema
    if "oneOf" in schema:  # the member may be null
        return {
            **schema,
            "oneOf": [_narrow(each, more) if each.get("type") != "null" else each for each in schema["oneOf"]],
        }
    if "oneOf" in more or "properties" in more:
        return more
    return {**schema, **more}


def _path(path: str, item: dict[str, Any]) -> dict[str, Any]:
    return {method: _operation(method, path, operation) for method, operation in item.items()}


def _operation(method: str, path: str, raw: dict[str, Any]) -> dict[str, Any]:
    key = (method, path)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": an_id(_PREFIXES[_SUFFIX.sub("", name)])}
        for name in re.findall(r"\{(\w+)\}", path)
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in QUERIES.get(key, {}).items()
    ]
    refusals = {str(status): {"$ref": f"#/components/responses/{status}"} for status in _statuses(method, path)}
    success: dict[str, Any] = {
        "description": "Done" if method != "get" else "Found",
        "content": {batch_shapes.FILES.get(key, "application/json"): {"schema": ANSWERS.get(key, ANY_OBJECT)}},
    }
    waits = {}
    if key in MAY_WAIT:
        held = {"application/json": {"schema": ref("ChangeRequest")}}
        waits = {"202": {"description": "Waits for approval; nothing has changed yet", "content": held}}
    asked, answered = payout_shapes.EXAMPLES.get(key, (None, None))
    if answered is not None:
        success["content"]["application/json"]["example"] = answered
    if asked is not None:
        raw["requestBody"]["content"]["application/json"]["example"] = asked
    described: dict[str, Any] = {
        **{name: raw[name] for name in ("tags", "summary", "description", "operationId", "requestBody") if name in raw},
        "parameters": parameters,
        "security": _security(method, path),
        "responses": {"200": success, **waits, **refusals},
    }
    if key in EXTRA_BODIES:
        described["requestBody"] = {"content": {"application/json": {"schema": EXTRA_BODIES[key]}}, "required": False}
    return described


def _security(method: str, path: str) -> list[dict[str, list[str]]]:
    if path in OPEN:
        return []
    if method == "get" or path in UNSIGNED:
        return [{"bearer": []}]
    both: dict[str, list[str]] = {"bearer": [], "userAction": []}
    message: dict[str, list[str]] = {"httpSignature": []}
    if (method, path) in payout_shapes.ONLY_MESSAGES:
        return [message]
    return [both, message] if (method, path) in payout_shapes.MESSAGES | batch_shapes.MESSAGES else [both]


def _statuses(method: str, path: str) -> list[int]:
    """Return the refusals an operation may answer."""
    wanted = {400, 503}
    if path not in OPEN or path.startswith("/auth/"):
        wanted |= {401, 403}
    if "{" in path or path in _NAMING:
        wanted.add(404)
    if path == "/v1/evidence/transfers/{transferId}":
        wanted.add(412)
    if method != "get":
        wanted |= {409, 413, 415} | (set() if path in UNSIGNED else {412})
    return sorted(wanted)


def _refusal(kind: type[errors.OutlayError]) -> dict[str, Any]:
    content = {"application/json": {"schema": ref("Error")}}
    return {"description": (kind.__doc__ or "").strip().splitlines()[0], "content": content}
