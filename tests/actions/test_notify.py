"""Messages to people: who is told what, once, however often a channel fails, and never more than a person can read."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from outlay.actions import notices
from outlay.actions.notices import PAGES
from outlay.actions.present_changes import NAMES
from outlay.cli.approvals import KINDS
from outlay.core.address import checksum
from outlay.core.errors import NotPermitted
from outlay.core.event import EVENT_KINDS
from outlay.core.message import Message
from outlay.core.seams import SECOND
from outlay.engine.notify import Collect, Courier
from outlay.evidence.words import words
from outlay.store import approvals, notify, webhooks
from outlay.store.notify import Draft, Envelope
from tests import recurrences
from tests.actions.council import Council
from tests.actions.documents import ALWAYS, ask, group, over
from tests.actions.world import ALICE, SETTINGS, Actor, World

OPS = "ops@example.com"
NOTIFY = f"""
[notify]
smtp_host = "mail.example"
mail_from = "outlay@example.com"
mail_to = ["{OPS}"]
chat_url_file = "chat"
remind_every_s = 3600
per_minute_max = 5
"""
STEPS_MAX = 50
DOCS = Path(__file__).resolve().parents[2] / "docs"


class Channel:
    """Keeps what it is given, or refuses it."""

    def __init__(self) -> None:
        self.taken: list[Envelope] = []
        self.refuses: str | None = None
        self.offered = 0

    async def send(self, envelopes: Sequence[Envelope]) -> dict[int, str | None]:
        """Take them, unless it refuses."""
        self.offered += len(envelopes)
        if self.refuses is None:
            self.taken += envelopes
        return {each.number: self.refuses for each in envelopes}


def is_receipt(message: Message) -> bool:
    """Tell whether a message tells somebody what they have decided."""
    return re.match(r".* has (approved|denied) this, with key cr-", message.text) is not None


class Desk:
    """The steps of an organization that tells people."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.mail, self.chat = Channel(), Channel()
        self.restart()

    def restart(self) -> None:
        """Forget what is only in memory."""
        parts = (self.world.db, self.world.clock, self.world.config)
        self.collect = Collect(*parts)
        self.couriers = [Courier(*parts, "mail", self.mail), Courier(*parts, "chat", self.chat)]

    def run(self, *, minutes: float = 0) -> None:
        """Let time pass, then run each step until it has nothing to do."""
        self.world.clock.step(minutes=minutes)

        async def all_steps() -> None:
            steps: list[Collect | Courier] = [self.collect, *self.couriers]
            for each in steps:
                for _ in range(STEPS_MAX):
                    if not await each.step():
                        break
                else:
                    raise AssertionError("a step never has nothing to do")

        asyncio.run(all_steps())

    def mailed(self) -> list[tuple[str, str]]:
        """Return address and title of every mail that was taken, but for receipts, and forget them."""
        found = [(place, message.title) for place, message in self.taken(self.mail) if not is_receipt(message)]
        return sorted(found)

    def chatted(self) -> list[str]:
        return [message.text for _, message in self.taken(self.chat) if not is_receipt(message)]

    def taken(self, channel: Channel) -> list[tuple[str, Message]]:
        """Return every message that a channel took, with its place, and forget them."""
        found = [(each.place, message) for each in channel.taken for message in each.messages]
        channel.taken.clear()
        return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = World(tmp_path, settings=SETTINGS + NOTIFY)
    yield opened
    opened.close()


@pytest.fixture
def desk(world: World) -> Desk:
    made = Desk(world)
    made.run()
    return made


def hold(world: World, *who: Actor, quorum: int = 1) -> str:
    """Return a wallet all of whose payouts wait for these people."""
    world.policy(ALWAYS, ask(group(*who, quorum=quorum), timeout=1440), tags=["asked"])
    return world.wallet("asked")


def page(world: World, kind: str, subject: str, **data: Any) -> None:
    with world.unit() as unit:
        webhooks.emit(unit, kind=kind, subject=subject, data=data, now=world.clock.now(), entropy=world.entropy)


def delayed(subject: str, *, place: str) -> Draft:
    return Draft(channel="mail", place=place, kind="payout.delayed", about=subject, message=Message(subject, "late"))


