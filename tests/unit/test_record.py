"""Records: one chain from the root, and any cut, change or move of a record is noticed."""

import copy
from typing import Any

import pytest

from outlay.core.errors import InvalidInput
from outlay.evidence.canonical import canonical, digest, read_canonical
from outlay.evidence.record import RecordBroken, build_record, record_hash, verify_chain


def chain(length: int = 4, org: str = "or-1") -> list[dict[str, Any]]:
    """Return a chain whose evidence is not looked at here."""
    documents: list[dict[str, Any]] = []
    for seq in range(length):
        documents.append(
            build_record(
                org=org,
                seq=seq,
                prev=record_hash(documents[-1]) if documents else None,
                kind="policy.created" if seq else "genesis",
                subject=f"plc-{seq}",
                at=1_700_000_000_000_000 + seq,
                body={"name": f"café {seq}", "limit": 0.5},
                evidence={"v": 1} if seq else None,
            )
        )
    return documents


def test_chain_leads_from_its_root_to_its_head() -> None:
    """The hash is the digest of the canonical bytes, and survives being stored."""
    documents = chain()

    stored = [read_canonical(canonical(document)) for document in documents]

    assert verify_chain(documents, record_hash(documents[0])) == digest(documents[-1])
    assert verify_chain(stored, digest(documents[0])) == digest(documents[-1])  # type: ignore[arg-type]
    assert verify_chain(documents[:1], digest(documents[0])) == digest(documents[0])


def test_root_is_not_taken_from_the_chain() -> None:
    """Another organization's chain, complete in itself, is refused."""
    root = record_hash(chain()[0])

    for other in (chain(org="or-2"), chain()[1:], []):
        with pytest.raises(RecordBroken):
            verify_chain(other, root)


def test_dropped_repeated_or_moved_records_are_noticed() -> None:
    """Every record stands where it was put."""
    documents = chain(5)
    root = record_hash(documents[0])
    for at in range(1, 5):
        dropped = documents[:at] + documents[at + 1 :]
        if at < 4:
            with pytest.raises(RecordBroken):
                verify_chain(dropped, root)
        with pytest.raises(RecordBroken):
            verify_chain([*documents[:at], documents[at - 1], *documents[at:]], root)
    with pytest.raises(RecordBroken):
        verify_chain([documents[0], documents[2], documents[1], *documents[3:]], root)


def test_numbers_run_without_a_gap() -> None:
    """Even where the links are whole."""
    documents = chain(2)
    late = build_record(**{**arguments(), "seq": 3, "prev": record_hash(documents[1])})

    with pytest.raises(RecordBroken):
        verify_chain([*documents, late], record_hash(documents[0]))


def test_any_changed_member_of_an_earlier_record_is_noticed() -> None:
    """Every member is under the next record's link."""
    documents = chain()
    root = record_hash(documents[0])
    for at in range(3):
        for name in documents[at]:
            changed = copy.deepcopy(documents)
            value = changed[at][name]
            changed[at][name] = {"x": 1} if isinstance(value, dict) else 7 if isinstance(value, int) else "x"
            with pytest.raises(RecordBroken):
                verify_chain(changed, root)


def test_relinked_chain_of_another_organization_member_is_noticed() -> None:
    """A record of another organization cannot be linked in."""
    documents = chain(2)
    stranger = build_record(**{**arguments(), "org": "or-2", "seq": 2, "prev": record_hash(documents[1])})

    with pytest.raises(RecordBroken):
        verify_chain([*documents, stranger], record_hash(documents[0]))


def arguments() -> dict[str, Any]:
    """Return the arguments of a good second record."""
    return {
        "org": "or-1",
        "seq": 1,
        "prev": "0" * 64,
        "kind": "policy.created",
        "subject": "plc-1",
        "at": 1,
        "body": {},
        "evidence": {},
    }


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 0},
        {"seq": -1},
        {"seq": True},
        {"prev": None},
        {"prev": "0" * 63},
        {"prev": "A" * 64},
        {"prev": 7},
        {"kind": "genesis"},
        {"kind": "user.registered"},
        {"kind": None},
        {"evidence": None},
        {"evidence": []},
        {"body": []},
        {"at": 1.5},
        {"seq": 0, "prev": None},
        {"seq": 0, "prev": None, "kind": "genesis"},
        {"seq": 0, "prev": None, "evidence": None},
    ],
    ids=repr,
)
def test_record_that_contradicts_itself_cannot_be_made(change: dict[str, Any]) -> None:
    """Only the first record is without predecessor; only it and registrations are without evidence."""
    build_record(**arguments())
    with pytest.raises(RecordBroken):
        build_record(**{**arguments(), **change})


@pytest.mark.parametrize("document", [None, [], {}, {"v": 1}, {**chain(1)[0], "x": 1}, {**chain(1)[0], "v": 2}])
def test_malformed_record_is_bad_input(document: Any) -> None:
    """Whatever a file holds."""
    with pytest.raises(InvalidInput):
        verify_chain([document], "0" * 64)
