"""What is written into the database past a server that runs, and what a person has let go on: no more, no less."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from outlay.config import parse
from outlay.core.audit import NO_ENTRY, Entry, entry_hash, entry_text
from outlay.core.seams import DAY
from outlay.evidence.audit_log import DECLARED, NOT_WHOLE, WHOLE, check, read_anchor
from outlay.store import audit
from outlay.store.database import Unit
from tests.actions.world import SETTINGS
from tests.audit.life import entries, exported
from tests.audit.test_anchoring import Scene, go_on

FAR = 9 * 10**15


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.world.close()


def rewrite(scene: Scene, *, first: int = 5) -> None:
    """Change an entry, and every hash after it, and what the database says of the last check."""
    prev, state = NO_ENTRY, scene.state()
    for row in entries(scene.world):
        names = ("seq", "at", "actor", "action", "subject", "before", "after", "evidence", "request")
        values = {name: getattr(row, name) for name in names}
        if row.seq == first:
            values["actor"] = "us-innocent"
        prev = entry_hash(prev, entry_text(**values))
        if row.seq >= first:
            scene.tamper("UPDATE audit_entry SET actor = ?, hash = ? WHERE seq = ?", values["actor"], prev, row.seq)
        if row.seq == state.verified_seq:
            scene.tamper("UPDATE audit_state SET verified_hash = ?", prev)


def wipe(scene: Scene) -> None:
    scene.tamper("DELETE FROM audit_entry")
    scene.tamper("DELETE FROM audit_state")


def later(scene: Scene, *, minutes: int = 11) -> None:
    """Let something happen, and the next anchor be due."""
    scene.world.permission("Wallets:Read")
    scene.world.clock.step(minutes=minutes)
    scene.step()


def on_host(scene: Scene, file: Path) -> None:
    """Let a host with an anchor file of its own take over."""
    scene.config, scene.file = parse(SETTINGS + f'\n[audit]\nanchor_file = "{file}"'), file
    scene.restart()
    scene.step()


@pytest.mark.parametrize("is_file_left", [True, False])
def test_a_log_written_anew_is_noticed_before_the_next_anchor(scene: Scene, is_file_left: bool) -> None:
    """Also where whoever did it can empty the anchor file as well: the last anchor is remembered."""
    scene.step()
    (last,) = scene.anchors()
    rewrite(scene)
    if not is_file_left:
        scene.file.unlink()
    later(scene)
    assert scene.state().broken == f"entry {last['seq']} is another one than was anchored"
    assert not scene.admits() and len(scene.anchors()) == is_file_left, "and nothing is anchored over it"


def test_what_a_url_was_sent_is_remembered(tmp_path: Path) -> None:
    scene = Scene(tmp_path, url=True, file=False)
    scene.step()
    rewrite(scene)
    later(scene)
    assert not scene.admits() and len(scene.place.taken) == 1
    scene.world.close()


@pytest.mark.parametrize("is_begun", [True, False])
def test_a_log_that_is_gone_is_noticed_before_the_next_anchor(scene: Scene, is_begun: bool) -> None:
    scene.step()
    wipe(scene)
    if is_begun:
        with scene.world.unit() as unit:
            audit.begin_again(unit, now=scene.world.clock.now())
    later(scene)
    assert scene.state().broken == "another log than this one was anchored"
    scene.restart()
    scene.step()
    assert not scene.admits() and len(scene.anchors()) == 1


def test_a_log_that_ends_before_its_anchor_is_noticed(scene: Scene) -> None:
    scene.step()
    (last,) = scene.anchors()
    scene.tamper("DELETE FROM audit_entry WHERE seq > ?", last["seq"] - 5)
    scene.tamper("DELETE FROM audit_state")
    scene.world.clock.step(minutes=11)
    scene.step()
    assert scene.state().broken == f"entry {last['seq']} was anchored and the log ends with {last['seq'] - 5}"


def test_anchors_go_on_whatever_the_database_says_was_anchored(scene: Scene) -> None:
    scene.step()
    scene.tamper("UPDATE audit_state SET anchored_seq = ?", FAR)
    later(scene)
    assert len(scene.anchors()) == 2


def test_an_anchor_file_that_cannot_be_read_hides_nothing(scene: Scene) -> None:
    scene.step()
    scene.file.unlink()
    scene.file.mkdir()
    rewrite(scene)
    later(scene)
    assert not scene.admits()


def test_checks_begin_later_only_where_a_person_let_it_go_on(scene: Scene) -> None:
    scene.step()
    newest = entries(scene.world)[-1]
    scene.tamper("UPDATE audit_state SET base_seq = ?, base_hash = ?", newest.seq, newest.hash)
    scene.tamper("UPDATE audit_entry SET actor = 'us-innocent' WHERE seq = 5")
    later(scene)
    assert scene.state().broken == f"checks begin after entry {newest.seq}, where nobody let the log go on"


@pytest.mark.parametrize("is_restarted", [True, False])
def test_the_daily_check_comes_whatever_the_database_says_of_the_last(scene: Scene, is_restarted: bool) -> None:
    scene.step()
    scene.tamper("UPDATE audit_entry SET actor = 'us-innocent' WHERE seq = 5")
    scene.tamper("UPDATE audit_state SET verified_at = ?", FAR)
    if is_restarted:
        scene.restart()
    else:
        scene.next_day()
    scene.step()
    assert "entry 5 is not what was written" in (scene.state().broken or "")


def test_the_daily_check_is_made_once_a_day(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    real = audit.check_after

    def spy(unit: Unit, seq: int, prev: str, *, limit: int) -> tuple[int, str, str | None]:
        counted.append(seq)
        return real(unit, seq, prev, limit=limit)

    monkeypatch.setattr(audit, "check_after", spy)
    for _ in range(9):
        scene.step()
        scene.world.clock.step(minutes=60)
    assert counted.count(0) == 2, "at the start, what is new and the whole"
    scene.world.clock.at += DAY
    for _ in range(9):
        scene.step()
    assert counted.count(0) == 3


def test_the_daily_check_comes_although_the_database_says_it_was_just_made(scene: Scene) -> None:
    scene.step()
    scene.tamper("UPDATE audit_entry SET actor = 'us-innocent' WHERE seq = 5")
    scene.next_day()
    scene.tamper("UPDATE audit_state SET verified_at = ?", scene.world.clock.now() - 1)
    scene.step()
    assert "entry 5 is not what was written" in (scene.state().broken or "")


# After a person has looked


def cut(scene: Scene) -> None:
    """Lose the newest entries, as where an older copy of the database was put back."""
    scene.tamper("DELETE FROM audit_entry WHERE seq > ?", entries(scene.world)[-1].seq - 6)


@pytest.mark.parametrize("is_restarted", [True, False])
def test_what_a_person_let_go_on_goes_on_before_anything_is_anchored(scene: Scene, is_restarted: bool) -> None:
    scene.step()
    (lost,) = scene.anchors()
    cut(scene)
    if is_restarted:
        scene.restart()
    later(scene)
    go_on(scene.world, scene.world.admin, "the copy of last night")
    told = next(each for each in entries(scene.world) if each.action == "log.continued")
    assert json.loads(told.after)["lost"] == {name: lost[name] for name in ("segment", "seq", "hash", "at")}
    if is_restarted:
        scene.restart()
    for _ in range(3):
        scene.step()
    assert scene.state().broken is None and scene.admits() and len(scene.anchors()) == 2


def test_a_host_with_anchors_of_its_own_goes_on_after_another_did(scene: Scene, tmp_path: Path) -> None:
    scene.step()
    host, older = scene.file.with_name("host.jsonl"), scene.file.with_name("older.jsonl")
    shutil.copy(scene.file, older)
    later(scene)
    shutil.copy(scene.file, host)
    scene.tamper("DELETE FROM audit_entry WHERE seq > 30")
    scene.restart()
    scene.step()
    assert not scene.admits()
    scene.world.clock.step(minutes=1)
    go_on(scene.world, scene.world.admin, "the copy of last night")
    scene.step()
    assert scene.admits()
    for each in (host, older):
        on_host(scene, each)
        assert scene.admits(), "what it anchored is lost, as the log says"
        later(scene)
        assert scene.admits() and scene.verify(tmp_path) == DECLARED


def test_what_is_lost_excuses_no_later_anchor(scene: Scene) -> None:
    scene.step()
    lost = entries(scene.world)[-1].seq
    cut(scene)
    scene.restart()
    scene.step()
    go_on(scene.world, scene.world.admin, "the copy of last night")
    scene.world.clock.step(minutes=1)
    scene.step()
    assert scene.admits() and scene.anchors()[-1]["seq"] < lost
    scene.tamper("UPDATE audit_entry SET hash = ? WHERE seq = ?", "1" * 64, scene.anchors()[-1]["seq"])
    later(scene)
    assert not scene.admits()


def test_a_log_begun_anew_goes_on_on_the_host_it_was_lost_on(scene: Scene, tmp_path: Path) -> None:
    """One host made the database anew with the anchors it had; the other comes back with newer ones."""
    scene.step()
    mine, older = scene.file, scene.file.with_name("older.jsonl")
    shutil.copy(mine, older)
    later(scene)
    wipe(scene)
    scene.world.clock.step(minutes=1)
    with scene.world.unit() as unit:
        audit.begin_again(unit, now=scene.world.clock.now())
    on_host(scene, older)
    assert scene.admits() and len(scene.anchors()) == 2
    on_host(scene, mine)
    assert scene.admits()
    lost = [json.loads(each.after)["lost"]["seq"] for each in entries(scene.world) if each.action == "log.lost"]
    assert lost == [json.loads(line)["anchor"]["seq"] for line in mine.read_bytes().splitlines()[:2]]
    later(scene)
    assert scene.verify(tmp_path) == DECLARED


def test_an_export_begins_a_log_in_which_nothing_is_yet(scene: Scene, tmp_path: Path) -> None:
    """As after an upgrade from a version that kept none."""
    wipe(scene)
    (tmp_path / "log.jsonl").write_bytes(exported(scene.world))
    assert check(tmp_path / "log.jsonl", root=scene.world.root) == WHOLE
    assert [each.action for each in entries(scene.world)][:2] == ["log.begun", "log.exported"]


def test_an_anchor_that_nobody_calls_lost_stays_an_error_offline(scene: Scene, tmp_path: Path) -> None:
    scene.step()
    rewrite(scene)
    assert scene.verify(tmp_path) == NOT_WHOLE
    with scene.world.unit() as unit:
        anchor = scene.anchors()[0]
        lost = {**{name: anchor[name] for name in ("segment", "hash", "seq")}, "at": anchor["at"] - 1, "seq": 1}
        audit.add(unit, Entry("engine", "log.lost", "x", after={"lost": lost}), now=scene.world.clock.now())
    scene.restart()
    scene.step()
    assert not scene.admits(), "what is lost is older than the anchor"


def test_no_entry_calls_lost_what_is_anchored_after_it(scene: Scene) -> None:
    """One that pretends that all was lost until the end of time excuses nothing that comes then."""
    scene.step()
    lost = {"segment": "x", "hash": "x", "seq": 1, "at": FAR}
    with scene.world.unit() as unit:
        audit.add(unit, Entry("engine", "log.lost", "x", after={"lost": lost}), now=scene.world.clock.now())
    later(scene)
    assert len(scene.anchors()) == 2
    rewrite(scene)
    later(scene)
    assert not scene.admits()


def test_a_line_of_the_anchor_file_that_is_none_is_let_go_on_once(scene: Scene) -> None:
    scene.step()
    good = scene.file.read_bytes()
    scene.file.write_bytes(good + b"{}\n")
    later(scene)
    assert "is no anchor" in (scene.state().broken or "")
    go_on(scene.world, scene.world.admin, "the disk was bad")
    scene.restart()
    scene.step()
    assert scene.admits() and read_anchor(scene.file.read_bytes().splitlines(keepends=True)[-1])
    scene.file.write_bytes(good + b"{}\n")
    later(scene)
    assert not scene.admits()
