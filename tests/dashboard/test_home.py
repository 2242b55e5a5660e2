"""The home page: what waits for whom, what is wrong, what flows; each as far as the reader may see it."""

import re
import shlex
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.actions import overview
from outlay.actions.act import authenticate
from outlay.cli.commands import app as command_line
from outlay.core.address import checksum
from outlay.core.asset import NATIVE
from outlay.core.seams import HOUR
from outlay.core.velocity import Scope
from outlay.store import audit, figures, stops, transfers, volume, wallets, webhooks
from outlay.store.database import Database, Unit
from outlay.store.schema import delivery, organization, policy, velocity_entry
from outlay.web.dashboard import home
from outlay.web.dashboard.home import Lately
from tests.actions.documents import ALWAYS, BLOCK, ask, at_most, cap, group, over
from tests.actions.world import ALICE, BOB, USDC, World
from tests.dashboard.lived import Pages, open_pages
from tests.observe.test_gauges import LARGE, statements

LOOKS = ("Wallets:Transfers:Read",)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = World(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def pages(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pages]:
    monkeypatch.setattr(home, "FRESH_S", 0.0)
    with open_pages(tmp_path, world) as opened:
        yield opened


def part(text: str, name: str) -> str:
    """Return the words of a section, one blank between them."""
    found = re.search(rf'<section id="{name}".*?</section>', text, re.S)
    assert found is not None, f"there is no section {name}"
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", found[0])).split())


def test_the_first_steps_are_true_commands_and_go_on_as_they_are_done(pages: Pages) -> None:
    world, bot = pages.world, pages.world.service_account("payouts bot")
    text = pages.text("/dashboard")
    commands = [unescape(each) for each in re.findall(r'<pre class="document" tabindex="0">(outlay [^<]+)</pre>', text)]
    assert len(commands) == 2
    for command in commands:
        command_line.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)
    assert part(text, "steps").count("done") == 0

    wallet_id = world.wallet(dollars=0)
    with world.unit() as unit:
        row = wallets.find(unit, wallet_id)
    assert row is not None
    steps = part(pages.text("/dashboard"), "steps")
    assert checksum(row.address) in steps and f"--wallet {wallet_id}" in steps and steps.count("done") == 1
    world.fund(wallet_id, NATIVE, 10**18)
    assert part(pages.text("/dashboard"), "steps").count("done") == 2

    world.fund(wallet_id, USDC, 10**9)
    world.pay(bot, wallet_id, 1)
    assert 'id="steps"' not in pages.text("/dashboard")


def test_what_waits_is_shown_whole_to_whom_it_waits_for_the_first_to_run_out_first(pages: Pages) -> None:
    world, bot = pages.world, pages.world.service_account("payouts bot")
    one, two = world.person("one@example.com"), world.person("two@example.com")
    new = world.person("new@example.com", vouched=False)
    wallet_id = world.wallet()
    world.policy(over(1000), ask(group(one, new), timeout=60))
    world.policy(over(5000), ask(group(one, two, quorum=2), timeout=10))
    world.pay(bot, wallet_id, 1_250, units=500_000)
    large = world.pay(bot, wallet_id, 6_000, to=BOB)["id"]

    shown = part(pages.text("/dashboard", one), "mine")
    assert shown.index("Pay 6,000 USDC") < shown.index("Pay 1,250.5 USDC")
    assert checksum(BOB) in shown and checksum(ALICE) in shown and "worth $1,250.50" in shown
    assert "payouts bot" in shown
    assert f'href="/dashboard/approvals/{world.approval(large).id}"' in pages.text("/dashboard", one)
    assert "Pay 6,000" in part(pages.text("/dashboard", two), "mine")
    assert "Pay 1,250" not in part(pages.text("/dashboard", two), "mine")
    assert "Nothing waits" in part(pages.text("/dashboard"), "mine")
    assert "Nothing waits" in part(pages.text("/dashboard", new), "mine")  # nobody stands for that key yet

    world.decide(one, large)
    assert "Pay 6,000" not in part(pages.text("/dashboard", one), "mine")
    assert "Pay 6,000" in part(pages.text("/dashboard", two), "mine")
    world.forbid(two)
    assert "Nothing waits" in part(pages.text("/dashboard", two), "mine")
    world.clock.step(minutes=61)
    one = world.log_in(one)
    assert "Nothing waits" in part(pages.text("/dashboard", one), "mine")


