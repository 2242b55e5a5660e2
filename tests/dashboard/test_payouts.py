"""Payouts: the list and its filters, finding one by whatever names it, and the page of one."""

import re
import shlex
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.cli.commands import app as command_line
from outlay.core.address import checksum
from outlay.store import wallets, webhooks
from outlay.store.schema import delivery, transfer
from outlay.web.app import describe
from tests.actions.documents import ask, group, known, over
from tests.actions.world import ALICE, BOB, Actor, World
from tests.dashboard.lived import Pages, open_pages

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
READ = "Wallets:Transfers:Read"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = World(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def pages(world: World, tmp_path: Path) -> Iterator[Pages]:
    with open_pages(tmp_path, world) as opened:
        yield opened


@pytest.fixture
def bot(world: World) -> Actor:
    return world.service_account("payouts bot")


def plain(text: str) -> str:
    """Return the words of a page, one blank between them."""
    main = text[text.index("<main") : text.index("</main>")]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", main)).split())


def listed(text: str) -> list[str]:
    """Return the ids of the payouts that a list shows, in its order."""
    return re.findall(r'data-label="Payout"><a href="/dashboard/payouts/([^"]+)"', text)


def test_nothing_yet_says_what_to_do(pages: Pages) -> None:
    assert "Nothing was ever paid here" in plain(pages.text("/dashboard/payouts"))
    assert "No payout is like that" in plain(pages.text("/dashboard/payouts?state=held"))


def test_every_filter_leaves_what_it_names(pages: Pages, bot: Actor) -> None:
    world = pages.world
    wallet_id, other = world.wallet(), world.wallet("fast")
    pool_id = world.pool("fast")
    world.policy(over(1000), ask(group()))
    first = world.pay(bot, wallet_id, 10, external_id="first")["id"]
    world.clock.step(minutes=60)
    held = world.pay(world.admin, other, 2000, to=BOB)["id"]
    pooled = world.pay_pool(bot, pool_id, 5)["id"]
    with world.unit() as unit:
        unit.execute(sa.update(transfer).where(transfer.c.id == first).values(delayed_at=1, batch_id="bat-1"))
    everything = pages.text("/dashboard/payouts")
    assert set(listed(everything)) == {first, held, pooled}
    assert checksum(ALICE) in everything and checksum(BOB) in everything
    assert "2,000 USDC" in everything and "$2,000.00" in everything
    cases = {
        "state=held": {held},
        f"recipient={BOB}": {held},
        f"walletId={wallet_id}": {first},
        f"poolId={pool_id}": {pooled},
        "externalId=first": {first},
        f"initiatorId={world.admin.user_id}": {held},
        "batchId=bat-1": {first},
        "delayed=true": {first},
        "delayed=false": {held, pooled},
        "asset=native": set(),
        "since=2027-01-15T08:30": {held, pooled},
        "until=2027-01-15T08:30:00": {first},
        "since=&state=&recipient=&until=": {first, held, pooled},
    }
    for query, wanted in cases.items():
        text = pages.text(f"/dashboard/payouts?{query}")
        assert set(listed(text)) == wanted, query


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=paid", "state"),
        ("recipient=0x12", "recipient"),
        ("since=yesterday", "since"),
        ("limit=0", "limit"),
        ("paginationToken=abc", "paginationToken"),
        ("delayed=perhaps", "delayed"),
    ],
)
def test_a_wrong_filter_is_named_and_nothing_is_shown(pages: Pages, bot: Actor, query: str, field: str) -> None:
    pages.world.pay(bot, pages.world.wallet(), 1)
    text = pages.text(f"/dashboard/payouts?{query}")
    assert f"not shown {field}: " in plain(text)
    assert listed(text) == []


def test_pages_of_the_list_keep_its_filters(pages: Pages, bot: Actor) -> None:
    wallet_id = pages.world.wallet()
    made = [pages.world.pay(bot, wallet_id, 1)["id"] for _ in range(5)]
    path: str | None = f"/dashboard/payouts?limit=2&walletId={wallet_id}"
    seen: list[str] = []
    for turn in range(3):
        assert path is not None
        text = pages.text(path)
        assert (f'href="/dashboard/payouts?limit=2&amp;walletId={wallet_id}">Newest' in text) == (turn > 0)
        seen += listed(text)
        following = re.search(r'rel="next" href="([^"]+)"', text)
        path = None if following is None else unescape(following[1])
    assert path is None
    assert sorted(seen) == sorted(made)


