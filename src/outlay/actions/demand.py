"""What justifies a payout, out of the rows: the signed request, and the signed approvals that count now.

The signer believes none of it because it was sent: it checks every signature against its own copy of the records.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from outlay.actions.judge import may_still_vote, people
from outlay.core.errors import InvariantBroken
from outlay.core.policy import Policy, required_groups
from outlay.core.policy_document import parse_policy, read_policy
from outlay.evidence import record as records
from outlay.evidence.demand import order, portable
from outlay.evidence.mandated import mandate_call
from outlay.store import approvals, evidence, organizations, policies
from outlay.store.database import Row, Unit


def demand_of(unit: Unit, row: Row) -> dict[str, Any]:
    """Return ``payout``, ``asked`` and ``decisions`` of a transfer, as ``signer.Demand`` takes them.

    Raises:
        InvariantBroken: the signed request of the transfer is not stored.
    """
    return demands_of(unit, [row])[row.id]


def demands_of(unit: Unit, rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return what ``demand_of`` does of each transfer, by its id."""
    asked = approvals.of_many(unit, [row.id for row in rows])
    documents = evidence.of_many(unit, [row.id for row in rows if row.mandate_id is None])
    return {row.id: _demand(unit, row, documents.get(row.id, []), asked.get(row.id)) for row in rows}


def _demand(unit: Unit, row: Row, documents: list[dict[str, Any]], approval: Row | None) -> dict[str, Any]:
    by_mandate = row.mandate_id is not None
    return {
        "payout": mandate_call(row.mandate_id, row.intent) if by_mandate else portable(_only(row.id, documents)),
        "asked": [] if approval is None else _asked(unit, approval.groups),
        "decisions": [] if approval is None else _counted(unit, approval),
    }


def kept(unit: Unit, subject: str) -> dict[str, Any]:
    """Return the one evidence document of ``subject``.

    Raises:
        InvariantBroken: there is none, or more than one.
    """
    return _only(subject, evidence.of(unit, subject))


def _only(subject: str, documents: list[dict[str, Any]]) -> dict[str, Any]:
    if len(documents) != 1:
        raise InvariantBroken(f"{len(documents)} signed calls are stored about {subject}: one was expected")
    return documents[0]


def _counted(unit: Unit, approval: Row) -> list[dict[str, Any]]:
    """Return the approvals that count now, one a person, in the order of signing."""
    known, seen = people(unit), set()
    found = []
    for each in approvals.decisions(unit, approval.id):
        person = known.get(each.user_id)
        if each.value != "Approved" or each.groups_digest != approval.groups_digest or each.user_id in seen:
            continue
        if person is None or not person.is_active or not person.may_vote or not may_still_vote(unit, each):
            continue
        seen.add(each.user_id)
        found.append(portable(kept(unit, each.id)))
    return sorted(found, key=order)


def _asked(unit: Unit, groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the policies that were asked, each at the newest version that asks exactly these groups."""
    asked = []
    for policy_id in sorted({group["policyId"] for group in groups}):
        own = tuple(group for group in groups if group["policyId"] == policy_id)
        asked.append({"policyId": policy_id, "version": _version(unit, policy_id, own)})
    return asked


def _version(unit: Unit, policy_id: str, own: tuple[Mapping[str, Any], ...]) -> int:
    current = policies.find(unit, policy_id)
    known = [] if current is None else [policies.policy_of(current)]
    for policy in (*known, *_versions(unit, policy_id)):
        if required_groups([policy]) == own:
            return policy.version
    # What was asked does not follow from the records: the signer will say so.
    return 0


def _versions(unit: Unit, policy_id: str) -> Iterator[Policy]:
    """Yield every version of a policy that the records hold, newest first."""
    for document in organizations.records_about(unit, policy_id):
        kind, body = document["kind"], document["body"]
        if kind == records.CHANGE_APPLIED:
            kind, body = body["kind"], body["body"]
        if kind in (records.POLICY_CREATED, records.POLICY_UPDATED):
            stored = {name: value for name, value in body.items() if name != "version"}
            yield read_policy(stored, id=policy_id, version=body["version"])
    for preset in organizations.genesis(unit)["body"]["policies"]:
        if preset["id"] == policy_id:
            given = {name: value for name, value in preset.items() if name != "id"}
            yield parse_policy(given, id=policy_id, version=1, allow_empty=True)