def test_ten_of_many_are_shown_and_the_number_of_all(pages: Pages) -> None:
    world, bot = pages.world, pages.world.service_account("payouts bot")
    wallet_id, one = world.wallet(), world.person("one@example.com")
    world.policy(over(10), ask(group(one)))
    for number in range(12):
        world.pay(bot, wallet_id, 100 + number)
    shown = part(pages.text("/dashboard", one), "mine")
    assert shown.count("Pay 1") == 10 and "All 12 that wait for you" in shown


def test_a_change_of_settings_that_waits_is_shown(pages: Pages) -> None:
    world = pages.world
    one, two = world.person("one@example.com"), world.person("two@example.com")
    policy_id = world.policy(over(10), BLOCK)
    world.policy(ALWAYS, ask(group(one, two)), kind="Policies:Modify")
    world.archive_policy(policy_id)
    shown = part(pages.text("/dashboard", one), "mine")
    assert f"Update policy {policy_id}" in shown and "Asked for by admin" in shown


def stopped(world: World) -> dict[str, str]:
    """Make everything wrong that can be; return what is said of it -> the page it leads to."""
    bot = world.service_account("payouts bot")
    first, second = world.wallet(), world.wallet()
    policy_id = world.policy(over(10**6), ask(group()))
    with world.unit() as unit:  # only a preset can say so
        nobody = {"quorum": 1, "approvers": {"userId": {"in": []}}}
        unit.execute(sa.update(policy).where(policy.c.id == policy_id).values(action=ask(nobody)))
    odd = world.pay(bot, first, 7)["id"]
    world.leave(odd)
    world.mine(odd)
    world.settle(odd, "mismatch")  # freezes the wallet and the asset
    with world.unit() as unit:
        late = transfers.find(unit, odd)
        assert late is not None
        transfers.annotate(unit, odd, delayed_at=world.clock.now())
        wallets.freeze(unit, second, "<b>12 USDC are missing</b>")
        stops.replace(
            unit, [{"id": "frz-1", "scope": "identity", "subject": bot.user_id, "reason": "a drill", "at": 1}]
        )
        made = webhooks.create(
            unit, url="https://example.com", events=["*"], now=world.clock.now(), entropy=world.entropy
        )
        webhooks.emit(
            unit, kind="wallet.created", subject="wa-1", data={}, now=world.clock.now(), entropy=world.entropy
        )
        unit.execute(sa.update(delivery).values(state="failed", sent_at=world.clock.now(), error="refused"))
        audit.set_state(unit, broken="entry 3 is missing")
        unit.execute(sa.update(organization).values(money_settings="0" * 64))
    world.prices.pop("ETH")
    return {
        "No payout is admitted: the audit log is not what was written": "/dashboard/audit",
        "are not the ones an admin signed": "",
        f"Wallet {first} is frozen": f"/dashboard/wallets/{first}",
        "<b>12 USDC are missing</b>": f"/dashboard/wallets/{second}",
        f"signs nothing for identity {bot.user_id}": "",
        "USDC on EthereumSepolia is frozen": "/dashboard/wallets",
        f"Payout {odd} is final, but had another effect": f"/dashboard/payouts/{odd}",
        "1 payout takes longer than it should": "/dashboard/payouts?delayed=true",
        f"Webhook {made.id} was not told of 1 event": f"/dashboard/webhooks/{made.id}",
        "asks a group in which nobody is": f"/dashboard/policies/{policy_id}",
        "There is no price of ETH": "",
    }


def test_what_is_wrong_is_told_with_where_to_look_the_worst_first(pages: Pages) -> None:
    assert "Nothing that you may see" in part(pages.text("/dashboard"), "wrong")
    expected = stopped(pages.world)
    text = pages.text("/dashboard")
    shown = part(text, "wrong")
    for said, link in expected.items():
        assert said in shown, (said, shown)
        assert not link or f'href="{link}"' in text, link
    assert "<b>12" not in text
    assert shown.rindex("stops payouts") < shown.index("look at it")
    for page in re.findall(r"docs/([a-z/-]+\.md)", shown):
        assert (Path(__file__).parents[2] / "docs" / page).is_file(), page


