"""Approving in a real browser, with passkeys: two actions, every way it can fail, and a page that lies."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Route, expect

from outlay.core.address import checksum
from outlay.evidence.challenge import Preimage, action_challenge
from tests.browser.desk import MINUTE, Desk, open_desk
from tests.browser.stage import PHONE, Person, complaints, picture

pytestmark = pytest.mark.ci

ONE, OTHER = "0x" + "1a" * 20, "0x" + "e7" * 20
EIGHT = re.compile(r"[a-z]+( [a-z]+){7}")
APPROVE = "Approve with your passkey"


@pytest.fixture(scope="module")
def desk(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(browser, tmp_path_factory.mktemp("desk")) as opened:
        yield opened


@pytest.fixture(scope="module")
def who(desk: Desk) -> Person:
    return desk.person("one@example.com")


@pytest.fixture(scope="module")
def wallet(desk: Desk, who: Person) -> str:
    return desk.watch(who)


def look(who: Person, approval: str, *, live: bool = True) -> None:
    """Open an approval; one that is not live is not told what changes."""
    who.page.unroute_all()
    if not live:
        who.page.route("**/dashboard/stream", lambda route: route.abort())
    who.goto(f"/dashboard/approvals/{approval}")
    expect(who.page.locator("#words")).to_have_text(EIGHT)


def words(who: Person) -> str:
    return str(who.page.locator("#words").inner_text())


def test_from_the_message_to_approved_in_two_actions(desk: Desk, who: Person, wallet: str) -> None:
    approval = desk.pay(wallet, ONE, 1_250_500_000, "invoice 1001")
    look(who, approval)  # the link of the message: the first action
    shown = who.page.locator("#asked").inner_text()
    assert checksum(ONE) in shown and "1,250.5 USDC" in shown and "invoice 1001" in shown
    picture(who, "approval")
    assert complaints(who) == []
    seen = words(who)
    who.press(APPROVE)  # the second
    assert who.said() == "Approved. It goes ahead now."
    assert desk.status(approval) == "Approved"
    who.page.get_by_text("It is decided: approved.").wait_for()
    (receipt,) = desk.receipts(who.email)
    assert checksum(ONE) in receipt and seen in receipt and "1,250.5 USDC" in receipt
    assert who.problems == []


def test_a_denial_says_why(desk: Desk, who: Person, wallet: str) -> None:
    approval = desk.pay(wallet, ONE, 7)
    look(who, approval)
    who.press("Deny")
    assert who.said() == "Say why not: whoever asked reads it."
    assert desk.votes(approval) == 0
    who.page.get_by_label("Reason").fill("nobody knows this address")
    who.press("Deny")
    who.page.get_by_text("Denied. It will not be paid or changed.").wait_for()
    assert desk.status(approval) == "Denied"
    who.page.get_by_text("nobody knows this address").wait_for()


def test_the_second_display_works_out_the_same_words_on_a_phone(desk: Desk, who: Person, wallet: str) -> None:
    approval = desk.pay(wallet, ONE, 8)
    look(who, approval)
    seen = words(who)
    who.goto(f"/dashboard/approvals/{approval}/words")
    expect(who.page.locator("#words")).to_have_text(EIGHT)
    assert words(who) == seen
    assert checksum(ONE) in who.page.locator("main").inner_text()
    picture(who, "words")
    assert complaints(who) == []
    assert who.page.locator("button, form, nav").count() == 0


def test_two_approvers_race(desk: Desk, who: Person) -> None:
    other = desk.person("two@example.com")
    approval = desk.pay(desk.watch(who, other), ONE, 9)
    look(who, approval, live=False)
    look(other, approval)
    other.press(APPROVE)
    assert other.said() == "Approved. It goes ahead now."
    who.press(APPROVE)
    assert "this approval is Approved: nothing is left to decide" in who.said()
    who.page.get_by_text("It is decided: approved.").wait_for()
    assert desk.votes(approval) == 1


def test_what_others_decide_shows_by_itself(desk: Desk, who: Person) -> None:
    other = desk.person("three@example.com")
    approval = desk.pay(desk.watch(who, other, quorum=2), ONE, 9)
    look(who, approval)
    look(other, approval)
    other.press(APPROVE)
    assert other.said() == "Approved by you. It waits for others, or for its time."
    who.page.get_by_text("Agreed: three@example.com.").wait_for()


def test_who_is_removed_while_the_page_is_open_decides_nothing(desk: Desk, who: Person) -> None:
    gone = desk.person("gone@example.com")
    approval = desk.pay(desk.watch(who, gone), ONE, 10)
    look(gone, approval, live=False)
    desk.door.write(desk.door.admin, "PUT", f"/auth/users/{gone.user_id}/deactivate").ok()
    gone.press(APPROVE)
    assert gone.said() == "You are signed out. Sign in again; nothing was done."
    assert desk.votes(approval) == 0


def test_a_challenge_that_expires_before_it_is_answered(desk: Desk, who: Person, wallet: str) -> None:
    approval = desk.pay(wallet, ONE, 11)
    look(who, approval, live=False)

    def late(route: Route) -> None:
        desk.door.clock.instant += 16 * MINUTE
        route.continue_()

    who.page.route("**/auth/action", late)
    who.press(APPROVE)
    assert "this challenge has expired" in who.said()
    assert desk.votes(approval) == 0
    look(who, approval)
    who.press(APPROVE)
    assert who.said() == "Approved. It goes ahead now."


def test_a_deadline_that_passes_while_the_page_is_open(desk: Desk, who: Person, wallet: str) -> None:
    approval = desk.pay(wallet, ONE, 12)
    look(who, approval, live=False)
    desk.door.clock.instant += 61 * MINUTE
    who.press(APPROVE)
    assert "the time to decide has run out" in who.said()
    who.page.get_by_text("The time to decide has run out.", exact=True).wait_for()
    assert desk.votes(approval) == 0


def meanwhile(desk: Desk, who: Person) -> None:
    """Have a record be written between the challenge and the answer to it."""

    def moved(route: Route) -> None:
        answered = route.fetch()
        desk.move_head()
        route.fulfill(response=answered)

    who.page.route("**/auth/action/init", moved)


def test_a_decision_about_a_payout_while_records_are_written(desk: Desk, who: Person, wallet: str) -> None:
    approval = desk.pay(wallet, ONE, 13)
    look(who, approval, live=False)
    meanwhile(desk, who)
    who.press(APPROVE)
    # It makes no record, so it may have seen an older one.
    assert who.said() == "Approved. It goes ahead now."


def test_who_is_not_verified_signs_nothing(desk: Desk, who: Person, wallet: str) -> None:
    approval = desk.pay(wallet, ONE, 14)
    look(who, approval)
    who.verifies(False)
    who.press(APPROVE)
    assert "Nothing was signed" in who.said()
    who.verifies(True)
    assert desk.votes(approval) == 0


def test_groups_that_changed_meanwhile_are_noticed_before_anything_is_signed(
    desk: Desk, who: Person, wallet: str
) -> None:
    approval = desk.pay(wallet, ONE, 15)
    look(who, approval, live=False)
    desk.ask_others(approval)
    signs = counting(who)
    who.press(APPROVE)
    assert "STOP: nothing was signed. Other people are asked than this page shows" in who.said()
    assert signs() == 0


def counting(who: Person) -> Any:
    """Return what tells how often the passkey was asked from now on."""
    who.page.evaluate(
        """() => {
          const asked = navigator.credentials.get.bind(navigator.credentials)
          window.askedFor = 0
          navigator.credentials.get = (...given) => { window.askedFor += 1; return asked(...given) }
        }"""
    )
    return lambda: who.page.evaluate("window.askedFor")


@pytest.mark.parametrize("lie", ["challenge", "intentDigest", "payloadDigest", "path", "preimage", "consistent"])
def test_an_answer_that_would_have_something_else_signed(desk: Desk, who: Person, wallet: str, lie: str) -> None:
    approval, other = desk.pay(wallet, ONE, 16), desk.pay(wallet, OTHER, 17)
    look(who, approval)
    signs = counting(who)

    def lying(route: Route) -> None:
        answered = route.fetch()
        told = answered.json()
        sent = json.loads(route.request.post_data or "{}")
        sent["userActionHttpPath"] = f"/v2/policy-approvals/{other}/decisions"
        second = route.fetch(post_data=json.dumps(sent)).json()
        if lie == "consistent":  # a hash of what it says, about the other payout
            told["preimage"]["intentDigest"] = second["preimage"]["intentDigest"]
            told["challenge"] = action_challenge(Preimage.from_document(told["preimage"]))
        elif lie == "preimage":
            del told["preimage"]
        elif lie == "challenge":
            told |= {name: second[name] for name in ("challenge", "challengeIdentifier")}
        else:
            told["challenge"], told["challengeIdentifier"] = second["challenge"], second["challengeIdentifier"]
            told["preimage"] = second["preimage"] | {
                name: told["preimage"][name] for name in ("path", "intentDigest") if name != lie
            }
            if lie == "payloadDigest":
                told["preimage"]["payloadDigest"] = "ab" * 32
        route.fulfill(response=answered, json=told)

    who.page.route("**/auth/action/init", lying)
    who.press(APPROVE)
    assert who.said().startswith("STOP: nothing was signed.")
    assert signs() == 0
    assert desk.votes(approval) == desk.votes(other) == 0


HOSTILE = """async ([shown, other]) => {
  // What an injected script could do: it leaves the page as it is, and has the passkey sign about another payout.
  const api = await import('/dashboard/static/passkey.js')
  const send = async (path, body, more = {}) => {
    const answer = await fetch(path, { method: 'POST', body: JSON.stringify(body),
      headers: { 'content-type': 'application/json', ...more } })
    return [answer.status, await answer.json()]
  }
  const path = `/v2/policy-approvals/${other}/decisions`
  const body = { value: 'Approved' }
  const [, opened] = await send('/auth/action/init', { userActionHttpMethod: 'POST', userActionHttpPath: path,
    userActionPayload: JSON.stringify(body) })
  const firstFactor = await api.answer(opened)
  const [status, signed] = await send('/auth/action', { challengeIdentifier: opened.challengeIdentifier, firstFactor })
  if (status !== 200) return [status, signed]
  return send(path, body, { 'x-dfns-useraction': signed.userAction })
}"""


def test_a_script_that_shows_one_payout_and_has_another_signed_is_found_out(
    desk: Desk, who: Person, wallet: str
) -> None:
    shown, other = desk.pay(wallet, ONE, 18), desk.pay(wallet, OTHER, 900_000_000_000)
    look(who, shown)
    seen = words(who)
    before = len(desk.receipts(who.email))
    status, answered = who.page.evaluate(HOSTILE, [shown, other])
    assert (status, answered["status"]) == (200, "Approved"), "without an address of its own it works"
    told = desk.receipts(who.email)[before:]
    assert len(told) == 1, "the receipt tells what was signed"
    assert checksum(OTHER) in told[0] and "900,000 USDC" in told[0]
    assert checksum(ONE) not in told[0] and seen not in told[0]
    # The second display, on a device that the script does not have, names what waits, not what the page may show.
    phone = desk.person("phone@example.com", size=PHONE)
    phone.goto(f"/dashboard/approvals/{other}/words")
    expect(phone.page.locator("#words")).to_have_text(EIGHT)
    assert words(phone) in told[0] and words(phone) != seen


def test_with_an_address_of_its_own_no_script_of_the_dashboard_can_have_anything_decided(
    browser: Browser, tmp_path: Path
) -> None:
    with open_desk(browser, tmp_path, apart=True) as desk:
        who = desk.person("one@example.com")
        wallet = desk.watch(who)
        shown, other = desk.pay(wallet, ONE, 19), desk.pay(wallet, OTHER, 900_000_000_000)
        who.goto(f"/dashboard/approvals/{shown}")
        assert who.page.get_by_role("button", name=APPROVE).count() == 0
        status, refused = who.page.evaluate(HOSTILE, [shown, other])
        assert status == 401 or status == 403, refused
        assert "origin" in refused["error"]["message"]
        assert desk.votes(other) == desk.votes(shown) == 0
        who.page.get_by_role("link", name="Go there to decide").click()
        who.page.wait_for_url(f"{desk.apart}/**")
        if "/sign-in" in who.page.url:
            who.page.get_by_label("E-mail address").fill(who.email)
            who.press("Sign in with a passkey")
        who.page.wait_for_url(f"{desk.apart}/dashboard/approvals/{shown}")
        who.press(APPROVE)
        assert who.said() == "Approved. It goes ahead now."
        assert desk.status(shown) == "Approved" and desk.votes(other) == 0
        who.page.goto(f"{desk.apart}/dashboard/people")
        assert who.page.url.startswith(desk.url), "the address for decisions has other pages too"


def test_a_change_is_decided_on_the_newest_records_only(desk: Desk, who: Person) -> None:
    approval = desk.change(who, desk.person("four@example.com"), desk.person("five@example.com"))
    look(who, approval, live=False)
    shown = who.page.locator("#asked").inner_text()
    assert "action.autoRejectTimeout" in shown and "4320" in shown
    picture(who, "approval-of-a-change")
    assert complaints(who) == []
    meanwhile(desk, who)
    who.press(APPROVE)
    assert "somebody changed the organization's settings after this change was signed" in who.said()
    assert desk.votes(approval) == 0
    look(who, approval)
    who.press(APPROVE)
    assert who.said() == "Approved by you. It waits for others, or for its time."
    who.page.get_by_text("Takes hold").wait_for()
    (*_, receipt) = desk.receipts(who.email)
    assert "Update Policy" in receipt and words(who) in receipt
