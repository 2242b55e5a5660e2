"""Records against a hostile database: a body that changed, a signature that stands behind something else.

Every attack is made on a chain of the real actions; the forger computes every hash anew and may use any signature
that was really made.
"""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import outlay.actions
from outlay.core import ids
from outlay.core.event import EVENT_KINDS
from outlay.core.seams import DAY
from outlay.evidence import record
from outlay.evidence.bundle import EvidenceBroken
from outlay.evidence.changes import CHANGES, PROVED
from outlay.evidence.history import verify_history
from outlay.evidence.record import RecordBroken, record_hash
from tests.unit.forged import Forger, Record, told

BROKEN = (EvidenceBroken, RecordBroken)
FREE = {
    ("user.invited", "code"),
    ("user.invited", "expires"),
    ("user.registered", "credentialUuid"),
    ("user.recovered", "code"),
    ("user.recovered", "expires"),
    ("code.created", "code"),
    ("serviceAccount.created", "credentialUuid"),
    ("serviceAccount.created", "credentialId"),
    ("serviceAccount.created", "assignmentId"),
    ("pat.created", "credentialUuid"),
    ("pat.created", "credentialId"),
    ("permission.assigned", "assignmentId"),
    ("wallet.created", "address"),
    ("wallet.created", "keyId"),
    ("wallet.created", "publicKey"),
    ("wallet.unfrozen", "stopped"),
    ("asset.unfrozen", "stopped"),
    ("network.unfrozen", "stopped"),
}
"""What the server makes: nobody signs it before the next record."""
OLDER = {("credential.activated", "fingerprint")}
"""What records of older versions lack, and the server adds: where it is named, it is that of the key on record."""

STORY = told()
NUMBERS = range(1, len(STORY.records))
KINDS = sorted({each["kind"] for each in STORY.records} - {"genesis"})
SIGNED_KINDS = [kind for kind in KINDS if kind not in PROVED]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every member, item and leaf."""
    found = [path] if path else []
    if isinstance(value, dict):
        return found + [place for key, each in value.items() for place in places(each, (*path, key))]
    if isinstance(value, list):
        return found + [place for at, each in enumerate(value) for place in places(each, (*path, at))]
    return found


def other(value: Any) -> Any:
    """Return another value of the same look."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str) and value:
        middle = len(value) // 2
        return value[:middle] + ("b" if value[middle] != "b" else "c") + value[middle + 1 :]
    return "x" if not isinstance(value, list) else [*value, "x"]


CHANGES_OF_A_PLACE: tuple[Callable[[Any], Any], ...] = (
    other,
    lambda _: None,
    lambda value: [value],
)


