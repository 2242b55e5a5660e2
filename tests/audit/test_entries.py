"""What is written down, in the unit of what it tells, once, by whom; and that nobody can change it afterwards."""

import asyncio
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command

from outlay.actions.act import Act
from outlay.core.audit import ACTIONS, NO_ENTRY, Entry, entry_hash, is_told
from outlay.core.errors import OutlayError, Refused
from outlay.core.transfer import Event
from outlay.evidence.canonical import canonical
from outlay.store import audit, evidence, stops
from outlay.store.database import Database, Unit
from outlay.store.migrate import settings, upgrade
from outlay.store.postgresql import parse_url
from outlay.store.schema import metadata
from tests import postgres
from tests.actions.world import World
from tests.audit.life import entries, live


def names(world: World, subject: str) -> list[str]:
    return [each.action for each in entries(world) if each.subject == subject]


def test_a_payout_is_told_from_the_request_to_the_end(tmp_path: Path) -> None:
    world, bot = live(tmp_path, payouts=1)
    rows = entries(world)
    paid = next(each.subject for each in rows if each.action == "payout.paid")
    mine = [each for each in rows if each.subject == paid and each.action != "call.carried_out"]
    assert [each.action for each in mine] == [
        "payout.requested",
        "payout.assigned",
        "payout.signed",
        "payout.sent",
        "payout.mined",
        "payout.paid",
    ]
    assert [each.actor for each in mine] == [bot.user_id, *["engine"] * 5]
    asked = json.loads(mine[0].after)
    assert (asked["amount"], asked["state"], asked["version"]) == ("5000000", "ready", 2)
    for before, after in itertools.pairwise(mine):
        was, is_ = json.loads(after.before), json.loads(before.after)
        assert {name: was[name] for name in ("state", "version")} == {name: is_[name] for name in ("state", "version")}
    with world.unit() as unit:
        (kept,) = evidence.of(unit, paid)
    assert mine[0].evidence == hashlib.sha256(canonical(kept)).hexdigest()
    world.close()


def test_who_decides_is_named(tmp_path: Path) -> None:
    world, bot = live(tmp_path, payouts=0)
    rows = entries(world)
    one = next(each for each in rows if each.action == "payout.allowed").actor
    assert one not in (bot.user_id, world.admin.user_id, "engine")
    assert next(each for each in rows if each.action == "payout.denied").actor == one
    assert next(each for each in rows if each.action == "payout.withdrawn").actor == bot.user_id
    calls = [each for each in rows if each.action == "call.carried_out" and each.actor == one]
    assert len(calls) == 2 and all(each.evidence and each.request for each in calls)
    world.close()


def test_people_policies_and_sessions_are_told(tmp_path: Path) -> None:
    world, _ = live(tmp_path, payouts=0)
    rows = entries(world)
    actions = {each.action for each in rows}
    assert rows[0].action == "log.begun" and json.loads(rows[0].after)["root"] == world.root
    assert {"record.genesis", "record.user.invited", "record.user.registered", "record.policy.created"} <= actions
    assert {"record.wallet.created", "record.serviceAccount.created", "session.opened"} <= actions
    with world.unit() as unit:
        kinds = unit.exec_driver_sql("SELECT kind, hash FROM record ORDER BY seq").all()
    told = [(each.action.removeprefix("record."), each.evidence) for each in rows if each.action.startswith("record.")]
    assert told == [tuple(each) for each in kinds], "every record is in the log, in its order"
    assert {each.actor for each in rows if each.action == "record.user.registered"}.isdisjoint({"engine"})
    world.close()


def test_no_secret_and_no_chosen_text_is_in_it(tmp_path: Path) -> None:
    world, bot = live(tmp_path, payouts=1)
    text = "\n".join(audit.text_of(each) for each in entries(world))
    for each in (bot, world.admin):
        assert each.claims["secret"] not in text
    details = re.findall(r'"detail":"([^"]*)"', text)
    assert details and all(re.fullmatch("[0-9a-f]{64}", each) for each in details)
    assert "HYPERLINK" not in text and "payouts bot" not in text and "approver.one" not in text
    world.close()