def test_who_may_see_little_is_told_little(pages: Pages) -> None:
    world = pages.world
    stopped(world)
    payer = world.service_account("reader", permission_id=world.permission(*LOOKS))
    text = pages.text("/dashboard", payer)
    shown = part(text, "wrong")
    assert "No payout is admitted" in shown and "1 payout takes" in shown
    for hidden in ("is frozen", "signs nothing", "Webhook", "group in which", "no price", "12 USDC"):
        assert hidden not in shown, hidden
    assert 'id="caps"' not in text and 'id="flow"' in text

    nobody = world.service_account("nobody", permission_id=world.permission("Auth:Users:Read"))
    text = pages.text("/dashboard", nobody)
    assert 'id="flow"' not in text and 'id="caps"' not in text and "1 payout takes" not in text


def test_a_wallet_that_runs_out_is_told_of_before_it_is_empty(pages: Pages) -> None:
    world, bot = pages.world, pages.world.service_account("payouts bot")
    wallet_id = world.wallet(dollars=1_000)
    world.leave(world.pay(bot, wallet_id, 600)["id"])
    assert f"Wallet {wallet_id} runs out of USDC in 4 hours" in part(pages.text("/dashboard"), "wrong")


def test_what_flows_is_counted_by_state_with_the_oldest(pages: Pages) -> None:
    world, bot = pages.world, pages.world.service_account("payouts bot")
    wallet_id = world.wallet()
    world.policy(over(1000), ask(group()))
    world.pay(bot, wallet_id, 2000)
    world.clock.step(minutes=3)
    sent = [world.pay(bot, wallet_id, 10)["id"] for _ in range(3)]
    world.leave(sent[0])
    text = pages.text("/dashboard")
    shown = part(text, "flow")
    assert "Waiting for people 1 1 held" in shown and "Waiting to be signed 2 2 ready" in shown
    assert "Signed, about to be sent 1 1 signed" in shown and "Sent, not final yet 0" in shown
    assert 'href="/dashboard/payouts?state=held"' in text
    held_since = re.search(r'1 held</a>.*?<time datetime="([^"]+)"', text, re.S)
    assert held_since is not None and held_since[1] == "2027-01-15T08:00:00.000Z"


def test_the_chart_adds_up_what_was_signed_hour_by_hour(pages: Pages) -> None:
    world, bot = pages.world, pages.world.service_account("payouts bot")
    wallet_id, other = world.wallet(), world.wallet()
    with world.unit() as unit:
        mine = wallets.find(unit, other)
    assert mine is not None
    paid: dict[int, int] = {}
    for dollars, minutes in ((100, 0), (40, 20), (7, 90), (300, 60 * 20)):
        world.clock.step(minutes=minutes)
        world.leave(world.pay(bot, wallet_id, dollars)["id"])
        hour = world.clock.now() // HOUR * HOUR
        paid[hour] = paid.get(hour, 0) + dollars
    world.leave(world.pay(bot, wallet_id, 5000, to=mine.address)["id"])  # to a wallet of ours: it has not left
    world.pay(bot, wallet_id, 9000)  # not signed
    text = pages.text("/dashboard")
    shown = part(text, "flow")
    assert f"The last 24 hours ${sum(paid.values())}.00 in 4 payouts" in shown
    assert text.count("<rect") == len(paid)
    rows = re.findall(
        r'<th scope="row"><time datetime="([^"]+)">.*?</th>\s*<td[^>]*>(\d+)</td><td[^>]*>\$([\d.]+)', text
    )
    assert len(rows) == 24
    assert sorted(float(value) for _, _, value in rows if float(value)) == sorted(paid.values())

    world.clock.step(minutes=60 * 23)
    world.admin = world.log_in(world.admin)
    assert "$300.00 in 1 payout," in part(pages.text("/dashboard"), "flow")
    month = pages.text("/dashboard?span=month")
    assert f"${sum(paid.values())}.00 in 4 payouts" in part(month, "flow")
    assert month.count("<rect") == 2


