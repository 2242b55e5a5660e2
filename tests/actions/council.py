"""An organization whose changes wait for people: a payout policy, a wallet under it, and a guard over both."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from outlay.actions import decide as decisions
from outlay.actions import people, permissions, policies
from outlay.actions.act import Act
from outlay.core.seams import SECOND
from outlay.evidence.history import History, verify_history
from outlay.store import changes as change_rows
from outlay.store import organizations
from outlay.store.database import Row
from tests.actions.world import Actor, World

DAY_S = 24 * 3600


def limit(dollars: float) -> dict[str, Any]:
    return {"kind": "TransactionAmountLimit", "configuration": {"limit": dollars, "currency": "USD"}}


def ask(*user_ids: str, quorum: int = 1, timeout: int | None = None, **flags: bool) -> dict[str, Any]:
    group = {"quorum": quorum, "approvers": {"userId": {"in": list(user_ids)}}, **flags}
    return {"kind": "RequestApproval", "autoRejectTimeout": timeout, "approvalGroups": [group]}


def written(kind: str, rule: dict[str, Any], action: dict[str, Any], **filters: Any) -> dict[str, Any]:
    document = {"name": "policy", "activityKind": kind, "rule": rule, "action": action}
    return {**document, "filters": filters} if filters else document


class Council(World):
    """The world, with three approvers, a cap of $100 a payout on the tag ``payouts``, and a guard: two must agree."""

    def __init__(self, folder: Path, *, guarded: bool = True, quorum: int = 2, **options: Any) -> None:
        super().__init__(folder, **options)
        self.first, self.second, self.third = (self.person(f"{n}@approvers.example") for n in ("one", "two", "three"))
        self.approvers = [self.first.user_id, self.second.user_id, self.third.user_id]
        self.paying = self.wallet("payouts")
        self.cap = self.create(
            written("Wallets:Sign", limit(100), {"kind": "Block"}, walletTags={"hasAny": ["payouts"]})
        )
        self.guard = ""
        if guarded:
            self.guard_all(quorum)

    # What somebody does; the answer is the changed object, or the change request that waits.

    def create(self, document: dict[str, Any], *, by: Actor | None = None) -> str:
        made = self.call(
            by or self.admin,
            "POST",
            "/v2/policies",
            document,
            "Policies:Create",
            lambda act: policies.create(act, document),
        )
        return str(made["id"])

    def guard_all(self, quorum: int = 2) -> None:
        self.guard = self.create(
            written("Policies:Modify", {"kind": "AlwaysTrigger"}, ask(*self.approvers, quorum=quorum))
        )

    def replace(self, policy_id: str, document: dict[str, Any], *, by: Actor | None = None) -> Any:
        path = f"/v2/policies/{policy_id}"
        return self.call(
            by or self.admin,
            "PUT",
            path,
            document,
            "Policies:Update",
            lambda act: policies.replace(act, policy_id, document),
        )

    def set_cap(self, dollars: float, *, by: Actor | None = None) -> Any:
        document = written("Wallets:Sign", limit(dollars), {"kind": "Block"}, walletTags={"hasAny": ["payouts"]})
        return self.replace(self.cap, document, by=by)

    def archive(self, policy_id: str, *, by: Actor | None = None) -> Any:
        path = f"/v2/policies/{policy_id}"
        return self.call(
            by or self.admin, "DELETE", path, {}, "Policies:Delete", lambda act: policies.archive(act, policy_id)
        )

    def switch(self, user_id: str, on: bool, *, machine: bool = False, by: Actor | None = None) -> Any:
        noun, verb = ("service-accounts", "ServiceAccounts") if machine else ("users", "Users")
        act_on: Callable[..., Any] = people.activate if on else people.deactivate
        word = "activate" if on else "deactivate"
        return self.call(
            by or self.admin,
            "PUT",
            f"/auth/{noun}/{user_id}/{word}",
            {},
            f"Auth:{verb}:{word.capitalize()}",
            lambda act: act_on(act, user_id, service_account=machine),
        )

    def assign(self, permission_id: str, identity_id: str, *, by: Actor | None = None) -> Any:
        return self.call(
            by or self.admin,
            "POST",
            f"/permissions/{permission_id}/assignments",
            {"identityId": identity_id},
            "Permissions:Assign",
            lambda act: permissions.assign(act, permission_id, identity_id=identity_id),
        )

    def vote(self, change: dict[str, Any], by: Actor, value: str = "Approved") -> Any:
        """Decide about a change request."""
        approval_id = change["approvalId"]

        def decide(act: Act) -> Any:
            return decisions.decide(act, approval_id, value=value, reason=None)

        path = f"/v2/policy-approvals/{approval_id}/decisions"
        return self.call(by, "POST", path, {"value": value}, "Policies:Evaluations:Vote", decide)

    def agree(self, change: dict[str, Any], *by: Actor) -> None:
        """Have people approve a change request, the first two approvers unless others are named."""
        for actor in by or (self.first, self.second):
            self.vote(change, actor)

    # What came of it

    def request(self, change: dict[str, Any]) -> Row:
        with self.unit() as unit:
            return change_rows.get(unit, change["id"])

    def status(self, change: dict[str, Any]) -> str:
        return str(self.request(change).status)

    def wait(self, seconds: int = DAY_S) -> None:
        """Let time pass, and the engine look at what is due; everybody who matters logs in again."""
        self.clock.at += seconds * SECOND
        self.expire()
        self.admin = self.log_in(self.admin)
        self.first, self.second, self.third = (self.log_in(each) for each in (self.first, self.second, self.third))

    def limit_now(self) -> str:
        with self.unit() as unit:
            return str(policies.get(unit, self.cap).rule["configuration"]["limit"])

    def replayed(self) -> History:
        """Replay the chain of records offline."""
        with self.unit() as unit:
            return verify_history(list(organizations.read_records(unit)), self.root)