def test_every_name_is_explained(tmp_path: Path) -> None:
    world, _ = live(tmp_path)
    known = {each for each in ACTIONS if not each.endswith("*")}
    assert {each.action for each in entries(world) if not each.action.startswith("record.")} <= known
    assert {f"payout.{each}" for each in Event} <= known
    world.close()


def test_texts_are_canonical_and_the_chain_is_whole(tmp_path: Path) -> None:
    world, _ = live(tmp_path)
    prev = NO_ENTRY
    for number, row in enumerate(entries(world), start=1):
        text = audit.text_of(row)
        assert canonical(json.loads(text)).decode() == text and row.seq == number
        prev = entry_hash(prev, text)
        assert row.hash == prev
    with world.unit() as unit:
        assert audit.check_after(unit, 0, NO_ENTRY, limit=10**6) == (number, prev, None)
    world.close()


def test_what_a_refused_action_did_leaves_no_entry(tmp_path: Path) -> None:
    world, bot = live(tmp_path, payouts=0)
    wallet = world.wallet("others")
    before = entries(world)
    with pytest.raises(OutlayError):
        world.pay(bot, wallet, 5, external_id="x" * 51)
    with pytest.raises(OutlayError):
        world.call(bot, "PUT", "/v1/assets/unfreeze", {}, "Outlay:Unfreeze", _fail_late)
    assert entries(world) == before
    world.pay(bot, wallet, 5)
    assert [each.seq for each in entries(world)] == list(range(1, len(entries(world)) + 1))
    world.close()


def _fail_late(act: Act) -> None:
    act.log("webhook.changed", "wh-x", before=None, after=None)
    raise Refused("no")


def test_the_log_never_goes_back_in_time(world_of: Unit) -> None:
    for now in (100, 90, 101):
        audit.add(world_of, Entry("engine", "log.anchored", "x"), now=now)
    assert [row.at for row in audit.after(world_of, 0, limit=9)] == [100, 100, 100, 101]


def test_units_that_fail_leave_neither_gap_nor_fork(where: Path | str) -> None:
    db = Database(where)

    def good(unit: Unit) -> int:
        return audit.add(unit, Entry("engine", "payout.paid", "good"), now=1)

    def bad(unit: Unit) -> None:
        audit.add_many(unit, [Entry("engine", "payout.paid", "bad")] * 3, now=1)
        raise OutlayError("not kept")

    def batch(unit: Unit, items: Sequence[str]) -> list[int]:
        if "poison" in items:
            bad(unit)
        return [audit.add(unit, Entry("engine", "payout.paid", each), now=1) for each in items]

    async def run() -> list[object]:
        alone = [db.write(bad if number % 3 == 0 else good) for number in range(60)]
        shared = [db.write_item(batch, "poison" if number == 7 else f"item {number}") for number in range(20)]
        return await asyncio.gather(*alone, *shared, return_exceptions=True)

    answers = asyncio.run(run())
    assert sum(isinstance(each, OutlayError) for each in answers) == 21
    with db.engine.connect() as unit:
        rows = audit.after(unit, 0, limit=1000)
        assert [row.seq for row in rows] == list(range(1, 41 + 19 + 1))
        assert {row.subject for row in rows}.isdisjoint({"bad", "poison"})
        assert audit.check_after(unit, 0, NO_ENTRY, limit=1000)[2] is None
    db.close()


@pytest.mark.parametrize("how", ["UPDATE audit_entry SET actor = 'x'", "DELETE FROM audit_entry"])
@pytest.mark.parametrize("made", ["by migrations", "by the program"])
def test_the_database_refuses_to_change_it(tmp_path: Path, how: str, made: str) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    if made == "by migrations":
        upgrade(tmp_path / "x.db")
    else:
        metadata.create_all(engine)
    with engine.begin() as unit:
        audit.add(unit, Entry("engine", "log.anchored", "x"), now=1)
    with pytest.raises(sa.exc.DBAPIError, match="only added to"), engine.begin() as unit:
        unit.exec_driver_sql(how)
    engine.dispose()


