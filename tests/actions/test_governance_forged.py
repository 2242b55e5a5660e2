"""A hostile server, with its database and code, against the chain: every change is judged again when it is replayed."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outlay.actions import changes, govern, permissions, policies
from outlay.actions import decide as decisions
from outlay.core.errors import Unavailable
from outlay.evidence.bundle import EvidenceBroken
from outlay.evidence.history import verify_history
from outlay.evidence.record import RecordBroken, record_hash
from outlay.store import changes as change_rows
from outlay.store import organizations, users
from outlay.store import permissions as permission_rows
from tests.actions.council import DAY_S, Council, ask, written

ALWAYS = {"kind": "AlwaysTrigger"}


@pytest.fixture
def council(tmp_path: Path) -> Iterator[Council]:
    opened = Council(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def hostile() -> Iterator[pytest.MonkeyPatch]:
    """Return what changes the server's own code."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def refused(council: Council, says: str) -> None:
    """Check that the chain as the hostile server wrote it does not replay."""
    with pytest.raises((EvidenceBroken, RecordBroken), match=says):
        council.replayed()


def rechained(chain: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records with numbers and links that fit again, as somebody with the database can write them."""
    linked: list[dict[str, Any]] = []
    for number, each in enumerate(chain):
        prev = record_hash(linked[-1]) if linked else None
        linked.append({**each, "seq": number, "prev": prev})
    return linked


def documents(council: Council) -> list[dict[str, Any]]:
    with council.unit() as unit:
        return list(organizations.read_records(unit))


def full_access(council: Council) -> str:
    with council.unit() as unit:
        row = permission_rows.find_by_name(unit, "ManagedFullAdminAccess")
    assert row is not None
    return str(row.id)


def test_a_change_without_its_approval(council: Council, hostile: pytest.MonkeyPatch) -> None:
    hostile.setattr(govern, "check_record", lambda *_, **__: None)
    council.set_cap(1000)
    refused(council, "needed an approval")


def test_an_assignment_hidden_in_a_new_service_account(tmp_path: Path, hostile: pytest.MonkeyPatch) -> None:
    council = Council(tmp_path, guarded=False)
    council.create(written("Permissions:Assign", ALWAYS, ask(*council.approvers)))
    hostile.setattr("outlay.actions.people.must_ask", lambda *_: False)
    council.service_account("puppet")
    refused(council, "assigning this permission needed an approval")
    council.close()


def test_a_service_account_that_starts_switched_on(council: Council, hostile: pytest.MonkeyPatch) -> None:
    hostile.setattr("outlay.actions.people.is_governed", lambda _: False)
    puppet = council.service_account("puppet", permission_id=council.permission("Policies:Update"))
    council.set_cap(10, by=puppet)
    refused(council, "withdrawn or that nobody vouched for")


@pytest.mark.parametrize("change", ["vote dropped", "too early", "other body"])
def test_an_application_that_was_not_agreed_on(council: Council, change: str) -> None:
    council.agree(council.set_cap(1000))
    council.wait(DAY_S)
    chain = documents(council)
    verify_history(chain, council.root)
    last = chain[-1]
    assert last["kind"] == "change.applied"
    if change == "vote dropped":
        chain = [*chain[:-2], last]
    elif change == "too early":
        chain[-1] = {**last, "at": last["at"] - 10**6}
    else:
        body = json.loads(json.dumps(last["body"]))
        body["body"]["rule"]["configuration"]["limit"] = "5000"
        chain[-1] = {**last, "body": body}
    with pytest.raises((EvidenceBroken, RecordBroken)):
        verify_history(rechained(chain), council.root)


def test_another_name_for_what_was_agreed_on(tmp_path: Path) -> None:
    """What the server makes up was shown to the people too."""
    council = Council(tmp_path, guarded=False)
    council.create(written("Permissions:Assign", ALWAYS, ask(*council.approvers, quorum=1)))
    newcomer, _ = council.invite("new@admins.example")
    change = council.assign(full_access(council), newcomer)
    council.agree(change, council.first)
    council.wait(DAY_S)
    chain = documents(council)
    last = chain[-1]
    made = {**last["body"]["body"], "assignmentId": "as-aaaaa-aaaaa-aaaaaaaaaaaaaaaa"}
    chain[-1] = {**last, "body": {**last["body"], "body": made}}
    with pytest.raises(RecordBroken, match="agreed on"):
        verify_history(rechained(chain), council.root)
    council.close()


def test_a_denial_that_is_ignored(council: Council, hostile: pytest.MonkeyPatch) -> None:
    change = council.set_cap(1000)
    council.agree(change)
    hostile.setattr(changes, "settle", lambda *_: None)
    hostile.setattr(changes, "votes_on", without_denials(changes.votes_on))
    council.vote(change, council.third, "Denied")
    council.wait(DAY_S)
    assert council.status(change) == "Applied"
    refused(council, "names no change that waits")


def without_denials(votes_on: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: [each for each in votes_on(*arguments) if each[0].value != "Denied"]


def test_a_vote_without_the_permission(tmp_path: Path) -> None:
    council = Council(tmp_path, guarded=False)
    outsider = council.person("voter@approvers.example", permitted=False)
    council.approvers.append(outsider.user_id)
    council.guard_all()
    change = council.set_cap(1000)
    path = f"/v2/policy-approvals/{change['approvalId']}/decisions"
    council.call(
        outsider,
        "POST",
        path,
        {"value": "Approved"},
        None,  # the server looks for no permission
        lambda act: decisions.decide(act, change["approvalId"], value="Approved", reason=None),
    )
    refused(council, "not permitted Policies:Evaluations:Vote")
    council.close()


def test_votes_of_somebody_who_may_not_vote_any_more(tmp_path: Path, hostile: pytest.MonkeyPatch) -> None:
    council = Council(tmp_path)
    change = council.set_cap(1000)
    council.agree(change)
    with council.unit() as unit:
        (held,) = permission_rows.held_by(unit, council.second.user_id)
    council.call(
        council.admin,
        "DELETE",
        f"/permissions/{held.permission_id}/assignments/{held.assignment_id}",
        {},
        "Permissions:Revoke",
        lambda act: permissions.revoke(act, held.permission_id, held.assignment_id),
    )
    hostile.setattr(changes, "may_still_vote", lambda *_: True)
    council.clock.at += DAY_S * 10**6
    council.expire()
    assert council.status(change) == "Applied"
    refused(council, "not enough people")
    council.close()


def test_a_vote_about_something_else(council: Council, hostile: pytest.MonkeyPatch) -> None:
    """The server has people sign a harmless change and uses the votes for another."""
    harmless = council.set_cap(10)
    with council.unit() as unit:
        other = change_rows.get(unit, harmless["id"]).digest
    council.vote(harmless, council.first, "Denied")
    change = council.set_cap(1000)
    hostile.setattr("outlay.actions.organization.changes", Shown(other))
    hostile.setattr(decisions, "_digest", lambda *_: other)
    council.vote(change, council.first)
    refused(council, "about something else")


class Shown:
    """The rows of change requests, but every one has the digest people are shown."""

    def __init__(self, digest: str) -> None:
        self._digest = digest

    def get(self, unit: Any, change_id: str) -> Any:
        row = change_rows.get(unit, change_id)._asdict()
        return type("Row", (), {**row, "digest": self._digest})


@pytest.mark.parametrize("what", ["vote", "request"])
def test_a_key_that_was_withdrawn(tmp_path: Path, hostile: pytest.MonkeyPatch, what: str) -> None:
    council = Council(tmp_path, guarded=False)
    spare, mine = council.second_key(council.second), council.second_key(council.admin)
    council.guard_all()
    change = council.set_cap(1000, by=mine)
    council.agree(change)
    if what == "vote":
        council.switch_key(spare, council.second.credential_uuid, "deactivate")
        hostile.setattr(users, "is_in_use", lambda *_: True)
    else:
        council.switch_key(council.admin, mine.credential_uuid, "deactivate")
        hostile.setattr(users, "find_credential", as_if_in_use(users.find_credential))
    council.clock.at += DAY_S * 10**6
    council.expire()
    assert council.status(change) == "Applied"
    refused(council, "not enough people" if what == "vote" else "switched off")
    council.close()


def as_if_in_use(find: Callable[..., Any]) -> Callable[..., Any]:
    def found(unit: Any, uuid: str) -> Any:
        row = find(unit, uuid)
        return None if row is None else type("Row", (), {**row._asdict(), "is_active": True})

    return found


def test_votes_about_groups_that_are_not_asked_any_more(tmp_path: Path, hostile: pytest.MonkeyPatch) -> None:
    council = Council(tmp_path)
    change = council.set_cap(1000)
    council.vote(change, council.first)
    stricter = written("Policies:Modify", ALWAYS, ask(*council.approvers[1:], quorum=1))
    edit = council.replace(council.guard, stricter)
    council.agree(edit)
    hostile.setattr(policies, "_reopen_votes", lambda *_: None)
    hostile.setattr(changes, "merge_groups", lambda then, _now: tuple(then))
    council.wait(DAY_S)
    council.vote(change, council.second)
    refused(council, "leaves out somebody")
    council.close()


def test_a_wait_that_was_only_written_down(council: Council, hostile: pytest.MonkeyPatch) -> None:
    """The server dates the change a day ahead, and goes on as if nothing had been."""
    change = council.set_cap(1000)
    council.agree(change)
    council.clock.at += DAY_S * 10**6
    council.expire()
    assert council.status(change) == "Applied"
    council.clock.at -= DAY_S * 10**6
    hostile.setattr(organizations, "latest_record_at", lambda _: 0)
    council.tag(council.paying, "asia")
    refused(council, "before that of an earlier record|before the records")


def test_records_are_not_written_by_a_clock_that_was_set_back(council: Council) -> None:
    council.clock.at -= DAY_S * 10**6
    with pytest.raises(Unavailable, match="clock"):
        council.tag(council.paying, "asia")


def test_a_change_of_something_that_is_not_there(council: Council) -> None:
    chain = documents(council)
    last = chain[-1]
    forged = {**last, "kind": "permission.updated", "subject": "pm-aaaaa-aaaaa-aaaaaaaaaaaaaaaa"}
    chain[-1] = {**forged, "body": {"name": "n", "operations": ["Wallets:Read"]}}
    with pytest.raises((EvidenceBroken, RecordBroken)):
        verify_history(rechained(chain), council.root)
