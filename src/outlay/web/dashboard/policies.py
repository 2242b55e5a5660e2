"""Policies: what each does in words, what it said before and who signed that, and a draft beside what is in force."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from litestar import Controller, Response, get, post

from outlay.actions import policies as actions
from outlay.actions import present, present_changes
from outlay.actions.act import Caller
from outlay.actions.govern import judge_record
from outlay.core.errors import InvalidInput
from outlay.core.policy import (
    PERMISSIONS_ASSIGN,
    PERMISSIONS_MODIFY,
    POLICIES_MODIFY,
    UNFREEZE,
    WALLETS_REFILL,
    WALLETS_SIGN,
    AmountVelocity,
    Policy,
    RequestApproval,
    Velocity,
)
from outlay.core.policy_document import ACTIONS, parse_policy, stored_document, wire_document
from outlay.core.policy_words import asked_people, dollars, policy_words, stretch
from outlay.core.seams import Instant
from outlay.core.tighter import is_tighter
from outlay.evidence import record as records
from outlay.store import changes, figures, organizations, policies, users, wallets
from outlay.store.database import Row, Unit
from outlay.web.body import StrictRequest
from outlay.web.dashboard.desk import ROOT, Desk
from outlay.web.dashboard.difference import difference
from outlay.web.gate import Gate, page_arguments, query_text

READ, SUMS = "Policies:Read", "Policies:Evaluations:Read"
STATUSES = ("Active", "Archived")
TRIGGERS_SHOWN = 10
_NEW: Mapping[str, Any] = {
    "name": "",
    "activityKind": WALLETS_SIGN,
    "rule": {"kind": "TransactionAmountLimit", "configuration": {"limit": 10_000, "currency": "USD"}},
    "action": {
        "kind": "RequestApproval",
        "autoRejectTimeout": 1440,
        "approvalGroups": [{"quorum": 1, "approvers": {}}],
    },
    "filters": {"walletTags": {"hasAny": ["payouts"]}},
}
"""What the form of a new policy begins with."""

_KIND_WORDS: Mapping[str, str] = {
    WALLETS_SIGN: "payouts",
    WALLETS_REFILL: "refills of wallets",
    POLICIES_MODIFY: "changes of policies",
    PERMISSIONS_MODIFY: "changes of permissions",
    PERMISSIONS_ASSIGN: "giving and taking permissions",
    UNFREEZE: "letting go what is frozen",
}


def namer(unit: Unit, caller: Caller) -> Callable[[str], str]:
    """Return what says how people, wallets and policies are called, as far as the caller may know them."""
    known: dict[str, str] = {}

    def named(name: str) -> str:
        if name not in known:
            known[name] = _called(unit, caller, name) or name
        return known[name]

    return named


def _called(unit: Unit, caller: Caller, name: str) -> str | None:
    if name.startswith("wa-"):
        row = wallets.find(unit, name) if "Wallets:Read" in caller.operations else None
        return None if row is None or not row.name else f"{row.name} ({name})"
    user = users.find(unit, name) if "Auth:Users:Read" in caller.operations else None
    return None if user is None else str(user.username)


def _shown(unit: Unit, row: Row, named: Callable[[str], str], used: Mapping[str, float]) -> dict[str, Any]:
    """Return a policy as it is listed."""
    policy = policies.policy_of(row)
    return {
        **present.policy(row),
        "words": policy_words(policy, named),
        "used": used.get(row.id),
        "scope": policy.rule.scope.value if isinstance(policy.rule, Velocity) else None,
        **present_changes.pending(unit, row.id),
    }


def _used(unit: Unit, caller: Caller, now: Instant) -> dict[str, float]:
    """Return how much of each limit is used, for those who may know what was counted."""
    if SUMS not in caller.operations:
        return {}
    return {policy_id: part for (policy_id, _), part in figures.caps_used(unit, now=now).items()}


def _groups(policy: Policy, named: Callable[[str], str]) -> list[dict[str, Any]]:
    groups = policy.action.groups if isinstance(policy.action, RequestApproval) else ()
    return [
        {
            "name": each.name,
            "quorum": each.quorum,
            "anybody": each.approvers is None,
            "people": [{"id": user_id, "name": named(user_id)} for user_id in each.approvers or ()],
            "initiator": each.initiator_can_approve,
            "machines": each.service_accounts_can_approve,
        }
        for each in groups
    ]


def _limits(policy: Policy) -> dict[str, str]:
    """Return the figures of a rule about a stretch of time, as people write them."""
    rule = policy.rule
    if not isinstance(rule, Velocity):
        return {}
    limit = dollars(rule.limit) if isinstance(rule, AmountVelocity) else f"{rule.limit:,} payouts"
    return {"limit": limit, "within": stretch(rule.timeframe)}


def _versions(unit: Unit, policy_id: str, named: Callable[[str], str]) -> list[dict[str, Any]]:
    """Return what the records say about a policy, newest first: each version, and who signed it."""
    found = []
    for record in organizations.records_about(unit, policy_id):
        kind, body, change = record["kind"], record["body"], None
        if kind == records.CHANGE_APPLIED:
            kind, body, change = body["kind"], body["body"], body["change"]
        if kind not in (records.POLICY_CREATED, records.POLICY_UPDATED, records.POLICY_ARCHIVED):
            continue
        asked = None if change is None else changes.find(unit, change)
        evidence = record["evidence"]
        signer = evidence["credential"]["userId"] if evidence else None if asked is None else asked.requester_id
        found.append(
            {
                "version": body["version"],
                "what": kind.partition(".")[2],
                "at": record["at"],
                "by": None if signer is None else named(signer),
                "approvalId": None if asked is None else asked.approval_id,
                "document": {name: value for name, value in body.items() if name != "version"},
            }
        )
    return found


def _people(unit: Unit, caller: Caller, policy: Policy | None) -> list[dict[str, str]]:
    """Return whom a form offers as approvers: the people, and everybody the policy names."""
    listed = set() if policy is None else set(asked_people(policy))
    if "Auth:Users:Read" not in caller.operations:
        return [{"id": user_id, "name": user_id} for user_id in sorted(listed)]
    rows = [row for row in users.everyone(unit) if row.deleted_at is None]
    shown = [row for row in rows if row.id in listed or (row.is_active and not row.is_service_account)]
    return [{"id": row.id, "name": row.username} for row in sorted(shown, key=lambda row: str(row.username))]


def _draft(unit: Unit, caller: Caller, policy: Policy | None) -> dict[str, Any]:
    """Return what the form of a policy needs."""
    tags = (
        {tag for names in wallets.all_tags(unit).values() for tag in names}
        if "Wallets:Read" in caller.operations
        else ()
    )
    return {
        "policy": policy,
        "draft": json.dumps(_NEW if policy is None else wire_document(policy), indent=2, ensure_ascii=False),
        "words": None if policy is None else policy_words(policy, namer(unit, caller)),
        "people": _people(unit, caller, policy),
        "tags": sorted(tags),
        "kinds": {kind: list(actions_) for kind, actions_ in ACTIONS.items()},
        "kind_words": _KIND_WORDS,
    }


def _checked(gate: Gate, unit: Unit, caller: Caller, payload: dict[str, Any], now: Instant) -> dict[str, Any]:
    """Return what would come of a draft, if it were signed now; nothing is done."""
    policy_id, document = payload.get("policyId"), payload.get("policy")
    if set(payload) - {"policyId", "policy"} or not isinstance(document, dict):
        raise InvalidInput("send policy, and policyId where it replaces one", field="policy")
    before: Policy | None = None
    if policy_id is None:
        policy = parse_policy(document, id="draft", version=1)
        actions.check(unit, gate.config, policy)
    elif isinstance(policy_id, str):
        policy = actions.read_replacement(unit, gate.config, policy_id, document)
        before = policies.policy_of(actions.get(unit, policy_id))
    else:
        raise InvalidInput("is the id of a policy", field="policyId")
    kind = records.POLICY_CREATED if before is None else records.POLICY_UPDATED
    body = {"version": policy.version, **stored_document(policy)}
    judged = judge_record(unit, kind=kind, subject=policy.id, body=body, now=now)
    named, after = namer(unit, caller), wire_document(policy)
    was = None if before is None else wire_document(before)
    return {
        "words": policy_words(policy, named),
        "wordsBefore": None if before is None else policy_words(before, named),
        "lines": difference(was, after),
        "isSame": was == after,
        "version": None if before is None else before.version,
        "opens": gate.config.policies.default == "block" and policy.activity_kind == WALLETS_SIGN,
        "isTighter": None if before is None else is_tighter(before, policy, default=gate.config.policies.default),
        "asks": [] if judged is None else [each.name for each in judged[1].holding],
        "blocks": [] if judged is None else [each.name for each in judged[1].blocking],
        "waitsAfter": judged is not None and bool(judged[1].holding) and judged[1].loosens,
    }


class PolicyPages(Controller):
    """``/dashboard/policies``."""

    path = f"{ROOT}/policies"

    @get()
    async def list_(self, request: StrictRequest, desk: Desk) -> Response[str]:
        """List policies, each in words."""
        now = desk.gate.clock.now()

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            page, status = page_arguments(request), query_text(request, "status") or "Active"
            if status not in (*STATUSES, "all"):
                raise InvalidInput("use one of " + ", ".join((*STATUSES, "all")), field="status")
            rows, token = policies.list_page(unit, status=None if status == "all" else status, **page)
            named, used = namer(unit, caller), _used(unit, caller, now)
            return {
                "items": [_shown(unit, row, named, used) for row in rows],
                "token": token,
                "showing": status,
                "default": desk.gate.config.policies.default,
            }

        return await desk.page(request, "policies.html", READ, load, title="Policies")

    @get("/new")
    async def new(self, request: StrictRequest, desk: Desk) -> Response[str]:
        """Show the form of a new policy."""
        return await desk.page(
            request,
            "policy_edit.html",
            (READ, "Policies:Create"),
            lambda unit, caller: _draft(unit, caller, None),
            title="New policy",
        )

    @get("/{policy_id:str}")
    async def read(self, request: StrictRequest, desk: Desk, policy_id: str) -> Response[str]:
        """Show one policy: what it says and said, who signed it, and where it triggered lately."""
        now = desk.gate.clock.now()

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            row = actions.get(unit, policy_id)
            policy, named = policies.policy_of(row), namer(unit, caller)
            may_see = SUMS in caller.operations
            return {
                "policy": _shown(unit, row, named, _used(unit, caller, now)),
                "document": wire_document(policy),
                "groups": _groups(policy, named),
                "limits": _limits(policy),
                "versions": _versions(unit, policy_id, named),
                "triggers": policies.triggered_lately(unit, policy_id, limit=TRIGGERS_SHOWN) if may_see else None,
            }

        return await desk.page(request, "policy.html", READ, load, title="Policy")

    @get("/{policy_id:str}/edit")
    async def edit(self, request: StrictRequest, desk: Desk, policy_id: str) -> Response[str]:
        """Show the form that drafts another version."""

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            row = actions.get(unit, policy_id)
            return _draft(unit, caller, policies.policy_of(row))

        return await desk.page(request, "policy_edit.html", (READ, "Policies:Update"), load, title="Change a policy")

    @post("/check", status_code=200)
    async def check(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Tell what a draft would change and who would have to agree; a read, whatever its method."""
        payload, now = await request.payload(), gate.clock.now()
        return await gate.read(request, READ, lambda unit, caller: _checked(gate, unit, caller, payload, now))
