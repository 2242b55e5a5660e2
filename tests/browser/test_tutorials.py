"""The tutorials, each followed from its top to its end as it is written: in a terminal, and in a real browser."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.stage import PHONE, Person, newcomer_at
from tests.docs.reader import Reader
from tests.world import until

pytestmark = pytest.mark.ci

PEOPLE = ("treasury", "controller", "ops")
LINK = re.compile(r"^link +(\S+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def desk(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Follow the first tutorial; the others go on from there."""
    reader = Reader(tmp_path_factory.mktemp("clone"))
    admin = newcomer_at(browser, reader.url, "admin@localhost")

    def passkey(reader: Reader, begin: int) -> None:
        seen = joined(admin, reader.real(reader.wait_for(LINK.pattern, begin)[1]))
        reader.wait_for(f"^fingerprint +{seen}$", begin)
        reader.answer("yes")
        reader.wait_for("is on: sign in with it", begin)

    try:
        reader.read("first-payout.md", {"passkey": passkey})
        admin.page.get_by_role("link", name="Sign in", exact=True).first.click()
        admin.sign_in()
        admin.page.get_by_role("link", name="Payouts", exact=True).first.click()
        admin.page.get_by_text("invoice-1").first.wait_for()
        assert admin.problems == []
        yield reader
    finally:
        reader.close()


def joined(who: Person, link: str) -> str:
    """Open a link, register a passkey, and return the fingerprint that the page shows."""
    who.goto(link)
    who.press("Register a passkey")
    who.page.get_by_role("heading", name="The passkey is registered").wait_for()
    return who.page.locator("#fingerprint").inner_text()


def test_the_first_payout(desk: Reader) -> None:
    """Following it is what the fixture does; the fingerprint on the page was the one in the terminal."""
    assert re.search(r"^state +confirmed$", desk.printed, re.MULTILINE)


def test_payroll_from_a_csv(desk: Reader) -> None:
    desk.read("payroll-from-a-csv.md")


def test_moving_from_dfns(desk: Reader) -> None:
    desk.read("moving-from-dfns.md")


def test_approve_on_a_phone(desk: Reader, browser: Browser) -> None:
    phones = {name: newcomer_at(browser, desk.url, f"{name}@example.com", size=PHONE) for name in PEOPLE}

    seen: list[str] = []

    def join(reader: Reader, begin: int) -> None:
        # People change the organization by joining: not while the block still does.
        until(lambda: reader.printed[begin:].count("has it, by assignment") == len(phones), "three people invited")
        for who, link in zip(phones.values(), LINK.findall(reader.printed[begin:]), strict=True):
            seen.append(joined(who, reader.real(link)))

    def let_in(reader: Reader, begin: int) -> None:
        for each in seen:
            reader.wait_for(f"^{each} ", begin)
            reader.answer("yes")

    def approve(reader: Reader, begin: int) -> None:
        who = phones["treasury"]
        who.sign_in()
        who.goto(reader.real(re.findall(r"^http\S+/dashboard/approvals/\S+$", reader.printed, re.MULTILINE)[-1]))
        words = reader.wait_for("^words +(.+)$", begin)[1]
        expect(who.page.locator("#words")).to_have_text(words)
        who.press("Approve with your passkey")
        assert who.said() == "Approved. It goes ahead now."

    def join_again(reader: Reader, begin: int) -> None:
        lost = phones["treasury"]
        phones["treasury"] = newcomer_at(browser, desk.url, "treasury@example.com", size=PHONE)
        seen[:] = [joined(phones["treasury"], reader.real(reader.wait_for(LINK.pattern, begin)[1]))]
        lost.goto("/dashboard/approvals")
        assert "/dashboard/sign-in" in lost.page.url, "the lost phone is still signed in"

    def agree(reader: Reader, begin: int) -> None:
        for name in ("controller", "ops"):
            who = phones[name]
            who.sign_in()
            who.goto("/dashboard/approvals")
            who.page.locator("main a[href^='/dashboard/approvals/ap-']").first.click()
            who.press("Approve with your passkey")
            assert who.said().startswith("Approved")

    hands = {"join": join, "let-in": let_in, "approve": approve}
    hands |= {"join-again": join_again, "let-in-again": let_in, "agree": agree}
    desk.read("approve-on-a-phone.md", hands)
    phones["treasury"].sign_in()
