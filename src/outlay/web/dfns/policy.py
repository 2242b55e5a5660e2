"""Policies, approvals and decisions."""

from typing import Any

import msgspec
from litestar import Controller, delete, get, post, put

from outlay.actions import policies as actions
from outlay.actions import present, present_changes
from outlay.actions.decide import decide
from outlay.core.errors import InvalidInput, NotFound
from outlay.core.ids import USER, is_id
from outlay.store import approvals, policies
from outlay.web.body import StrictRequest
from outlay.web.dfns.identity import Body
from outlay.web.gate import Gate, page_arguments, query_text

POLICY_STATUSES = ("Active", "Archived")
APPROVAL_STATUSES = ("Pending", "Approved", "Denied", "Expired")


class PolicyBody(Body):
    """A policy, whole."""

    name: str
    activityKind: str
    rule: dict[str, Any]
    action: dict[str, Any]
    filters: dict[str, Any] | None = None
    status: str | None = None  # shown in some guides; ignored

    def document(self) -> dict[str, Any]:
        """Return the policy as its parser takes it."""
        document = msgspec.structs.asdict(self)
        document.pop("status")
        if self.filters is None:
            document.pop("filters")
        return document


class DecisionBody(Body):
    """One person's answer."""

    value: str
    reason: str | None = None


def _one_of(value: str | None, known: tuple[str, ...], field: str) -> str | None:
    if value is not None and value not in known:
        raise InvalidInput("use one of " + ", ".join(known), field=field)
    return value


def _user_id(value: str | None, field: str) -> str | None:
    if value is not None and not is_id(value, USER):
        raise InvalidInput("is the id of a user or service account", field=field)
    return value


class PolicyController(Controller):
    """``/v2/policies``."""

    path = "/v2/policies"
    tags = ("Policies",)

    @get(summary="List policies")
    async def list_(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return one page of policies."""
        page = page_arguments(request)
        status = _one_of(query_text(request, "status"), POLICY_STATUSES, "status")

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            rows, token = policies.list_page(unit, status=status, **page)
            return present.page([present.policy(row) for row in rows], token)

        return await gate.read(request, "Policies:Read", read)

    @post(status_code=200, summary="Create a policy")
    async def create(self, request: StrictRequest, data: PolicyBody, gate: Gate) -> dict[str, Any]:
        """Create a policy; it takes hold at once and counts what has left already."""
        return await gate.write(request, "Policies:Create", lambda act: actions.create(act, data.document()))

    @get("/{policy_id:str}", summary="Read a policy")
    async def read(self, request: StrictRequest, policy_id: str, gate: Gate) -> dict[str, Any]:
        """Return one policy."""

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            return {**present.policy(actions.get(unit, policy_id)), **present_changes.pending(unit, policy_id)}

        return await gate.read(request, "Policies:Read", read)

    @put("/{policy_id:str}", summary="Replace a policy")
    async def replace(self, request: StrictRequest, policy_id: str, data: PolicyBody, gate: Gate) -> dict[str, Any]:
        """Replace a policy whole; a change of its groups reopens the votes that wait for them."""
        return await gate.write(
            request, "Policies:Update", lambda act: actions.replace(act, policy_id, data.document())
        )

    @delete("/{policy_id:str}", status_code=200, summary="Archive a policy")
    async def archive(self, request: StrictRequest, policy_id: str, gate: Gate) -> dict[str, Any]:
        """Take a policy out of use."""
        await request.expect_empty()
        return await gate.write(request, "Policies:Delete", lambda act: actions.archive(act, policy_id))


class ApprovalController(Controller):
    """``/v2/policy-approvals``."""

    path = "/v2/policy-approvals"
    tags = ("Approvals",)

    @get(summary="List approvals")
    async def list_(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return one page of approvals."""
        page = page_arguments(request)
        status = _one_of(query_text(request, "status"), APPROVAL_STATUSES, "status")
        initiator_id = _user_id(query_text(request, "initiatorId", "initiator_id"), "initiatorId")
        approver_id = _user_id(query_text(request, "approverId", "approver_id"), "approverId")

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            rows, token = approvals.list_page(
                unit, status=status, initiator_id=initiator_id, approver_id=approver_id, **page
            )
            return present.page([present_changes.approval(unit, row, gate.config) for row in rows], token)

        return await gate.read(request, "Policies:Evaluations:Read", read)

    @get("/{approval_id:str}", summary="Read an approval")
    async def read(self, request: StrictRequest, approval_id: str, gate: Gate) -> dict[str, Any]:
        """Return one approval with what it is about and what people said."""

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            row = approvals.find(unit, approval_id)
            if row is None:
                raise NotFound("no such approval")
            return present_changes.approval(unit, row, gate.config)

        return await gate.read(request, "Policies:Evaluations:Read", read)

    @post("/{approval_id:str}/decisions", status_code=200, summary="Decide")
    async def decide(self, request: StrictRequest, approval_id: str, data: DecisionBody, gate: Gate) -> dict[str, Any]:
        """Approve or deny; the signature covers the transfer and the groups that are asked."""
        return await gate.write(
            request,
            "Policies:Evaluations:Vote",
            lambda act: decide(act, approval_id, value=data.value, reason=data.reason),
        )
