"""No entry is longer than what checks it reads, whatever it tells."""

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.actions import webhooks as hooks
from outlay.core.audit import Entry
from outlay.core.errors import InvariantBroken, PreconditionFailed
from outlay.core.event import EVENT_KINDS
from outlay.evidence.audit_log import LINE_MAX, WHOLE, check, entry_line
from outlay.store import audit
from outlay.store.schema import webhook
from tests.actions.world import World
from tests.audit.life import entries, exported, live

WELL_BELOW = LINE_MAX // 4


def founded(folder: Path) -> World:
    """Found an organization in a folder of its own."""
    (folder / "world").mkdir()
    return World(folder / "world")


def longest(world: World) -> int:
    return max(len(entry_line(audit.text_of(each), each.hash)) for each in entries(world))


def create(world: World, events: list[str]) -> dict[str, object]:
    body = {"url": "https://x.example/h", "events": events}
    made: dict[str, object] = world.call(
        world.admin,
        "POST",
        "/webhooks",
        body,
        "Webhooks:Create",
        lambda act: hooks.create(act, url="https://x.example/h", events=events, status=None, description=None),
    )
    return made


def update(world: World, webhook_id: str, events: list[str] | None) -> dict[str, object]:
    more = {"status": None, "description": "changed"}
    done: dict[str, object] = world.call(
        world.admin,
        "PUT",
        f"/webhooks/{webhook_id}",
        {"description": "changed"},
        "Webhooks:Update",
        lambda act: hooks.update(act, webhook_id, url=None, events=events, **more),
    )
    return done


def test_every_kind_named_ten_thousand_times_is_named_once(tmp_path: Path) -> None:
    world = founded(tmp_path)
    kinds = list(EVENT_KINDS) * 500
    made = create(world, kinds)
    assert made["events"] == list(EVENT_KINDS)
    assert update(world, str(made["id"]), ["*"] * 16_000)["events"] == ["*"]
    assert update(world, str(made["id"]), kinds)["events"] == list(EVENT_KINDS)
    with world.unit() as unit:
        # As an earlier version stored it.
        unit.execute(sa.update(webhook).values(events=["*"] * 16_000))
    update(world, str(made["id"]), None)
    assert longest(world) < WELL_BELOW
    (tmp_path / "log.jsonl").write_bytes(exported(world))
    assert check(tmp_path / "log.jsonl", root=world.root) == WHOLE
    world.close()


def test_there_are_no_more_than_so_many_endpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "WEBHOOKS_MAX", 3)
    world = founded(tmp_path)
    made = [create(world, ["*"])["id"] for _ in range(3)]
    with pytest.raises(PreconditionFailed, match="at most 3 webhooks"):
        create(world, ["*"])
    world.call(
        world.admin,
        "DELETE",
        f"/webhooks/{made[0]}",
        {},
        "Webhooks:Delete",
        lambda act: hooks.delete(act, str(made[0])),
    )
    create(world, ["*"])
    world.close()


def test_what_is_written_of_a_life_is_short(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    world, _ = live(tmp_path / "world", payouts=1)
    assert longest(world) < audit.ENTRY_MAX // 4
    world.close()


@pytest.mark.parametrize("member", ["before", "after"])
def test_a_long_member_is_told_by_its_digest(tmp_path: Path, member: str) -> None:
    world = founded(tmp_path)
    long: dict[str, Any] = {"events": ["*"] * 10**5}
    entry = Entry("engine", "webhook.changed", "wh-1")
    none: dict[str, Any] = {}
    plain: dict[str, Any] = {"before": {"a": "b"}, "after": {"a": "b"}}
    with world.unit() as unit:
        audit.add(unit, entry._replace(**{**none, member: long}), now=world.clock.now())
        other = {**plain, member: "[" + '"*",' * 30_000 + '"*"]'}
        audit.add(unit, entry._replace(**other), now=world.clock.now())
    told = [json.loads(getattr(each, member)) for each in entries(world)[-2:]]
    assert [sorted(each) for each in told] == [["length", "sha256"]] * 2
    kept = json.loads(getattr(entries(world)[-1], "before" if member == "after" else "after"))
    assert kept == {"a": "b"}, "what is short stays as it is"
    assert longest(world) < WELL_BELOW and audit.ENTRY_MAX <= WELL_BELOW
    (tmp_path / "log.jsonl").write_bytes(exported(world))
    assert check(tmp_path / "log.jsonl", root=world.root) == WHOLE
    world.close()


def test_what_cannot_be_shortened_is_refused(tmp_path: Path) -> None:
    world = founded(tmp_path)
    before = entries(world)
    with pytest.raises(InvariantBroken, match="longer"), world.unit() as unit:
        audit.add(unit, Entry("engine", "webhook.changed", "x" * audit.ENTRY_MAX), now=world.clock.now())
    assert entries(world) == before
    world.close()