def test_who_may_vote_is_asked_with_everything_that_matters(desk: Desk, bot: Actor, one: Actor, two: Actor) -> None:
    world = desk.world
    outsider = world.person("somebody.else@example.com")
    powerless = world.person("not.permitted@example.com", permitted=False)
    paid = world.pay(bot, hold(world, one, two, powerless), 12_500, external_id="invoice-7")
    desk.run(minutes=2)
    asked = "12,500 USDC waits for approval"
    assert desk.mailed() == [(one.username, asked), (two.username, asked)]
    assert outsider.username
    (text,) = desk.chatted()
    row = world.row(paid["id"])
    for expected in (
        "12,500 USDC",
        checksum(ALICE),
        "EthereumSepolia",
        "about 12500 USD",
        "payouts bot",
        "invoice-7",
        "1 of group",
        "Held because",
        words(row.intent_digest),
        f"http://localhost:8000/dashboard/approvals/{row.approval_id}",
        f"outlay approvals show {row.approval_id} --url http://localhost:8000",
    ):
        assert expected in text
    desk.run(minutes=1)
    desk.restart()
    desk.run()
    assert desk.mailed() == []
    assert desk.chatted() == []


def test_each_is_reminded_until_they_have_decided(desk: Desk, bot: Actor, one: Actor, two: Actor) -> None:
    world = desk.world
    paid = world.pay(bot, hold(world, one, two, quorum=2), 10)
    desk.run()
    assert len(desk.mailed()) == 2
    world.decide(one, paid["id"])
    desk.run(minutes=59)
    assert desk.mailed() == []
    desk.run(minutes=2)
    assert desk.mailed() == [(two.username, "Still waiting: 10 USDC waits for approval")]
    two = world.log_in(two)
    world.decide(two, paid["id"])
    desk.run(minutes=61)
    assert desk.mailed() == []


def test_what_was_decided_meanwhile_is_not_asked_any_more(desk: Desk, bot: Actor, one: Actor) -> None:
    world = desk.world
    desk.mail.refuses = "the mail server is away"
    paid = world.pay(bot, hold(world, one), 10)
    desk.run()
    assert len(desk.chatted()) == 1
    world.decide(one, paid["id"])
    desk.mail.refuses = None
    desk.run(minutes=30)
    assert desk.mailed() == []


