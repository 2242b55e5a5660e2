"""The audit log's pages: entries by filter, one entry whole, and whether the log is what was written."""

import re
import shlex
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from outlay.cli.commands import app as command_line
from outlay.core.audit import ACTIONS, TOLD_KINDS, Entry
from outlay.store import audit
from outlay.web.dashboard.audit import meaning_of, place_of
from tests.actions.documents import BLOCK, over
from tests.actions.world import World
from tests.dashboard.lived import Pages, open_pages

LIST, READ = "/dashboard/audit", "Audit:Read"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = World(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def pages(world: World, tmp_path: Path) -> Iterator[Pages]:
    with open_pages(tmp_path, world) as opened:
        yield opened


def plain(text: str) -> str:
    """Return the words of a page, one blank between them."""
    main = text[text.index("<main") : text.index("</main>")]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", main)).split())


def listed(text: str) -> list[int]:
    """Return the numbers of the entries that a list shows, in its order."""
    return [int(each) for each in re.findall(r'data-label="Entry"><a href="/dashboard/audit/(\d+)"', text)]


def numbers(world: World, **columns: str) -> list[int]:
    """Return the numbers of the entries that have these values, the newest first."""
    with world.unit() as unit:
        rows = audit.after(unit, 0, limit=1000)
    return [
        row.seq
        for row in reversed(rows)
        if all(str(getattr(row, name)).startswith(value) for name, value in columns.items())
    ]


def test_every_filter_leaves_what_it_names(pages: Pages) -> None:
    world = pages.world
    bot, wallet_id = world.service_account("payouts bot"), world.wallet()
    early = numbers(world)
    world.clock.step(minutes=60)
    paid = world.pay(bot, wallet_id, 10)["id"]
    world.leave(paid)
    assert listed(pages.text(LIST)) == numbers(world)
    cases = {
        f"actor={bot.user_id}": numbers(world, actor=bot.user_id),
        f"subject={paid}": numbers(world, subject=paid),
        "action=payout.signed": numbers(world, action="payout.signed"),
        "action=record.*": numbers(world, action="record."),
        "from=2027-01-15T08:30": [each for each in numbers(world) if each not in early],
        "to=2027-01-15T08:30:00": early,
        "actor=&subject=&action=&from=&to=": numbers(world),
        "actor=nobody": [],
    }
    for query, wanted in cases.items():
        text = pages.text(f"{LIST}?{query}")
        assert listed(text) == wanted, query
        assert ("No entry is like that" in plain(text)) == (not wanted), query
    shown = plain(pages.text(LIST))
    assert "payouts bot" in shown and "engine" in shown


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("limit=x", "limit"),
        ("paginationToken=-1", "paginationToken"),
        ("actor=" + "a" * 161, "actor"),
    ],
)
def test_a_wrong_filter_is_named_and_nothing_is_shown(pages: Pages, query: str, field: str) -> None:
    text = pages.text(f"{LIST}?{query}")
    assert f"not shown {field}: " in plain(text)
    assert listed(text) == []


def test_pages_of_the_list_keep_its_filters(pages: Pages) -> None:
    world = pages.world
    world.wallet()
    wanted = numbers(world, actor=world.admin.user_id)
    path: str | None = f"{LIST}?limit=3&actor={world.admin.user_id}"
    seen: list[int] = []
    for _ in range(20):
        if path is None:
            break
        text = pages.text(path)
        seen += listed(text)
        following = re.search(r'rel="next" href="([^"]+)"', text)
        path = None if following is None else unescape(following[1])
    assert seen == wanted


def test_what_is_rare_is_looked_for_further_back(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "SCAN_MAX", 2)
    world = pages.world
    world.wallet()
    text = pages.text(f"{LIST}?action=log.begun")
    for _ in range(20):
        if listed(text):
            break
        assert "Look further back" in plain(text)
        following = re.search(r'rel="next" href="([^"]+)"', text)
        assert following is not None
        text = pages.text(unescape(following[1]))
    assert listed(text) == [1]


def test_one_entry_shows_before_and_after_and_its_chain(pages: Pages) -> None:
    world = pages.world
    with world.unit() as unit:
        seq = audit.add(
            unit,
            Entry(
                world.admin.user_id,
                "webhook.changed",
                "wh-abcde-fghij-klmnopqrstuvwx",
                before={"url": "https://old.example.com"},
                after={"url": "</pre><script>alert(1)</script>"},
            ),
            now=world.clock.now(),
        )
        before = audit.find(unit, seq - 1)
        this = audit.find(unit, seq)
    assert before is not None and this is not None
    text = pages.text(f"{LIST}/{seq}")
    shown = plain(text)
    assert "<script>alert" not in text and '"</pre><script>alert(1)</script>"' in shown
    for said in ("https://old.example.com", "admin", before.hash, this.hash, ACTIONS["webhook.changed"]):
        assert said in shown, said
    assert 'href="/dashboard/webhooks/wh-abcde-fghij-klmnopqrstuvwx"' in text
    assert f'href="{LIST}/{seq - 1}"' in text and f'href="{LIST}/{seq + 1}"' not in text
    assert f'href="{LIST}/2"' in pages.text(f"{LIST}/1")
    for missing in (0, seq + 1, 2**70):
        assert pages.open(f"{LIST}/{missing}").status_code == 404, missing


def test_every_entry_of_a_busy_organization_has_a_page_and_a_meaning(pages: Pages) -> None:
    world = pages.world
    bot, wallet_id = world.service_account("payouts bot"), world.wallet()
    world.policy(over(1000), BLOCK)
    paid = world.pay(bot, wallet_id, 10)["id"]
    world.leave(paid)
    world.mine(paid)
    world.settle(paid, "mismatch")
    for seq in numbers(world):
        assert '<p class="lead"></p>' not in pages.text(f"{LIST}/{seq}"), seq
    for action in ACTIONS:
        assert meaning_of(action)
    assert all(meaning_of(f"event.{kind}") for kind in TOLD_KINDS)


def test_a_subject_leads_to_its_page() -> None:
    assert place_of("xfr-a") == "payouts/xfr-a"
    assert place_of("plc-a") == "policies/plc-a"
    assert place_of("to-a") is None
    assert place_of("xfr-a/resolved") is None


def test_how_the_log_stands_is_told(pages: Pages) -> None:
    shown = plain(pages.text(LIST))
    assert "Checked not yet" in shown and "never" in shown and "is not what was written" not in shown
    world = pages.world
    with world.unit() as unit:
        audit.set_state(unit, verified_at=world.clock.now(), verified_seq=2, anchored_at=world.clock.now())
    assert "found whole" in plain(pages.text(LIST))
    with world.unit() as unit:
        audit.set_state(unit, broken="entry <2> is missing")
    text = pages.text(LIST)
    assert "The log is not what was written: entry <2> is missing" in plain(text) and "found whole" not in plain(text)


def test_the_commands_are_true(pages: Pages) -> None:
    found = re.search(r"<pre[^>]*>(outlay audit export.*?)</pre>", pages.text(LIST), re.S)
    assert found is not None
    for command in found[1].splitlines():
        command_line.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)


def test_it_needs_its_permission(pages: Pages) -> None:
    stranger = pages.world.service_account("stranger", permission_id=pages.world.permission("Wallets:Read"))
    for path in (LIST, f"{LIST}/1"):
        answer = pages.open(path, stranger)
        assert answer.status_code == 403 and READ in answer.text
