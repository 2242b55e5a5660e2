"""The engine's part: the newest hash goes to a second place, checks find what was changed, and nothing is paid then."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outlay.actions import audit as use
from outlay.actions.organization import require_applied
from outlay.config import parse
from outlay.core.audit import NO_ENTRY, Entry
from outlay.core.errors import InvalidInput, PreconditionFailed, Unavailable
from outlay.core.seams import DAY
from outlay.engine import anchor as module
from outlay.engine.anchor import Anchoring
from outlay.engine.egress import Answer
from outlay.evidence.audit_log import DECLARED, NOT_WHOLE, WHOLE, check, read_anchor
from outlay.store import audit
from tests import postgres
from tests.actions.world import SETTINGS, Actor, World
from tests.audit.life import KEY, entries, exported, live

REFUSED = Answer(status="500", error="the endpoint answered 500, not 200")
TAKEN = Answer(status="200", error=None)


class Place:
    """Where anchors are posted to."""

    def __init__(self) -> None:
        self.answer = TAKEN
        self.taken: list[bytes] = []

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        assert url == "https://elsewhere.example/anchors" and headers["Content-Type"] == "application/json"
        self.taken.append(body)
        return self.answer


class Scene:
    """A world with a bit of a past, and the step that anchors its log."""

    def __init__(self, folder: Path, *, url: bool = False, file: bool = True) -> None:
        (folder / "world").mkdir()
        self.world, self.bot = live(folder / "world", payouts=1)
        self.file, self.place = folder / "anchors.jsonl", Place()
        lines = [f'anchor_file = "{self.file}"'] if file else []
        lines += ['anchor_url = "https://elsewhere.example/anchors"'] if url else []
        self.config = parse(SETTINGS + "\n[audit]\n" + "\n".join(lines))
        self.restart()

    def restart(self) -> None:
        world, egress = self.world, self.place
        self.anchoring = Anchoring(world.db, world.clock, world.entropy, self.config, key=KEY, egress=egress)  # type: ignore[arg-type]

    def next_day(self) -> None:
        """Let a day pass; the admin logs in again."""
        self.world.clock.at += DAY
        self.world.admin = self.world.log_in(self.world.admin)

    def step(self) -> None:
        assert asyncio.run(self.anchoring.step()) is False

    def anchors(self) -> list[dict[str, Any]]:
        lines = self.file.read_bytes().splitlines(keepends=True) if self.file.exists() else []
        return [read_anchor(line)[0] for line in lines]

    def state(self) -> audit.State:
        with self.world.unit() as unit:
            return audit.state(unit)

    def tamper(self, statement: str, *parameters: Any) -> None:
        """Change the log as somebody does who owns the database."""
        where = self.world.db.where
        if isinstance(where, Path):
            for trigger in ("audit_entry_not_updated", "audit_entry_not_deleted"):
                postgres.change(where, f"DROP TRIGGER IF EXISTS {trigger}")
        else:
            postgres.change(where, "ALTER TABLE audit_entry DISABLE TRIGGER audit_entry_stays")
        postgres.change(where, statement, *parameters)

    def admits(self) -> bool:
        with self.world.unit() as unit:
            try:
                require_applied(unit, self.world.config)
            except Unavailable as error:
                assert error.details["reason"] == "audit_broken"
                return False
        return True

    def verify(self, folder: Path) -> int:
        (folder / "log.jsonl").write_bytes(exported(self.world))
        return check(folder / "log.jsonl", root=self.world.root, anchor=self.file)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.world.close()


def test_the_newest_hash_is_kept_once_a_while(scene: Scene) -> None:
    scene.step()
    (first,) = scene.anchors()
    newest = entries(scene.world)[-1]
    assert newest.action == "log.anchored" and json.loads(newest.after)["file"] is True
    assert first["seq"] == newest.seq - 1 and first["root"] == scene.world.root
    scene.world.clock.step(minutes=9)
    scene.world.permission("Wallets:Read")
    scene.step()
    assert len(scene.anchors()) == 1, "not yet"
    scene.world.clock.step(minutes=1)
    scene.step()
    assert len(scene.anchors()) == 2
    scene.world.clock.step(minutes=60)
    scene.step()
    assert len(scene.anchors()) == 2, "nothing happened but the anchor itself"


def test_an_exported_log_agrees_with_its_anchors(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.step()
    assert scene.verify(tmp_path) == WHOLE
    assert "entries rest on the chain alone" in capsys.readouterr().out


def test_a_line_that_a_crash_cut_off_is_ended(scene: Scene) -> None:
    scene.step()
    with scene.file.open("ab") as file:
        file.write(b'{"anchor":{"at"')
    scene.world.permission("Wallets:Read")
    scene.restart()
    scene.world.clock.step(minutes=11)
    scene.step()
    assert len(scene.anchors()) == 2 and scene.admits()


def test_a_place_that_takes_nothing_is_tried_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path, url=True)
    scene.place.answer = REFUSED
    scene.step()
    assert json.loads(entries(scene.world)[-1].after) == {
        "seq": scene.anchors()[0]["seq"],
        "hash": scene.anchors()[0]["hash"],
        "file": True,
        "url": False,
    }
    scene.world.permission("Wallets:Read")
    scene.place.answer = TAKEN
    scene.world.clock.step(minutes=1)
    scene.step()
    assert len(scene.place.taken) == 2 and read_anchor(scene.place.taken[1])[0] == scene.anchors()[1]
    assert json.loads(entries(scene.world)[-1].after)["url"] is True
    scene.world.close()


def test_without_any_place_nothing_is_noted(tmp_path: Path) -> None:
    scene = Scene(tmp_path, file=False)
    scene.file.mkdir()
    before = entries(scene.world)
    scene.step()
    assert entries(scene.world) == before
    unwritable = parse(SETTINGS + f'\n[audit]\nanchor_file = "{scene.file}"\n')
    one = Anchoring(scene.world.db, scene.world.clock, scene.world.entropy, unwritable, key=KEY, egress=None)
    assert asyncio.run(one.anchor()) is False
    assert entries(scene.world) == before and scene.admits()
    scene.world.close()


TAMPERS = {
    "edited": ("UPDATE audit_entry SET actor = 'us-x' WHERE seq = 9", "entry 9 is not what was written"),
    "deleted": ("DELETE FROM audit_entry WHERE seq = 9", "entry 9 is missing"),
    "hash edited": (f"UPDATE audit_entry SET hash = '{NO_ENTRY}' WHERE seq = 9", "entry 9 is not what was written"),
    "cut off": ("DELETE FROM audit_entry WHERE seq > 9", "which was checked before, is gone"),
}


@pytest.mark.parametrize("how", TAMPERS)
def test_the_daily_check_finds_what_was_changed(
    scene: Scene, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 7)
    for _ in range(40):
        scene.step()
    assert scene.state().verified_at == scene.world.clock.now(), "the first check of the whole log is through"
    statement, why = TAMPERS[how]
    scene.tamper(statement)
    assert scene.admits()
    scene.next_day()
    for _ in range(40):
        scene.step()
    problem = scene.state().broken or ""
    assert why in problem and not scene.admits()
    with pytest.raises(Unavailable, match="audit log"):
        scene.world.pay(scene.bot, scene.world.wallet("more"), 5)
    assert [each.action for each in entries(scene.world)][-1] == "log.broken"
    assert scene.world.events(scene.world.org_id)[-1] == "audit.broken"
    assert scene.verify(tmp_path) == NOT_WHOLE


def test_what_is_new_is_checked_before_it_is_anchored(scene: Scene) -> None:
    scene.step()
    seq = entries(scene.world)[-1].seq + 2
    scene.world.permission("Wallets:Read")
    scene.tamper("UPDATE audit_entry SET subject = 'pm-x' WHERE seq = ?", seq)
    scene.world.clock.step(minutes=10)
    scene.step()
    assert f"entry {seq}" in (scene.state().broken or "") and len(scene.anchors()) == 1


def test_a_log_cut_off_behind_the_servers_back_stops_it_at_the_start(scene: Scene, tmp_path: Path) -> None:
    """Also where whoever did it put back every note of how far the log was checked."""
    scene.step()
    last = scene.anchors()[0]["seq"]
    scene.tamper("DELETE FROM audit_entry WHERE seq >= ?", last)
    scene.tamper("DELETE FROM audit_state")
    scene.restart()
    scene.step()
    assert scene.state().broken == f"entry {last} was anchored and the log ends with {last - 1}"
    assert not scene.admits()
    assert scene.verify(tmp_path) == NOT_WHOLE, "the only anchor is of what is gone"
    go_on(scene.world, scene.world.admin, "restored the copy of last night")
    assert scene.admits()
    scene.step()
    assert len(scene.anchors()) == 2, "anchored at once"
    scene.restart()
    scene.step()
    assert scene.admits() and scene.verify(tmp_path) == DECLARED


def test_a_log_written_anew_stops_the_server_at_the_start(scene: Scene, tmp_path: Path) -> None:
    scene.step()
    scene.tamper("DELETE FROM audit_entry")
    scene.tamper("DELETE FROM audit_state")
    with scene.world.unit() as unit:
        audit.add_many(unit, [Entry("engine", "payout.paid", "xfr-x")] * 200, now=scene.world.clock.now())
    scene.restart()
    scene.step()
    assert scene.state().broken == "another log than this one was anchored"
    assert scene.verify(tmp_path) == NOT_WHOLE, "the new one has no anchor"


def test_a_database_made_anew_says_what_is_lost(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.step()
    lost = scene.anchors()[0]
    scene.tamper("DELETE FROM audit_entry")
    scene.tamper("DELETE FROM audit_state")
    with scene.world.unit() as unit:
        audit.begin_again(unit, now=scene.world.clock.now())
    scene.restart()
    scene.step()
    assert scene.admits()
    found = next(each for each in entries(scene.world) if each.action == "log.lost")
    assert json.loads(found.after)["lost"] == {name: lost[name] for name in ("segment", "seq", "hash", "at")}
    capsys.readouterr()
    assert scene.verify(tmp_path) == DECLARED
    assert f"the newest anchor was of entry {lost['seq']}" in capsys.readouterr().out
    scene.restart()
    scene.step()
    assert [each.action for each in entries(scene.world)].count("log.lost") == 1


def test_only_a_broken_log_is_let_go_on_with_a_reason(scene: Scene) -> None:
    with pytest.raises(PreconditionFailed, match="not broken"):
        go_on(scene.world, scene.world.admin, "why not")
    with pytest.raises(InvalidInput):
        go_on(scene.world, scene.world.admin, "")


def test_after_a_person_let_it_go_on_checks_begin_there(scene: Scene) -> None:
    scene.step()
    scene.tamper("UPDATE audit_entry SET actor = 'us-x' WHERE seq = 9")
    scene.next_day()
    scene.step()
    assert not scene.admits()
    go_on(scene.world, scene.world.admin, "the disk was bad")
    told = next(each for each in entries(scene.world) if each.action == "log.continued")
    assert told.actor == scene.world.admin.user_id and "entry 9" in json.loads(told.after)["why"]
    scene.step()
    assert scene.admits() and scene.state().verified_at == scene.world.clock.now()
    scene.tamper("UPDATE audit_entry SET actor = 'us-x' WHERE seq = ?", told.seq + 1)
    scene.next_day()
    scene.step()
    assert not scene.admits()


def go_on(world: World, by: Actor, reason: str) -> None:
    path = "/v1/audit/continue"
    world.call(by, "POST", path, {"reason": reason}, "Outlay:Unfreeze", lambda act: use.go_on(act, reason=reason))


@pytest.mark.parametrize("line", ["anchor_every_s = 0", 'anchor_url = "file:///etc/passwd"', "anchors = 1"])
def test_settings_that_make_no_sense_are_refused(line: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(f"{SETTINGS}\n[audit]\n{line}\n")
    assert (refused.value.field or "").startswith("audit")