def test_no_unit_is_written_for_a_place_that_has_no_room(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    world = desk.world
    desk.mail.refuses = "the mail server is away"
    with world.unit() as unit:
        notify.add(unit, [delayed(f"xfr-{number}", place=OPS) for number in range(3000)], now=world.clock.now())
        # As if its room were used up: five envelopes that are tried again later.
        unit.exec_driver_sql(
            f"UPDATE notify_message SET envelope = seq, due_at = {2**62}"
            " WHERE seq IN (SELECT seq FROM notify_message ORDER BY seq LIMIT 5)"
        )
    writes, (courier, _) = Mock(side_effect=world.db.write), desk.couriers
    monkeypatch.setattr(world.db, "write", writes)
    for _ in range(5):
        world.clock.step(minutes=0.02)
        assert not asyncio.run(courier.step())
    assert not writes.called
    with world.unit() as unit:
        notify.add(unit, [delayed("xfr-1", place="others@example.com")], now=world.clock.now())
    assert asyncio.run(courier.step())
    assert desk.mail.offered == 1 and writes.call_count == 2  # into an envelope, and what became of it


def test_what_is_written_in_one_unit_is_bounded(desk: Desk) -> None:
    world = desk.world
    places = [f"approver.{number}@example.com" for number in range(30)]
    with world.unit() as unit:
        notify.add(unit, [delayed(f"xfr-{number}", place=OPS) for number in range(1200)], now=world.clock.now())
        notify.add(unit, [delayed("xfr-1", place=each) for each in places], now=world.clock.now())
        found = notify.plan(unit, "mail", now=world.clock.now(), per_minute_max=5, limit=20)
    assert [len(part) for part in found.parts] == [notify.TOGETHER_MAX, *[1] * 19]
    desk.run()
    assert sorted(len(each.messages) for each in desk.mail.taken) == [*[1] * 30, 200, 1000]


def test_who_waits_is_looked_at_a_page_at_a_time(
    desk: Desk, bot: Actor, one: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "REMINDED_MAX", 3)
    world = desk.world
    wallet_id = hold(world, one)
    for dollars in range(10, 18):
        world.pay(bot, wallet_id, dollars)
    desk.run()
    assert len(desk.mailed()) == 8
    world.clock.step(minutes=61)
    looks = Mock(side_effect=approvals.pending_page)
    monkeypatch.setattr(approvals, "pending_page", looks)
    desk.run()
    assert looks.call_count == 3
    assert [title for _, title in desk.mailed()] == [
        f"Still waiting: {dollars} USDC waits for approval" for dollars in range(10, 18)
    ]
    desk.run(minutes=2)
    assert desk.mailed() == []


def test_nobody_is_reminded_where_the_first_message_still_waits(desk: Desk, bot: Actor, one: Actor) -> None:
    world = desk.world
    desk.mail.refuses = "the mail server is away"
    world.pay(bot, hold(world, one), 10)
    for _ in range(5):
        desk.run(minutes=61)
    assert len(desk.chatted()) == 5
    with world.unit() as unit:
        assert unit.exec_driver_sql("SELECT count(*) FROM notify_message WHERE channel = 'mail'").scalar_one() == 1
    desk.mail.refuses = None
    desk.run(minutes=16)
    assert len(desk.mailed()) == 1


def test_a_callers_storm_is_one_message_a_place_however_many_payouts_are_held(
    desk: Desk, bot: Actor, one: Actor, two: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "EACH_MAX", 5)
    world = desk.world
    wallet_id = hold(world, one, two)
    paid = [world.pay(bot, wallet_id, 10)["id"] for _ in range(12)]
    other = world.service_account("another bot")
    world.pay(other, wallet_id, 7)
    desk.run(minutes=2)
    one_of_them, all_of_them = "7 USDC waits for approval", "12 payouts of payouts bot wait for approval"
    assert desk.mailed() == sorted(
        (each.username, title) for each in (one, two) for title in (one_of_them, all_of_them)
    )
    (text,) = [text for text in desk.chatted() if "too many to be told" in text]
    assert text.count(f"10 USDC to {checksum(ALICE)}") == 12
    desk.run(minutes=2)
    assert desk.mailed() == []

    desk.mail.refuses = "the mail server is away"
    for _ in range(4):  # the storm goes on: what waits already is not told again
        paid.append(world.pay(bot, wallet_id, 10)["id"])
        desk.run(minutes=2)
    with world.unit() as unit:
        waiting = unit.exec_driver_sql("SELECT count(*) FROM notify_message WHERE state = 'waiting'").scalar_one()
    assert waiting == 2
    for each in paid:
        world.decide(one, each)
    desk.mail.refuses = None
    desk.run(minutes=16)
    assert desk.mailed() == []


def test_who_goes_below_a_storm_is_told_of_one_by_one(
    desk: Desk, bot: Actor, one: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "EACH_MAX", 2)
    world = desk.world
    wallet_id = hold(world, one)
    paid = [world.pay(bot, wallet_id, dollars)["id"] for dollars in (10, 11, 12)]
    desk.run(minutes=2)
    assert [title for _, title in desk.mailed()] == ["3 payouts of payouts bot wait for approval"]
    world.decide(one, paid[0])
    desk.run(minutes=2)
    assert [title for _, title in desk.mailed()] == [f"{each} USDC waits for approval" for each in (11, 12)]


def test_where_nobody_can_decide_the_operators_are_told(desk: Desk, bot: Actor, one: Actor) -> None:
    world = desk.world
    wallet_id = hold(world, one)
    world.deactivate(one)
    world.pay(bot, wallet_id, 10)
    desk.run()
    assert desk.mailed() == [(OPS, "Nobody can decide: 10 USDC waits for approval")]


def test_what_waits_when_it_is_switched_on_is_told_and_what_is_past_is_not(
    world: World, bot: Actor, one: Actor
) -> None:
    wallet_id = hold(world, one)
    page(world, "wallet.frozen", wallet_id, reason="long ago")
    world.pay(bot, wallet_id, 10)
    desk = Desk(world)
    desk.run()
    assert desk.mailed() == [(one.username, "10 USDC waits for approval")]


def test_a_page_goes_to_the_operators_without_what_opens_something(desk: Desk) -> None:
    page(
        desk.world,
        "wallet.frozen",
        "wa-1",
        reason="a\nline of https://user:pw@hooks.example/T0/SECRET somebody else\u202e's",
        webhook={"id": "wh-1", "url": "https://x.example/CANARY", "secret": "whsec_CANARY"},
        token="CANARY",
    )
    page(desk.world, "wallet.unfrozen", "wa-1")
    desk.run()
    (mail,) = desk.mail.taken
    assert mail.place == OPS
    (message,) = mail.messages
    assert message.title == "wallet.frozen: wa-1"
    assert EVENT_KINDS["wallet.frozen"] in message.text
    assert "webhook.id: wh-1" in message.text
    assert "reason: a�line of https[:]//user" in message.text
    for hidden in ("CANARY", "SECRET", "pw@"):
        assert hidden not in message.text


def test_every_page_is_an_event_and_says_where_to_read_on() -> None:
    assert set(PAGES) <= set(EVENT_KINDS)
    for named in PAGES.values():
        assert (DOCS / named).is_file(), named


def test_a_storm_is_one_message(desk: Desk, bot: Actor, one: Actor) -> None:
    world = desk.world
    wallet_id = hold(world, one)
    for _ in range(40):
        world.pay(bot, wallet_id, 10)
    desk.run()
    (digest,) = desk.mail.taken
    assert len(digest.messages) == 40
    assert len(desk.chat.taken) == 1


def test_no_place_gets_more_than_the_settings_allow_in_a_minute(desk: Desk) -> None:
    for number in range(30):
        page(desk.world, "wallet.frozen", f"wa-{number}")
        desk.run(minutes=0.05)
    assert len(desk.mail.taken) <= 2 * 5
    desk.run(minutes=1)
    desk.run(minutes=1)
    assert [title for _, title in desk.mailed()] == sorted(f"wallet.frozen: wa-{number}" for number in range(30))


def test_a_channel_that_is_away_delays_itself_and_loses_nothing(desk: Desk) -> None:
    desk.mail.refuses = "the mail server is away"
    page(desk.world, "wallet.frozen", "wa-1")
    desk.run()
    assert len(desk.chatted()) == 1
    for _ in range(120):
        desk.run(minutes=0.5)
    hour = desk.mail.offered
    assert 4 <= hour <= 12
    desk.restart()
    with desk.world.unit() as unit:
        assert notify.troubles(unit) == (1, 0, "the mail server is away")
    desk.mail.refuses = None
    desk.run(minutes=16)
    assert desk.mailed() == [(OPS, "wallet.frozen: wa-1")]
    with desk.world.unit() as unit:
        assert notify.troubles(unit)[:2] == (0, 0)


def test_after_three_days_it_is_given_up_and_stays_visible(desk: Desk) -> None:
    desk.mail.refuses = "550 no such mailbox"
    page(desk.world, "wallet.frozen", "wa-1")
    for _ in range(7):
        desk.run(minutes=12 * 60)
    offered = desk.mail.offered
    desk.run(minutes=60)
    assert desk.mail.offered == offered
    with desk.world.unit() as unit:
        assert notify.troubles(unit) == (0, 1, "550 no such mailbox")


def test_a_crash_after_sending_sends_the_same_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    page(desk.world, "wallet.frozen", "wa-1")
    page(desk.world, "wallet.frozen", "wa-2")

    def crash(*_arguments: Any, **_named: Any) -> None:
        raise RuntimeError("the process ends here")

    with monkeypatch.context() as patched:
        patched.setattr(notify, "mark", crash)
        with pytest.raises(RuntimeError):
            desk.run()
    before = {(each.number, each.at): each.messages for each in desk.mail.taken}
    assert len(before) == 2
    desk.mail.taken.clear()
    page(desk.world, "wallet.frozen", "wa-3")
    desk.restart()
    desk.run()
    after = {(each.number, each.at): each.messages for each in desk.mail.taken}
    assert before.items() <= after.items()
    assert len(after) == 3


def test_a_crash_before_a_message_is_stored_forgets_no_event(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    page(desk.world, "wallet.frozen", "wa-1")

    def crash(*_arguments: Any, **_named: Any) -> None:
        raise RuntimeError("the process ends here")

    with monkeypatch.context() as patched:
        patched.setattr(notify, "move", crash)
        with pytest.raises(RuntimeError):
            desk.run()
    desk.restart()
    desk.run()
    assert desk.mailed() == [(OPS, "wallet.frozen: wa-1")]


def test_many_uninteresting_events_are_passed_over(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outlay.engine.notify.CURSOR_BEHIND", 5)
    for number in range(7):
        page(desk.world, "wallet.unfrozen", f"wa-{number}")
    desk.run()
    with desk.world.unit() as unit:
        assert notify.cursor(unit) == notify.newest(unit)


def test_what_ended_a_month_ago_is_forgotten(desk: Desk) -> None:
    page(desk.world, "wallet.frozen", "wa-1")
    desk.run()
    desk.run(minutes=31 * 24 * 60)
    with desk.world.unit() as unit:
        assert unit.exec_driver_sql("SELECT count(*) FROM notify_message").scalar_one() == 0


def test_a_change_is_told_to_who_may_vote_and_to_every_other_admin(tmp_path: Path) -> None:
    council = Council(tmp_path, guarded=False, settings=SETTINGS + NOTIFY)
    desk = Desk(council)
    desk.run()
    other = council.person("other.admin@example.com")
    council.person("nobody@example.com", permitted=False)
    council.guard_all()
    change = council.set_cap(1000)
    desk.run()
    asked = "A change waits for approval: Update Policy"
    approvers = [(each.username, asked) for each in (council.first, council.second, council.third)]
    assert desk.mailed() == sorted([*approvers, (other.username, f"For your information: {asked}")])
    (text,) = desk.chatted()
    assert words(council.request(change).digest) in text
    assert "Loosens       yes" in text
    council.close()


def test_mail_can_go_to_the_operators_alone(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, settings=f"{SETTINGS}{NOTIFY}mail_approvers = false\n")
    desk = Desk(world)
    desk.run()
    one, bot = world.person("approver.one@example.com"), world.service_account("payouts bot")
    world.policy(over(5), ask(group(one)))
    world.pay(bot, world.wallet(), 10)
    desk.run()
    assert desk.mailed() == [(OPS, "10 USDC waits for approval")]
    world.close()


def test_the_terminal_knows_every_change_that_can_wait() -> None:
    assert set(KINDS) == set(NAMES)


def test_instants_are_of_the_clock(desk: Desk) -> None:
    page(desk.world, "wallet.frozen", "wa-1")
    desk.run()
    assert desk.mail.taken[0].at // SECOND == desk.world.clock.now() // SECOND


# Receipts


def receipts(desk: Desk) -> list[tuple[str, Message]]:
    """Return what people were told about what they decided, by mail."""
    return [(place, message) for place, message in desk.taken(desk.mail) if is_receipt(message)]


def test_who_decides_is_told_what_they_have_signed_for(desk: Desk, bot: Actor, one: Actor, two: Actor) -> None:
    world = desk.world
    paid = world.pay(bot, hold(world, one, two, quorum=2), 1250)["id"]
    desk.run()
    desk.taken(desk.mail)
    world.decide(one, paid, reason="checked")
    row = world.row(paid)
    desk.run()
    ((place, message),) = receipts(desk)
    assert place == one.username
    assert message.title == f"{one.username} approved: 1,250 USDC to {checksum(ALICE)}"
    for part in (checksum(ALICE), "1,250 USDC", words(row.intent_digest), "checked", one.credential_uuid):
        assert part in message.text
    world.decide(two, paid, "Denied", reason="no")
    desk.run()
    ((place, message),) = receipts(desk)
    assert place == two.username
    assert message.title.startswith(f"{two.username} denied: ")


def test_a_decision_that_is_refused_has_no_receipt(desk: Desk, bot: Actor, one: Actor, two: Actor) -> None:
    world = desk.world
    paid = world.pay(bot, hold(world, one), 9)["id"]
    with pytest.raises(NotPermitted):
        world.decide(two, paid)
    desk.run()
    assert receipts(desk) == []


def test_the_receipt_of_a_change_names_it(tmp_path: Path) -> None:
    council = Council(tmp_path, settings=SETTINGS + NOTIFY)
    desk = Desk(council)
    change = council.set_cap(1000)
    desk.run()
    desk.taken(desk.mail)
    council.vote(change, council.first)
    desk.run()
    ((place, message),) = receipts(desk)
    assert place == council.first.username
    assert message.title.startswith(f"{council.first.username} approved: Update Policy ")
    assert words(council.request(change).digest) in message.text
    council.close()


def test_a_run_that_waits_is_asked_for_by_its_mandate(world: World) -> None:
    desk, approver = Desk(world), world.person("approver@example.com")
    wallet = world.wallet()
    recurrences.at(world, "2027-01-20 08:00")
    made = recurrences.create(world, recurrences.document(wallet, **{"from": "2027-01-20"}))
    world.policy(ALWAYS, ask(group(approver)))
    recurrences.at(world, "2027-01-20 09:00")
    recurrences.follow(world)
    desk.run()
    (text,) = desk.chatted()
    assert f"Asked by      mandate rent ({made})" in text
