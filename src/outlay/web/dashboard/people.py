"""People: who is invited, whose votes count and why, with which keys, and what they may do."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from litestar import Controller, Response, get

from outlay.actions import present, present_changes
from outlay.actions.act import Caller
from outlay.actions.govern import eligible, voters
from outlay.core.errors import NotFound
from outlay.core.policy import RequestApproval
from outlay.core.seams import Instant
from outlay.evidence.keys import fingerprint
from outlay.store import audit, organizations, permissions, policies, users
from outlay.store.database import Row, Unit
from outlay.web.body import StrictRequest
from outlay.web.dashboard.desk import ROOT, Desk
from outlay.web.gate import page_arguments

READ = "Auth:Users:Read"
_PERMISSIONS_MAX = 500


def keys_of(unit: Unit, user_id: str) -> list[dict[str, Any]]:
    """Return the keys of somebody, each with its fingerprint and the change about it that waits for people."""
    return [
        {
            **present.credential(row),
            "fingerprint": fingerprint(row.public_key),
            **present_changes.pending(unit, row.id),
        }
        for row in users.own_keys_of(unit, user_id)
    ]


def standing(row: Row, now: Instant) -> tuple[str, str]:
    """Return a person's state in a word, and what it means for their votes.

    Args:
        row: the person.
        now: microseconds UTC.
    """
    if not row.is_active:
        return "off", "Switched off: signs in nowhere, and no vote counts."
    if not row.is_registered:
        is_over = row.registration_expires_at is not None and row.registration_expires_at <= now
        if is_over:
            return "invitation expired", "Never registered, and the invitation is over: remove and invite again."
        return "invited", "Has not registered a key yet."
    if not row.may_vote:
        return "not let in", "Registered, but nobody has vouched for the key: no vote counts yet."
    return "active", "Votes count."


def may_be_given(unit: Unit, caller: Caller, user_id: str) -> list[dict[str, Any]]:
    """Return the permissions that the caller could give somebody who does not hold them yet."""
    if not {"Permissions:Read", "Permissions:Assign"} <= caller.operations:
        return []
    held = {row.permission_id for row in permissions.held_by(unit, user_id)}
    rows, _ = permissions.list_page(unit, limit=_PERMISSIONS_MAX, token=None)
    return [
        present.permission(row) for row in rows if row.id not in held and set(row.operations) <= set(caller.operations)
    ]


def named_in(unit: Unit, user_id: str) -> list[dict[str, Any]]:
    """Return the policies whose groups list somebody, and how many would be left to agree without them."""
    others = {other: person for other, person in voters(unit).items() if other != user_id}
    found: list[dict[str, Any]] = []
    for policy in policies.active_policies(unit):
        for group in policy.action.groups if isinstance(policy.action, RequestApproval) else ():
            left = eligible(group, others)
            is_listed = group.approvers is not None and user_id in group.approvers
            # A group of anybody names nobody: it matters here only where this person is needed for it.
            if not is_listed and (group.approvers is not None or left >= group.quorum):
                continue
            found.append(
                {
                    "id": policy.id,
                    "policy": policy.name,
                    "group": group.name,
                    "quorum": group.quorum,
                    "left": left,
                    "is_unreachable": left < group.quorum,
                }
            )
    return found


def last_seen(unit: Unit, user_ids: Collection[str]) -> Mapping[str, Instant]:
    """Return when each was last seen: signed in, or did something that the newest part of the audit log tells."""
    acts, sessions = audit.last_acts(unit, user_ids), users.last_sessions(unit, user_ids)
    return {each: max(acts.get(each, 0), sessions.get(each, 0)) for each in {*acts, *sessions}}


def _listed(unit: Unit, rows: Sequence[Row], now: Instant) -> list[dict[str, Any]]:
    org, seen = organizations.get(unit), last_seen(unit, [row.id for row in rows])
    listed = []
    for row in rows:
        word, meaning = standing(row, now)
        shown = present.user(unit, row, org.id)
        listed.append({**shown, "state": word, "meaning": meaning, "seen": seen.get(row.id)})
    return listed


class PeoplePages(Controller):
    """``/dashboard/people``."""

    path = f"{ROOT}/people"

    @get()
    async def people(self, request: StrictRequest, desk: Desk) -> Response[str]:
        """List people."""
        now = desk.gate.clock.now()

        def load(unit: Unit, _caller: Caller) -> dict[str, Any]:
            rows, token = users.list_page(unit, service_accounts=False, **page_arguments(request))
            return {
                "people": _listed(unit, rows, now),
                "next": token,
            }

        return await desk.page(request, "people.html", READ, load, title="People")

    @get("/{user_id:str}")
    async def person(self, request: StrictRequest, user_id: str, desk: Desk) -> Response[str]:
        """Show one person: keys, what they may do, and which policies name them."""
        now = desk.gate.clock.now()

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            row = users.find(unit, user_id)
            if row is None or row.is_service_account:
                raise NotFound("there is no such person")
            may_read_policies = "Policies:Read" in caller.operations
            return {
                "person": _listed(unit, [row], now)[0],
                "expires": row.registration_expires_at,
                "keys": keys_of(unit, user_id),
                "named": named_in(unit, user_id) if may_read_policies else [],
                "given": may_be_given(unit, caller, user_id),
                "pending": present_changes.pending(unit, user_id).get("pendingChangeRequest"),
            }

        return await desk.page(request, "person.html", READ, load, title="Person")
