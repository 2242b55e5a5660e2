"""The audit log, read and taken along; and letting a server go on whose log is broken."""

import json
from typing import Any

from outlay.actions.act import Act
from outlay.core.audit import BROKEN, CONTINUED, EXPORTED, NO_ENTRY
from outlay.core.errors import InvalidInput, PreconditionFailed
from outlay.core.event import iso
from outlay.core.seams import Instant
from outlay.evidence.canonical import digest
from outlay.store import audit, organizations
from outlay.store.database import Row, Unit

REASON_MAX = 1000
SEQ_MAX = 2**53 - 1
_NAMES = ("seq", "at", "actor", "action", "subject", "evidence", "request", "hash")


def document(row: Row) -> dict[str, Any]:
    """Return an entry as answers show it: the members that its hash covers, the hash, and a readable date."""
    return {
        **{name: getattr(row, name) for name in _NAMES},
        "before": None if row.before is None else json.loads(row.before),
        "after": None if row.after is None else json.loads(row.after),
        "date": iso(row.at),
    }


def page(
    unit: Unit,
    *,
    limit: int,
    token: int | None = None,
    is_oldest_first: bool = False,
    first: int | None = None,
    last: int | None = None,
    since: Instant | None = None,
    until: Instant | None = None,
    actor: str | None = None,
    subject: str | None = None,
    action: str | None = None,
) -> dict[str, Any]:
    """Return one page of entries as answers show it.

    Args:
        unit: the database unit.
        limit: entries at most.
        token: number to go on with, of the page before.
        is_oldest_first: in the order of the log; else the newest comes first.
        first: lowest number.
        last: highest number.
        since: written at or after this instant.
        until: written before this instant.
        actor: only what this one did.
        subject: only what is about this.
        action: only entries of this name, or, with ``*`` at its end, whose names begin so.
    """
    newest = audit.head(unit)
    low, high = first or 1, min(last or SEQ_MAX, 0 if newest is None else newest.seq)
    if since is not None:
        low = max(low, audit.first_since(unit, since))
    if until is not None:
        high = min(high, audit.first_since(unit, until) - 1)
    if token is not None:
        low, high = (max(low, token), high) if is_oldest_first else (low, min(high, token))
    rows, following = audit.page(
        unit,
        first=low,
        last=high,
        limit=limit,
        is_oldest_first=is_oldest_first,
        actor=actor,
        subject=subject,
        action=action,
    )
    answer: dict[str, Any] = {"items": [document(row) for row in rows]}
    return answer if following is None else {**answer, "nextPageToken": str(following)}


def standing(unit: Unit) -> dict[str, Any]:
    """Return how the log stands: how long it is, and how far it was checked and anchored."""
    newest, state = audit.head(unit), audit.state(unit)
    found: dict[str, Any] = {
        "entries": 0 if newest is None else newest.seq,
        "hash": None if newest is None else newest.hash,
        "verifiedSeq": state.verified_seq,
        "anchoredSeq": state.anchored_seq,
        "broken": state.broken,
    }
    for name, instant in (("dateVerified", state.verified_at), ("dateAnchored", state.anchored_at)):
        if instant:
            found[name] = iso(instant)
    return found


def begin_export(act: Act, *, first: int) -> dict[str, Any]:
    """Write down that the log is taken along from entry ``first`` on, and return what the file begins and ends with.

    Raises:
        InvalidInput: there is no such entry.
    """
    newest = audit.head(act.unit)
    ends = 1 if newest is None else newest.seq  # where nothing is in the log yet, it begins with the export
    before = None if first == 1 else audit.find(act.unit, first - 1)
    if not 1 <= first <= ends or (first > 1 and before is None):
        raise InvalidInput(f"is a number from 1 to {ends}", field="first")
    act.result_id = act.org.id
    act.log(EXPORTED, act.org.id, before=None, after={"first": first})
    last, start = audit.head(act.unit), audit.find(act.unit, 1)
    assert last is not None
    if start is None:
        raise PreconditionFailed("entry 1 is missing: the log is broken")
    return {
        "orgId": act.org.id,
        "root": act.org.root,
        "segment": start.hash,
        "first": first,
        "prev": NO_ENTRY if before is None else before.hash,
        "last": last.seq,
        "hash": last.hash,
    }


def go_on(act: Act, *, reason: str) -> dict[str, Any]:
    """Let the server admit again although the log is broken; checks begin with what is written from now on.

    Raises:
        InvalidInput: no reason. PreconditionFailed: the log is not broken.
    """
    if not 1 <= len(reason) <= REASON_MAX:
        raise InvalidInput(f"is 1 to {REASON_MAX} characters", field="reason")
    problem = audit.why_broken(act.unit)
    if problem is None:
        raise PreconditionFailed("the audit log is not broken: nothing is to be done")
    found = audit.newest_of(act.unit, BROKEN)
    lost = {} if found is None or found.after is None else json.loads(found.after)
    said = {"why": problem, "reason": digest(reason), **({"lost": lost["lost"]} if "lost" in lost else {})}
    act.result_id = act.org.id
    act.keep_evidence(act.org.id)
    act.log(CONTINUED, act.org.id, before=None, after=said)
    newest = audit.head(act.unit)
    assert newest is not None
    place = {"base_seq": newest.seq, "base_hash": newest.hash}
    audit.set_state(
        act.unit,
        **place,
        verified_seq=newest.seq,
        verified_hash=newest.hash,
        verified_at=0,
        anchored_seq=0,
        broken=None,
    )
    organizations.bump_epoch(act.unit)
    return {"continued": True, "problem": problem}
