"""Registering and signing in with a passkey, in a real browser."""

import pytest
from playwright.sync_api import Browser

from tests.browser.stage import newcomer, person
from tests.world import World

pytestmark = pytest.mark.ci


def test_an_invited_person_registers_a_passkey_and_signs_in(browser: Browser, world: World) -> None:
    who = person(browser, world, "first@example.com")
    assert who.page.get_by_role("heading", level=1).inner_text() == "Home"
    assert who.email in who.page.locator("header").inner_text()
    (cookie,) = [each for each in who.context.cookies() if each["name"] == "__Host-outlay"]
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"], cookie["path"]) == (True, True, "Strict", "/")
    who.press("Sign out")
    who.page.wait_for_url("**/dashboard/sign-in")
    who.goto("/dashboard")
    assert "/dashboard/sign-in?next=/dashboard" in who.page.url
    who.sign_in()
    assert who.problems == []


def test_who_is_not_verified_by_the_authenticator_does_not_sign_in(browser: Browser, world: World) -> None:
    who = person(browser, world, "unverified@example.com")
    who.press("Sign out")
    who.page.wait_for_url("**/dashboard/sign-in")
    who.verifies(False)
    who.page.get_by_label("E-mail address").fill(who.email)
    who.press("Sign in with a passkey")
    assert "Nothing was signed" in who.said()
    who.goto("/dashboard")
    assert "/dashboard/sign-in" in who.page.url


def test_a_code_registers_one_passkey_and_no_second(browser: Browser, world: World) -> None:
    invited = world.invite("once@example.com")
    for _ in range(2):
        who = newcomer(browser, world, invited.email)
        who.goto(f"/dashboard/join#username={invited.email}&code={invited.code}")
        who.press("Register a passkey")
        who.page.locator("#joined:visible, #say.problem").wait_for()
    assert "the registration code is wrong, was used, or has expired" in who.said()
    assert "#" not in who.page.url, "the code stays in the address"


def test_a_link_in_a_mail_leads_to_its_page_although_the_cookie_is_strict(browser: Browser, world: World) -> None:
    who = person(browser, world, "mail@example.com")
    link = "http://localhost:" + str(world.deployment.port) + "/dashboard/nothing-here"
    who.page.goto(f"data:text/html,<a id=go href='{link}'>go</a>")
    who.page.click("#go")
    who.page.get_by_text("there is no such page").wait_for()


def test_a_page_that_listens_does_not_keep_the_server_from_ending(browser: Browser, world: World) -> None:
    who = person(browser, world, "listener@example.com")
    who.goto("/dashboard")
    who.page.wait_for_timeout(1500)  # the stream is open
    process = world.deployment.process
    assert process is not None
    process.terminate()
    assert process.wait(8) in (0, -15)
    world.deployment.process = None
    world.start()
    who.goto("/dashboard")
    assert who.page.get_by_role("heading", level=1).inner_text() == "Home", "a session outlives a restart"