def changed(document: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    copied = copy.deepcopy(document)
    place = copied
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = change(place[path[-1]])
    return copied


def without(document: Any, path: tuple[Any, ...]) -> Any:
    copied = copy.deepcopy(document)
    place = copied
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return copied


def refused(records: list[Record], why: object) -> None:
    with pytest.raises(BROKEN):
        STORY.verify(records)
        pytest.fail(f"nobody noticed: {why}")


def relinked(records: list[Record], start: int) -> list[Record]:
    """Return the chain with the links after record ``start`` computed anew."""
    for number in range(start + 1, len(records)):
        records[number] = {**records[number], "prev": record_hash(records[number - 1])}
    return records


# What is honest


def test_the_untouched_chain_verifies_at_every_length() -> None:
    for length in NUMBERS:
        found = verify_history(STORY.records[:length], STORY.root)
        assert found.head == record_hash(STORY.records[length - 1])
    settings = verify_history(STORY.records, STORY.root).money_settings
    assert settings == STORY.settings


def test_every_kind_that_is_written_is_told_and_known() -> None:
    """A new kind in the actions has to be added to the verifier, and to this story."""
    source = "".join(path.read_text() for path in Path(str(outlay.actions.__file__)).parent.glob("*.py"))
    written = set(re.findall(r"(?:act\.record\(|kind=)\s*\"([a-zA-Z]+(?:\.[a-z]+)+)\",", source))
    records_only = {kind for kind in written if not kind.startswith("wallet.transfer")}
    assert records_only - set(KINDS) <= set(EVENT_KINDS)
    assert set(KINDS) | {"genesis"} == {*CHANGES, *PROVED}


def test_what_the_chain_says_is_replayed() -> None:
    """The history is what a signer would go by."""
    found = verify_history(STORY.records, STORY.root)
    (wallet,) = found.wallets.values()
    assert (wallet.chain_id, wallet.tags) == (31337, frozenset({"payouts", "asia"}))
    versions = [(each.version, each.is_active) for each in found.policies.values()]
    assert sorted(versions) == [(1, True)] * 4 + [(2, False)]
    assert [each.is_deleted for each in found.identities.values()].count(True) == 2
    assert found.may(STORY.admin.user_id, "Config:Apply", len(STORY.records) - 1)


def test_the_walk_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record is hashed once, read once, and need not be held."""
    hashed: list[str] = []

    def count(document: Record) -> str:
        hashed.append(record_hash(document))
        return hashed[-1]

    monkeypatch.setattr(record, "record_hash", count)
    verify_history(iter(STORY.records), STORY.root)
    assert len(hashed) == len(STORY.records)


# Bodies


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{number}-{STORY.records[number]['kind']}")
def test_no_place_of_the_newest_body_can_change(number: int) -> None:
    """No later record holds its hash, so only its own signature can."""
    chain, newest = list(STORY.records[:number]), STORY.records[number]
    body, kind = newest["body"], newest["kind"]
    bodies = [{**body, "extra": 1}, {**body, "extra": None}]
    for path in places(body):
        if path[0] in ("preimage", "attestation") and len(path) > 1 and path[-1] in ("clientData", "attestationData"):
            bodies.append(changed(body, path, other))
            continue
        if (kind, *path) not in OLDER:
            bodies.append(without(body, path))
        for change in CHANGES_OF_A_PLACE:
            free = (kind, path[0]) in FREE and change is other
            if not free and changed(body, path, change) != body:
                bodies.append(changed(body, path, change))
    for wrong in bodies:
        refused([*chain, {**newest, "body": wrong}], (kind, wrong, body))


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{number}-{STORY.records[number]['kind']}")
def test_no_other_member_of_the_newest_record_can_change(number: int) -> None:
    """Kind, subject, number, link, organization, day; and the signature with all it covers."""
    chain, newest = list(STORY.records[:number]), STORY.records[number]
    wrong = [{**newest, name: other(newest[name])} for name in ("v", "org", "seq", "prev", "kind")]
    wrong += [{**newest, "at": newest["at"] + days * DAY} for days in (-1, 1)]
    wrong += [{**newest, "kind": kind} for kind in (*CHANGES, *PROVED) if kind != newest["kind"]]
    if number in (1, STORY.of("policy.updated"), STORY.of("wallet.created")):
        paths = [path for path in places(newest["evidence"]) if path not in {("origins",), ("origins", 0)}]
        wrong += [changed(newest, ("evidence", *path), other) for path in paths]
    for each in wrong:
        refused([*chain, each], each)


def test_an_existing_subject_cannot_change() -> None:
    """A change of one wallet, policy, permission or person is not one of another; new ones have the right shape."""
    for number in NUMBERS:
        newest = STORY.records[number]
        chain, prefix = list(STORY.records[:number]), newest["subject"].split("-")[0]
        subjects = {each["subject"] for each in STORY.records if each["subject"] != newest["subject"]}
        subjects |= {"", "x", newest["subject"].upper(), newest["subject"] + "/x"}
        if newest["kind"].endswith(".created") or newest["kind"] == "user.invited":
            named = (ids.WALLET, ids.POLICY, ids.PERMISSION, ids.USER, ids.CREDENTIAL, ids.TOKEN)
            assert prefix in (*named, ids.POOL, ids.MANDATE)
            known = {each["subject"] for each in chain}
            subjects = {each for each in subjects if each in known or not each.startswith(prefix + "-")}
        for subject in sorted(subjects)[:: max(1, len(subjects) // 8)]:
            refused([*chain, {**newest, "subject": subject}], (newest["kind"], subject))


def test_what_the_server_makes_is_signed_by_the_next_record() -> None:
    """An address, a key or an id cannot change once anything followed."""
    for number in NUMBERS[:-1]:
        kind, body = STORY.records[number]["kind"], STORY.records[number]["body"]
        for _, name in sorted(each for each in FREE if each[0] == kind):
            forged = list(STORY.records)
            if body[name] is not None:
                forged[number] = {**forged[number], "body": {**body, name: other(body[name])}}
                refused(relinked(forged, number), (kind, name))


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("wallet.created", "address", "0x12"),
        ("wallet.created", "publicKey", "04" + "0" * 64),
        ("wallet.created", "publicKey", "02" + "A" * 64),
        ("wallet.created", "keyId", "x"),
        ("wallet.created", "keyId", "key-" + "x" * 70),
        ("wallet.created", "chainId", 1),
        ("serviceAccount.created", "credentialUuid", STORY.admin.uuid),
        ("serviceAccount.created", "credentialId", STORY.admin.credential_id),
        ("serviceAccount.created", "assignmentId", "as-1"),
        ("permission.assigned", "assignmentId", STORY.admin.uuid),
        ("user.invited", "code", "plain"),
        ("user.invited", "expires", 1),
        ("user.invited", "expires", 1.5),
        ("user.recovered", "code", "plain"),
        ("user.recovered", "expires", 1),
        ("user.recovered", "expires", STORY.records[STORY.of("user.recovered")]["at"] + 7 * DAY + 1),
        ("code.created", "code", "plain"),
    ],
)
def test_what_the_server_makes_has_its_shape_and_is_new(kind: str, name: str, value: Any) -> None:
    number = STORY.of(kind)
    newest = STORY.records[number]
    refused([*STORY.records[:number], {**newest, "body": {**newest["body"], name: value}}], (kind, name))


def test_a_limit_cannot_be_raised() -> None:
    """The attack that started this: the limit of the newest policy, its signature unchanged."""
    number = STORY.of("policy.updated")
    newest = changed(STORY.records[number], ("body", "rule", "configuration", "limit"), lambda _: "999999999")
    with pytest.raises(RecordBroken, match="does not say what was signed"):
        verify_history([*STORY.records[:number], newest], STORY.root)


# Signatures


@pytest.mark.parametrize("kind", SIGNED_KINDS)
def test_no_other_call_brings_a_kind_about(kind: str) -> None:
    """The admin really signs each other call of the story, over the right head."""
    number = STORY.of(kind)
    target, forger = STORY.records[number], Forger(STORY, number)
    forger.repeat(target, STORY.admin).verify()
    forger.undo()
    own = target["evidence"]["preimage"]["method"], target["evidence"]["preimage"]["path"]
    for source in SIGNED_KINDS:
        signed = STORY.records[STORY.of(source)]["evidence"]
        call = signed["preimage"]["method"], signed["preimage"]["path"]
        if (*call, signed["payload"]) == (*own, target["evidence"]["payload"]):
            continue
        forger.append(kind, target["subject"], target["body"], forger.evidence(STORY.admin, *call, signed["payload"]))
        routes = {(route.method, route.path.replace("{subject}", target["subject"])) for route in CHANGES[kind][0]}
        with pytest.raises(BROKEN if call in routes else EvidenceBroken, match="" if call in routes else "bring about"):
            forger.verify()
        forger.undo()


def test_signatures_cannot_change_places() -> None:
    """Each covers the head it was made over."""
    for one in NUMBERS:
        for two in range(one + 1, min(one + 6, len(STORY.records))):
            first, second = STORY.records[one], STORY.records[two]
            if first["evidence"] and second["evidence"]:
                forged = list(STORY.records[: two + 1])
                forged[one] = {**first, "evidence": second["evidence"]}
                forged[two] = {**second, "evidence": first["evidence"]}
                refused(relinked(forged, one), (one, two))


def test_records_cannot_be_dropped_moved_or_repeated() -> None:
    """Even where the forger numbers and links them anew."""
    for number in NUMBERS:
        chain = list(STORY.records)
        edits = [
            chain[:number] + chain[number + 1 :],
            [*chain[: number + 1], *chain[number:]],
            [*chain[: number - 1], chain[number], chain[number - 1], *chain[number + 1 :]] if number > 1 else [],
        ]
        for at, edit in enumerate(edits):
            if at == 0 and number == len(chain) - 1:
                continue  # the newest record alone: only a verifier that saw it knows
            renumbered = [{**each, "seq": seq} for seq, each in enumerate(edit)]
            refused(relinked(renumbered, 0), (number, at))


def test_the_chain_of_another_organization_is_of_no_use() -> None:
    """Neither whole, nor its records, nor its signatures."""
    foreign = told(2)
    refused(list(foreign.records), "the whole chain")
    for number in (STORY.of("policy.created"), STORY.of("wallet.created")):
        chain, honest = list(STORY.records[:number]), STORY.records[number]
        twin = next(each for each in foreign.records if each["kind"] == honest["kind"])
        links = {"seq": number, "prev": record_hash(chain[-1])}
        refused([*chain, {**twin, **links}], "a record")
        refused([*chain, {**twin, **links, "org": honest["org"]}], "a record, renamed")
        refused([*chain, {**honest, "evidence": twin["evidence"]}], "a signature")
        forger = Forger(STORY, number)
        forger.repeat(honest, foreign.admin)
        refused(forger.records, "a signature over this chain")


def test_unknown_kinds_are_refused() -> None:
    """A verifier that does not understand a change cannot say that the chain is whole."""
    forger = Forger(STORY)
    for kind in ("policy.forgotten", "", "genesis.again", "Policy.created"):
        forger.say(STORY.admin, "POST", "/v2/policies", {}, kind, "plc-1", {})
        with pytest.raises(RecordBroken, match="not known here"):
            forger.verify()
        forger.undo()
