"""Whatever is done to an exported log, the check finds it: by hand, and by an enemy who hashes everything anew."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from outlay.core.audit import NO_ENTRY, entry_hash, entry_text, small_json
from outlay.evidence.audit_log import Checked, LogBroken, anchor_line, end_line, entry_line, header_line, verify_log
from outlay.evidence.canonical import canonical
from tests.audit.life import KEY, anchored, exported, live

Entries = list[dict[str, Any]]
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


class Log:
    """A file, taken apart, and its anchors."""

    def __init__(self, data: bytes, anchors: list[bytes], root: str) -> None:
        self.data, self.anchors, self.root = data, anchors, root
        lines = data.splitlines(keepends=True)
        self.header = json.loads(lines[0])
        self.entries: Entries = [json.loads(line)["entry"] for line in lines[1:-1]]
        self.lines = lines

    def check(self, data: bytes, anchors: list[bytes] | None = None) -> Checked:
        lines = data.splitlines(keepends=True)
        return verify_log(iter(lines), root=self.root, anchors=self.anchors if anchors is None else anchors)

    def made_anew(self, entries: Entries, *, segment: bool = True) -> bytes:
        """Return a file of these entries as somebody writes it who owns the server: numbered and hashed rightly."""
        lines, prev, first = [], NO_ENTRY, NO_ENTRY
        for number, each in enumerate(entries, start=1):
            values = {**each, "seq": number, "before": small_json(each["before"]), "after": small_json(each["after"])}
            text = entry_text(**values)
            prev = entry_hash(prev, text)
            first = prev if number == 1 else first
            lines.append(entry_line(text, prev))
        named = {name: self.header[name] for name in ("org", "root")}
        header = header_line(**named, segment=first if segment else self.header["segment"], first=1, prev=NO_ENTRY)
        return b"".join([header, *lines, end_line(len(lines), prev)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Return a log of which every eighth entry, and the last one, was anchored."""
    world, _ = live(tmp_path_factory.mktemp("log"), payouts=4)
    data = exported(world)
    last = len(data.splitlines()) - 2
    anchors = [anchored(world, seq) for seq in [*range(4, last, 8), last]]
    world.close()
    return Log(data, anchors, world.root)


def test_a_whole_log_is_whole(whole: Log) -> None:
    checked = whole.check(whole.data)
    assert (checked.first, checked.last, checked.anchored) == (1, len(whole.entries), len(whole.entries))
    assert checked.declared == [] and "none is missing" in checked.text()
    assert whole.made_anew(whole.entries) == whole.data, "the enemy of these tests can write a log rightly"


