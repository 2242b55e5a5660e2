"""What people do about a payout in a real browser: take it back, resolve it; and what the pages are like to look at."""

import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Dialog, expect

from outlay.core.operation import OPERATIONS
from tests.browser.desk import Desk, open_desk
from tests.browser.stage import Person, complaints, picture

pytestmark = pytest.mark.ci

RECIPIENT = "0x" + "1a" * 20


@pytest.fixture(scope="module")
def desk(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(browser, tmp_path_factory.mktemp("desk")) as opened:
        yield opened


@pytest.fixture(scope="module")
def who(desk: Desk) -> Person:
    return desk.person("one@example.com", OPERATIONS)


def behind(desk: Desk, sql: str, *values: object) -> None:
    """Change rows behind the server's back; the browser's own loop runs in this thread."""
    thread = threading.Thread(target=desk.door.execute, args=(sql, *values))
    thread.start()
    thread.join()


def held(desk: Desk, who: Person) -> str:
    """Return a payout that waits for people."""
    approval = desk.pay(desk.watch(who), RECIPIENT, 5_000_000)
    return str(desk.door.rows("SELECT transfer_id FROM approval WHERE id = ?", approval)[0][0])


def state_of(desk: Desk, payout: str) -> tuple[str, str | None]:
    """Return where a payout stands, and why."""
    ((state, reason),) = desk.door.rows("SELECT state, reason FROM transfer WHERE id = ?", payout)
    return state, reason


def test_ones_own_payout_is_taken_back_once_it_is_confirmed_and_signed(desk: Desk, who: Person) -> None:
    payout = held(desk, who)
    behind(desk, "UPDATE transfer SET initiator_id = ? WHERE id = ?", who.user_id, payout)
    who.goto(f"/dashboard/payouts/{payout}")
    asked: list[str] = []

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        if len(asked) == 1:
            dialog.dismiss()
        else:
            dialog.accept()

    who.page.on("dialog", answer)
    try:
        who.press("Take it back")
        assert state_of(desk, payout)[0] == "held"
        who.verifies(False)
        who.press("Take it back")
        assert "Nothing was signed" in who.said()
        assert state_of(desk, payout)[0] == "held"
        who.verifies(True)
        who.press("Take it back")
        expect(who.page.locator("#say")).to_have_text("It is taken back; nothing was paid.")
    finally:
        who.page.remove_listener("dialog", answer)
    assert len(asked) == 3 and "Take this payout back?" in asked[0]
    assert state_of(desk, payout)[0] == "canceled"
    expect(who.page.locator("#payout .state").first).to_have_text("canceled")
    expect(who.page.get_by_role("button", name="Take it back")).to_have_count(0)


def test_a_payout_with_another_effect_is_resolved_with_what_was_found(desk: Desk, who: Person) -> None:
    payout = held(desk, who)
    ((wallet,),) = desk.door.rows("SELECT wallet_id FROM transfer WHERE id = ?", payout)
    behind(
        desk,
        'INSERT INTO "transaction" (id, wallet_id, nonce, transfer_id, state, fee_cap, mined_hash, block_number,'
        " block_hash, created_at) VALUES ('tx-1', ?, 0, ?, 'final', '1', '0xab', 7, '0x07', 1)",
        wallet,
        payout,
    )
    behind(
        desk,
        "INSERT INTO attempt (id, transaction_id, number, purpose, gas_limit, max_fee_per_gas,"
        " max_priority_fee_per_gas, legacy, raw, hash, created_at)"
        " VALUES ('att-1', 'tx-1', 1, 'payout', 21000, '1', '1', false, '00', '0xab', 1)",
    )
    mined = "UPDATE transfer SET state = 'mined', flag = 'effect_mismatch', transaction_id = 'tx-1' WHERE id = ?"
    behind(desk, mined, payout)
    who.goto(f"/dashboard/payouts/{payout}")
    picture(who, "payout-resolve")
    assert complaints(who) == []
    who.press("Sign and resolve")  # the browser asks for what is missing
    assert state_of(desk, payout)[0] == "mined"
    who.page.get_by_label("Paid: the recipient has what is owed").check()
    who.page.get_by_label("What you found").fill("seen in the explorer")
    who.press("Sign and resolve")
    expect(who.page.locator("#say")).to_have_text("It is resolved.")
    state, reason = state_of(desk, payout)
    assert state == "confirmed" and reason is not None
    assert reason.endswith("Called paid by one@example.com: seen in the explorer")
    expect(who.page.locator("#payout .state").first).to_have_text("confirmed")
    expect(who.page.locator("#resolve")).to_have_count(0)
    assert who.problems == []


def test_pages_with_something_on_them_have_no_fault(desk: Desk, who: Person) -> None:
    held(desk, who)
    who.goto("/dashboard/payouts?state=held&delayed=false")
    picture(who, "payouts-filtered")
    assert complaints(who) == []
    who.goto("/dashboard")
    expect(who.page.get_by_role("heading", name="Pay 5 USDC").first).to_be_visible()
    who.page.get_by_text("The numbers").click()
    assert complaints(who) == []
    who.goto("/dashboard/audit/3")
    picture(who, "audit-entry")
    assert complaints(who) == []
    who.goto("/dashboard/audit?action=record.*")
    assert complaints(who) == []


def test_home_shows_what_comes_in_without_being_asked(desk: Desk, who: Person) -> None:
    who.goto("/dashboard")
    cards = who.page.locator("#mine li")
    before = cards.count()
    held(desk, who)
    expect(cards).to_have_count(before + 1)


def test_a_payout_is_found_from_the_keyboard(desk: Desk, who: Person) -> None:
    payout = held(desk, who)
    who.goto("/dashboard/payouts")
    who.page.get_by_label("Find a payout").fill(payout)
    who.page.keyboard.press("Enter")
    who.page.wait_for_url(f"**/dashboard/payouts/{payout}")