def test_a_payout_is_found_by_whatever_names_it(pages: Pages, bot: Actor) -> None:
    world = pages.world
    paid = world.pay(bot, world.wallet(), 1, external_id="invoice&7#?")["id"]
    world.leave(paid)
    hashed = "0x" + "Ab" * 32
    with world.unit() as unit:
        unit.exec_driver_sql(f"UPDATE attempt SET hash = '{hashed.lower()}'")
    for text in (paid, "invoice&7#?", f" {paid} ", hashed):
        answer = pages.client.build_request("GET", "/dashboard/payouts/find", params={"q": text})
        found = pages.open(str(answer.url.raw_path.decode()))
        assert (found.status_code, found.headers["location"]) == (303, f"/dashboard/payouts/{paid}"), text
    assert pages.open(f"/dashboard/payouts/find?q={ALICE}").headers["location"].endswith(f"?recipient={ALICE}")
    for missing in ("nothing", "0x" + "12" * 32, "a" * 300, "\x00"):
        answer = pages.client.build_request("GET", "/dashboard/payouts/find", params={"q": missing})
        place = pages.open(str(answer.url.raw_path.decode())).headers["location"]
        assert place.startswith("/dashboard/payouts?missing="), missing
    said = pages.text("/dashboard/payouts?missing=%3Cscript%3E")
    assert "No payout is called <script>" in plain(said) and "<script>" not in said[said.index("<main") :]
    assert (
        pages.client.get("/dashboard/payouts/find?q=a", follow_redirects=False)
        .headers["location"]
        .startswith("/dashboard/sign-in?next=")
    )


def test_one_payout_is_shown_whole_and_told_why(pages: Pages, bot: Actor) -> None:
    world = pages.world
    one, wallet_id = world.person("one@example.com"), world.wallet()
    world.policy(known(ALICE), ask(group(one), timeout=60))
    paid = world.pay(bot, wallet_id, 1_234, to=BOB, units=5, external_id='"><img/src=x/onerror=alert(1)>')["id"]
    with world.unit() as unit:
        intent = dict(unit.execute(sa.select(transfer.c.intent)).scalar_one())
        unit.execute(sa.update(transfer).values(intent={**intent, "memo": HOSTILE}))
        payer = wallets.find(unit, wallet_id)
    assert payer is not None
    text = pages.text(f"/dashboard/payouts/{paid}")
    shown = plain(text)
    assert "<script>alert" not in text and "<img" not in text and HOSTILE in shown
    for said in (
        checksum(BOB),
        checksum(payer.address),
        "1,234.000005 USDC (1,234,000,005 base units)",
        "$1,234.01",
        "0 of 1 needed",
        "People were asked",
        "held",
        "payouts bot",
    ):
        assert said in shown, said
    assert f'href="/dashboard/approvals/{world.approval(paid).id}"' in text

    world.decide(one, paid, reason="known <b>supplier</b>")
    world.leave(paid)
    world.mine(paid)
    assert world.settle(paid) == "confirmed"
    text = pages.text(f"/dashboard/payouts/{paid}")
    shown = plain(text)
    assert "known <b>supplier</b>" in shown and "<b>" not in text
    for said in ("one@example.com", "in block 7", "Nonce 0 of its wallet", "It is paid.", f"0x{paid}", "final"):
        assert said in shown, said
    steps = re.search(r'<ol class="timeline">.*?</ol>', text, re.S)
    assert steps is not None and steps[0].count("<li>") == 8
    assert steps[0].count("<time datetime=") == 8


def test_who_may_not_read_policies_is_told_no_limits_and_no_names(pages: Pages, bot: Actor) -> None:
    world = pages.world
    world.policy(over(4_321), ask(group()))
    paid = world.pay(bot, world.wallet(), 10)["id"]
    reader = world.service_account("reader", permission_id=world.permission(READ))
    whole, little = pages.text(f"/dashboard/payouts/{paid}"), pages.text(f"/dashboard/payouts/{paid}", reader)
    for hidden in ("4321", "payouts bot", "Proof", "no endpoint asked", "the audit log"):
        assert hidden in plain(whole) and hidden not in plain(little), hidden
    assert "are left out" in plain(little)