def changed(dice: random.Random, entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry with one member changed."""
    name = dice.choice(["actor", "action", "subject", "at", "before", "after", "evidence", "request"])
    value = entry[name]
    if name == "at":
        return {**entry, name: value + dice.choice([-1, 1, 10**6])}
    if name in ("before", "after"):
        return {**entry, name: {**(value or {}), dice.choice(["amount", "state", "x"]): f"{dice.random()}"}}
    return {**entry, name: f"{value}{dice.randrange(10)}" if value else "0" * 64}


def edit_byte(dice: random.Random, log: Log) -> bytes:
    at = dice.randrange(len(log.data))
    new = dice.choice([value for value in range(256) if value != log.data[at]])
    return log.data[:at] + bytes([new]) + log.data[at + 1 :]


def cut_bytes(dice: random.Random, log: Log) -> bytes:
    at = dice.randrange(len(log.data))
    return log.data[:at] + log.data[at + dice.randrange(1, 200) :]


def edit_entry(dice: random.Random, log: Log) -> bytes:
    """One entry, and perhaps its own hash, but not what follows."""
    place = dice.randrange(len(log.entries))
    entry = changed(dice, log.entries[place])
    texts = {"before": small_json(entry["before"]), "after": small_json(entry["after"])}
    text = entry_text(**{**entry, **texts})
    prev = NO_ENTRY if place == 0 else json.loads(log.lines[place])["hash"]
    known = json.loads(log.lines[place + 1])["hash"]
    line = entry_line(text, dice.choice([known, entry_hash(prev, text)]))
    return b"".join([*log.lines[: place + 1], line, *log.lines[place + 2 :]])


def fork(dice: random.Random, log: Log) -> bytes:
    place = dice.randrange(len(log.entries))
    return log.made_anew([*log.entries[:place], changed(dice, log.entries[place]), *log.entries[place + 1 :]])


def delete(dice: random.Random, log: Log) -> bytes:
    place = dice.randrange(len(log.entries))
    return b"".join([*log.lines[: place + 1], *log.lines[place + 2 :]])


def delete_anew(dice: random.Random, log: Log) -> bytes:
    place = dice.randrange(len(log.entries))
    return log.made_anew([*log.entries[:place], *log.entries[place + 1 :]])


def reorder(dice: random.Random, log: Log) -> bytes:
    lines = list(log.lines)
    one, two = dice.sample(range(1, len(lines) - 1), 2)
    lines[one], lines[two] = lines[two], lines[one]
    return b"".join(lines)


def reorder_anew(dice: random.Random, log: Log) -> bytes:
    entries = list(log.entries)
    one, two = dice.sample(range(len(entries)), 2)
    entries[one], entries[two] = entries[two], entries[one]
    return log.made_anew(entries)


def cut_end(dice: random.Random, log: Log) -> bytes:
    keep = dice.randrange(1, len(log.entries))
    return b"".join(log.lines[: keep + 1]) + dice.choice([b"", log.lines[-1]])


def cut_end_anew(dice: random.Random, log: Log) -> bytes:
    return log.made_anew(log.entries[: dice.randrange(1, len(log.entries))])


def cut_start(dice: random.Random, log: Log) -> bytes:
    """The header says honestly where the file begins, or nothing of it."""
    drop = dice.randrange(1, len(log.entries))
    named = {name: log.header[name] for name in ("org", "root", "segment")}
    prev = json.loads(log.lines[drop])["hash"]
    header = dice.choice([log.lines[0], header_line(**named, first=drop + 1, prev=prev)])
    return b"".join([header, *log.lines[drop + 1 :]])


def cut_start_anew(dice: random.Random, log: Log) -> bytes:
    drop = dice.randrange(1, len(log.entries))
    return log.made_anew(log.entries[drop:], segment=dice.random() < 0.5)


def insert(dice: random.Random, log: Log) -> bytes:
    lines = list(log.lines)
    lines.insert(dice.randrange(len(lines)), lines[dice.randrange(len(lines))])
    return b"".join(lines)


def insert_anew(dice: random.Random, log: Log) -> bytes:
    entries = list(log.entries)
    entries.insert(dice.randrange(1, len(entries)), changed(dice, dice.choice(entries)))
    return log.made_anew(entries)


def duplicate(dice: random.Random, log: Log) -> bytes:
    lines = list(log.lines)
    place = dice.randrange(len(lines))
    lines.insert(place, lines[place])
    return b"".join(lines)


def swap_members(dice: random.Random, log: Log) -> bytes:
    """A member of one entry in the place of another's, every hash made anew or none."""
    entries = [dict(each) for each in log.entries]
    while True:
        one, two = dice.sample(range(len(entries)), 2)
        name = dice.choice(["actor", "subject", "action", "after", "evidence"])
        if entries[one][name] != entries[two][name]:
            break
    entries[one][name], entries[two][name] = entries[two][name], entries[one][name]
    anew = log.made_anew(entries)
    if dice.random() < 0.5:
        return anew
    lines = anew.splitlines(keepends=True)
    old = [json.loads(line).get("hash", "") for line in log.lines]
    return b"".join(
        entry_line(line[9 : line.rindex(b',"hash":')].decode(), old[place]) if 0 < place < len(lines) - 1 else line
        for place, line in enumerate(lines)
    )


def spell_otherwise(dice: random.Random, log: Log) -> bytes:
    """The same values in another spelling."""
    place = dice.randrange(len(log.lines))
    document = json.loads(log.lines[place])
    spelled = dice.choice(
        [
            json.dumps(document).encode() + b"\n",
            json.dumps(document, indent=1).replace("\n", "").encode() + b"\n",
            log.lines[place][:-1] + b"\r\n",
            b" " + log.lines[place],
            log.lines[place][:-2] + b',"more":1}\n',
        ]
    )
    return b"".join([*log.lines[:place], spelled, *log.lines[place + 1 :]])


def pretend_a_loss(dice: random.Random, log: Log) -> bytes:
    """A log made from nothing that says itself that the one before it was lost."""
    newest = json.loads(log.anchors[-1])["anchor"]
    lost = {name: newest[name] for name in ("segment", "seq", "hash", "at")}
    first = {**log.entries[0], "after": {**log.entries[0]["after"], "why": "made anew"}}
    action = dice.choice(["log.lost", "log.continued", "log.broken"])
    entry = {**log.entries[1], "action": action, "after": {"why": "made anew", "lost": lost}}
    return log.made_anew([first, entry, *log.entries[dice.randrange(1, 20) :]])


TAMPERS: list[Callable[[random.Random, Log], bytes]] = [
    edit_byte,
    cut_bytes,
    edit_entry,
    fork,
    delete,
    delete_anew,
    reorder,
    reorder_anew,
    cut_end,
    cut_end_anew,
    cut_start,
    cut_start_anew,
    insert,
    insert_anew,
    duplicate,
    swap_members,
    spell_otherwise,
    pretend_a_loss,
]


def missed(log: Log, count: int, seed: int) -> list[str]:
    """Tamper ``count`` times and return what was not found."""
    dice, found = random.Random(seed), []
    for number in range(count):
        tamper = TAMPERS[number % len(TAMPERS)]
        data = tamper(dice, log)
        if data == log.data:
            continue  # two equal lines changed places
        try:
            checked = log.check(data)
        except LogBroken:
            continue
        if not checked.declared:
            found.append(f"seed {seed}, tamper {number}: {tamper.__name__}")
    return found


def test_none_of_two_hundred_tampers_is_missed(whole: Log) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    assert missed(whole, 200, seed) == []


@pytest.mark.long
def test_none_of_a_thousand_tampers_is_missed(whole: Log) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    assert missed(whole, 1000, seed) == []


def test_without_anchors_a_log_made_anew_is_not_told_from_the_first(whole: Log) -> None:
    """What the anchors are for, and what the check says then."""
    lines = whole.made_anew([*whole.entries[:9], *whole.entries[12:]]).splitlines(keepends=True)
    assert "whoever can write the database" in verify_log(lines, root=whole.root).text()


def test_a_pretended_loss_is_told_plainly(whole: Log) -> None:
    """Also where the new log has an anchor by the same key: the server itself was made to go on."""
    data = pretend_a_loss(random.Random(1), whole)
    end, start = (json.loads(data.splitlines()[place]) for place in (-1, 0))
    newest = json.loads(whole.anchors[-1])["anchor"]
    anchor = {**newest, "segment": start["segment"], "seq": end["end"], "hash": end["hash"]}
    with pytest.raises(LogBroken, match="no anchor is of any entry"):
        whole.check(data)
    checked = whole.check(data, [*whole.anchors, anchor_line(anchor, KEY)])
    assert "MISSING" in checked.text() and str(len(whole.entries)) in checked.text()


def test_anchors_of_another_key_or_organization_do_not_count(whole: Log) -> None:
    anchor = json.loads(whole.anchors[-1])["anchor"]
    for lines, why in (
        ([*whole.anchors[:-1], anchor_line(anchor, OTHER)], "another key"),
        ([anchor_line({**anchor, "root": "0" * 64}, KEY)], "another organization"),
        ([anchor_line({**anchor, "org": "or-x"}, KEY)], "another organization"),
        ([anchor_line({**anchor, "segment": "0" * 64}, KEY)], "took its place"),
        ([anchor_line({**anchor, "seq": anchor["seq"] + 1}, KEY)], "cut off"),
        ([anchor_line({**anchor, "hash": "0" * 64}, KEY)], "written anew"),
        ([], "no anchor"),
        ([whole.anchors[0], b"{}\n"], "line 2 of the anchors"),
    ):
        with pytest.raises(LogBroken, match=why):
            whole.check(whole.data, lines)
    with pytest.raises(LogBroken, match="another key"):
        lines = whole.data.splitlines(keepends=True)
        verify_log(lines, anchors=[anchor_line(anchor, OTHER)], key=json.loads(whole.anchors[0])["key"])


def test_every_byte_of_an_anchor_counts(whole: Log) -> None:
    line = whole.anchors[-1]
    for at in range(len(line)):
        new = line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :]
        with pytest.raises(LogBroken):
            whole.check(whole.data, [*whole.anchors[:-1], new])


def test_a_signature_has_one_spelling(whole: Log) -> None:
    """Base64 has bits at its end that mean nothing."""
    document = json.loads(whole.anchors[-1])
    for name in ("key", "signature"):
        at = len(document[name].rstrip("=")) - 1
        for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/":
            text = document[name][:at] + other + document[name][at + 1 :]
            if text != document[name]:
                with pytest.raises(LogBroken):
                    whole.check(whole.data, [canonical({**document, name: text}) + b"\n"])


def test_a_part_is_checked_as_a_part(tmp_path: Path) -> None:
    world, _ = live(tmp_path, payouts=1)
    lines = exported(world, first=7).splitlines(keepends=True)
    with pytest.raises(LogBroken, match="begins with entry 7"):
        verify_log(lines, root=world.root)
    last = 7 + len(lines) - 3
    checked = verify_log(lines, first=7, anchors=[anchored(world, 3), anchored(world, last - 1)])
    assert (checked.first, checked.last, checked.anchored) == (7, last, last - 1)
    with pytest.raises(LogBroken, match="is of the organization"):
        verify_log(lines, root="0" * 64, first=7)
    world.close()