def test_postgresql_refuses_too_whoever_asks() -> None:
    url = postgres.database_url()
    engine = sa.create_engine(parse_url(url))
    with engine.begin() as unit:
        audit.add(unit, Entry("engine", "log.anchored", "x"), now=1)
        unit.exec_driver_sql("DROP ROLE IF EXISTS outlay_app")
        unit.exec_driver_sql("CREATE ROLE outlay_app")
        unit.exec_driver_sql("GRANT SELECT, INSERT ON audit_entry TO outlay_app")
    for how in ("UPDATE audit_entry SET actor = 'x'", "DELETE FROM audit_entry", "TRUNCATE audit_entry"):
        with pytest.raises(sa.exc.DBAPIError, match="only added to"), engine.begin() as unit:
            unit.exec_driver_sql(how)
        with pytest.raises(sa.exc.DBAPIError, match="permission denied"), engine.begin() as unit:
            unit.exec_driver_sql("SET LOCAL ROLE outlay_app")
            unit.exec_driver_sql(how)
    with engine.begin() as unit:
        unit.exec_driver_sql("SET LOCAL ROLE outlay_app")
        assert len(audit.after(unit, 0, limit=9)) == 2
    with engine.begin() as unit:
        unit.exec_driver_sql("DROP OWNED BY outlay_app")
        unit.exec_driver_sql("DROP ROLE outlay_app")
    engine.dispose()
    command.downgrade(settings(url), "0013")
    postgres.drop(url)


def test_freezes_of_the_signer_are_told(world_of: Unit) -> None:
    row = {"id": "fr-1", "scope": "all", "subject": "", "reason": "drill", "at": 5}
    stops.replace(world_of, [row])
    stops.replace(world_of, [row])
    stops.replace(world_of, [])
    told = [(each.actor, each.action, each.subject) for each in audit.after(world_of, 1, limit=9)]
    assert told == [("signer", "stop.set", "fr-1"), ("signer", "stop.gone", "fr-1")]


def test_a_frozen_network_is_told_once(world_of: Unit) -> None:
    stops.note_final(world_of, "Net", number=1, hash="0x1")
    assert stops.freeze_network(world_of, "Net", reason="reset", now=5)
    assert not stops.freeze_network(world_of, "Net", reason="again", now=6)
    assert [each.action for each in audit.after(world_of, 1, limit=9)] == ["network.frozen"]


def test_coins_that_leave_are_told_by_their_payout_only() -> None:
    assert is_told("wallet.blockchainevent.detected", {"blockchainEvent": {"direction": "In"}})
    assert not is_told("wallet.blockchainevent.detected", {"blockchainEvent": {"direction": "Out"}})
    assert not is_told("wallet.transfer.confirmed", {})


def test_pages_find_what_is_rare(world_of: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "SCAN_MAX", 10)
    actions = ["payout.paid" if number % 17 == 0 else "payout.sent" for number in range(1, 100)]
    for number, action in enumerate(actions, start=2):
        audit.add(world_of, Entry(f"us-{number % 2}", action, f"xfr-{number % 5}"), now=number * 10)
    for is_oldest_first in (True, False):
        found: list[int] = []
        low, high, pages = 1, 100, 0
        while True:
            rows, following = audit.page(
                world_of, first=low, last=high, limit=3, is_oldest_first=is_oldest_first, action="payout.paid"
            )
            found, pages = [*found, *(row.seq for row in rows)], pages + 1
            if following is None:
                break
            low, high = (following, high) if is_oldest_first else (low, following)
        assert found == sorted((18, 35, 52, 69, 86), reverse=not is_oldest_first) and pages == 10
    rows, _ = audit.page(world_of, first=1, last=100, limit=500, is_oldest_first=True, subject="xfr-3")
    assert [row.seq for row in rows] == list(range(3, 101, 5))
    assert [audit.first_since(world_of, at) for at in (0, 500, 501, 10**6)] == [1, 50, 51, 101]


@pytest.fixture
def world_of(where: Path | str) -> Iterator[Unit]:
    """Return a unit of an empty database, of either kind."""
    db = Database(where)
    with db.engine.connect() as unit:
        yield unit
    db.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    """Return where a database with every table and nothing in it is."""
    if request.param == "sqlite":
        opened = Database(tmp_path / "outlay.db")
        metadata.create_all(opened.engine)
        opened.close()
        yield tmp_path / "outlay.db"
        return
    with postgres.reused() as url:
        yield url