def test_a_page_needs_its_permission_and_what_is_not_there_is_said(pages: Pages) -> None:
    world = pages.world
    stranger = world.service_account("stranger", permission_id=world.permission("Wallets:Read"))
    for path in ("", "/xfr-none", "/find?q=a"):
        answer = pages.open(f"/dashboard/payouts{path}", stranger)
        assert answer.status_code == 403 and READ in answer.text, path
    answer = pages.open("/dashboard/payouts/xfr-none")
    assert answer.status_code == 404 and "no such payout" in answer.text


def signs(text: str) -> set[str]:
    """Return the calls that a page's buttons and forms sign."""
    return set(re.findall(r'data-sign="([^"]+)"', text)) | {
        f"POST {path}" for path in re.findall(r'data-path="([^"]+)"', text)
    }


def test_what_can_be_done_is_offered_to_whom_the_server_lets_do_it(pages: Pages, bot: Actor) -> None:
    world = pages.world
    wallet_id = world.wallet()
    paid = world.pay(bot, wallet_id, 10)["id"]
    path = f"/dashboard/payouts/{paid}"
    reader = world.service_account("reader", permission_id=world.permission(READ))
    assert signs(pages.text(path, bot)) == {f"POST /v1/payouts/{paid}/cancel"}
    assert signs(pages.text(path)) == set()  # only who asked takes it back
    world.leave(paid)
    assert signs(pages.text(path, bot)) == set()
    world.mine(paid)
    with world.unit() as unit:
        unit.execute(sa.update(transfer).values(state="broadcast"))
    place = f"POST /wallets/{wallet_id}/transfers/{paid}"
    assert signs(pages.text(path)) == {f"{place}/cancel", f"{place}/speed-up"}
    assert signs(pages.text(path, reader)) == set()
    with world.unit() as unit:
        unit.execute(sa.update(transfer).values(state="mined"))
    assert signs(pages.text(path)) == set()
    world.settle(paid, "mismatch")
    assert signs(pages.text(path)) == {f"POST /v1/payouts/{paid}/resolve"}
    assert signs(pages.text(path, reader)) == set()

    offered: Any = {re.sub(r"\{\w+\}", "{}", name): each for name, each in describe()["paths"].items()}
    for each in (
        "/v1/payouts/{}/cancel",
        "/wallets/{}/transfers/{}/cancel",
        "/wallets/{}/transfers/{}/speed-up",
        "/v1/payouts/{}/resolve",
    ):
        assert "post" in offered[each], each


def test_events_tell_whether_each_endpoint_took_them(pages: Pages, bot: Actor) -> None:
    world = pages.world
    with world.unit() as unit:
        made = [
            webhooks.create(
                unit,
                url=f"https://{name}.example.com",
                events=["*"],
                now=world.clock.now(),
                entropy=world.entropy,
            ).id
            for name in "abcd"
        ]
    paid = world.pay(bot, world.wallet(), 10)["id"]
    states: list[dict[str, Any]] = [
        {"state": "delivered"},
        {"state": "pending"},
        {"state": "failed", "next_attempt_at": world.clock.now() + 60_000_000},
        {"state": "failed"},
    ]
    with world.unit() as unit:
        for webhook_id, values in zip(made, states, strict=True):
            unit.execute(sa.update(delivery).where(delivery.c.webhook_id == webhook_id).values(**values))
        for row in unit.execute(sa.select(delivery).where(delivery.c.webhook_id == made[0])).all():
            earlier = {**row._mapping, "id": f"{row.id}-", "attempt": 0, "state": "failed"}
            unit.execute(sa.insert(delivery).values(earlier))
    shown = plain(pages.text(f"/dashboard/payouts/{paid}"))
    told = [f"{made[0]} taken", f"{made[1]} on its way", f"{made[2]} failed, tried again 2027", f"{made[3]} given up"]
    assert "wallet.transfer.requested" in shown
    for said in told:
        assert said in shown, said


def test_the_commands_of_the_proof_are_true(pages: Pages, bot: Actor) -> None:
    world = pages.world
    paid = world.pay(bot, world.wallet(), 10)["id"]
    assert "can be taken along" in plain(pages.text(f"/dashboard/payouts/{paid}"))
    world.leave(paid)
    text = pages.text(f"/dashboard/payouts/{paid}")
    found = re.search(r"<pre[^>]*>(outlay evidence export.*?)</pre>", text, re.S)
    assert found is not None and paid in found[1]
    for command in found[1].splitlines():
        command_line.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)