def test_hours_that_are_over_are_added_up_once_and_very_many_over_several_looks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot, wallet_id = world.service_account("payouts bot"), world.wallet()
    for _ in range(6):
        world.leave(world.pay(bot, wallet_id, 10)["id"])
        world.clock.step(minutes=60)
    asked: list[tuple[int, int]] = []
    real = volume.by_hour

    def by_hour(unit: Unit, *, since: int, until: int) -> Any:
        asked.append((since, until))
        return real(unit, since=since, until=until)

    monkeypatch.setattr(volume, "by_hour", by_hour)
    monkeypatch.setattr(volume, "LOOK_MAX", 3)
    lately, now = Lately(), world.clock.now()
    this = now // HOUR * HOUR
    seen = []
    for turn in range(4):
        with world.unit() as unit:
            bars = lately.slow(unit, figures.look(unit), "day", now=now, turn=turn * 100.0).bars
        seen.append([None if each.sum is None else each.sum.payouts for each in bars][-7:])
    assert seen[0] == [None, None, None, 1, 1, 1, 0]
    assert seen[1] == [1, 1, 1, 1, 1, 1, 0]
    assert seen[3] == seen[1]
    assert asked[-1] == (this - HOUR, this + HOUR)

    with world.unit() as unit:
        unit.execute(sa.update(velocity_entry).values(state="corrected"))
        again = lately.slow(unit, figures.look(unit), "day", now=now + 7 * HOUR, turn=1000.0)
    assert sum(each.sum.payouts for each in again.bars if each.sum is not None) == 0


def test_what_is_slow_is_worked_out_once_for_all_who_look(world: World) -> None:
    lately, now = Lately(), world.clock.now()
    with world.unit() as unit:
        found = figures.look(unit)
        first = lately.slow(unit, found, "day", now=now, turn=5.0)
        assert lately.slow(unit, found, "day", now=now, turn=5.0 + home.FRESH_S - 1) is first
        assert lately.slow(unit, found, "day", now=now, turn=5.0 + home.FRESH_S) is not first


def test_caps_are_told_in_numbers_with_what_waits(pages: Pages) -> None:
    world, bot = pages.world, pages.world.service_account("payouts bot")
    first, second = sorted((world.wallet(), world.wallet()))  # the fullest counter is not the last
    world.policy(cap(1_000, scope=Scope.ORGANIZATION.value), BLOCK)
    world.policy(at_most(4, scope=Scope.WALLET.value), BLOCK)
    world.leave(world.pay(bot, first, 600)["id"])
    world.pay(bot, first, 25)
    world.pay(bot, second, 5)
    text = pages.text("/dashboard")
    shown = part(text, "caps")
    assert "$630.00 of $1,000.00 are used (63 %)" in shown
    assert f"2 of 4 payouts are used (50 %), what still waits included; this is its fullest counter, {first}" in shown
    assert 'value="0.6300"' in text and 'value="0.5000"' in text
    world.prices.clear()
    world.pay(bot, second, 1)
    shown = part(pages.text("/dashboard"), "caps")
    assert "1 of unknown value" not in shown  # a rule about values triggers on it: it was blocked
    world.clock.step(minutes=61)
    assert "$30.00 of $1,000.00" in part(pages.text("/dashboard"), "caps")


def test_no_statement_of_the_page_goes_over_a_table_without_a_bound(pages: Pages) -> None:
    world = pages.world
    one, where = world.person("one@example.com"), world.db.where
    stopped(world)
    world.policy(cap(1_000, scope=Scope.ORGANIZATION.value), BLOCK)
    now = world.clock.now()

    def look(unit: Unit) -> None:
        caller, found = authenticate(unit, one.claims, now=now), figures.look(unit)
        slow = Lately().slow(unit, found, "month", now=now, turn=0.0)
        overview.waiting_for(unit, caller, world.config, now=now)
        overview.troubles(
            unit, caller, world.config, found, slow.hours, price_of=lambda *_: None, is_open=True, now=now
        )

    asked = statements(where, look)
    assert len(asked) > 30
    opened = Database(where)
    with opened.engine.begin() as unit:
        for statement, parameters in asked:
            if isinstance(where, Path):
                plan = [row[3] for row in unit.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
                scanned = [line for line in plan if re.match(rf"SCAN ({'|'.join(LARGE)})\b", line)]
                # A partial index holds the few rows that are asked for.
                assert [line for line in scanned if "transfer_delayed" not in line] == [], (statement, plan)
            else:
                unit.exec_driver_sql("SET LOCAL enable_seqscan = off")
                plan = [row[0] for row in unit.exec_driver_sql(f"EXPLAIN {statement}", parameters)]
                assert not re.search(rf"Seq Scan on ({'|'.join(LARGE)})\b", "\n".join(plan)), (statement, plan)
    opened.close()
