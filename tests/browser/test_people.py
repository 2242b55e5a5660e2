"""Inviting people, their keys, and service accounts, as an admin does it in a real browser."""

import re

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from playwright.sync_api import Browser, Route

from outlay.core.operation import OPERATIONS
from outlay.evidence.keys import fingerprint
from tests.browser.stage import AUTHENTICATOR, Person, complaints, newcomer, person, picture
from tests.world import World

pytestmark = pytest.mark.ci


@pytest.fixture(scope="module")
def admin(browser: Browser, world: World) -> Person:
    """Somebody who may do everything, and answers yes to what a page asks."""
    who = person(browser, world, "chief@example.com", OPERATIONS)
    who.page.on("dialog", lambda dialog: dialog.accept())
    return who


def join(browser: Browser, world: World, link: str) -> tuple[Person, str]:
    """Open a link that an admin handed over, register a passkey; return who it is and the fingerprint they see."""
    who = newcomer(browser, world, "")
    who.goto(link)
    who.press("Register a passkey")
    who.page.locator("#joined:visible, #say.problem").wait_for()
    assert who.page.locator("#joined").is_visible(), who.said()
    return who, who.page.locator("#fingerprint").inner_text()


def link_of(who: Person) -> str:
    """Return the link that the page shows this once."""
    return who.page.locator("#once code").first.inner_text()


def test_from_an_invitation_to_a_vote_that_counts_and_back_after_all_keys_are_lost(
    browser: Browser, world: World, admin: Person
) -> None:
    admin.goto("/dashboard/people")
    admin.page.get_by_label("E-mail address").fill("joins@example.com")
    admin.press("Invite")
    admin.page.get_by_role("heading", name="joins@example.com is invited").wait_for()
    picture(admin, "people-invited")
    assert complaints(admin) == []
    _, seen = join(browser, world, link_of(admin))

    admin.page.get_by_role("link", name="joins@example.com").click()
    assert seen in admin.page.locator("#person table").first.inner_text()
    admin.press("The fingerprint is the same: let in")
    assert admin.said() == "joins@example.com is in: votes count from now on."
    admin.page.get_by_text("Votes count.").wait_for()
    admin.page.get_by_label("Give another permission").select_option(index=1)
    admin.press("Give it")
    assert admin.said() == "The permission is given."
    admin.page.get_by_role("button", name=re.compile("^Take away")).wait_for()
    picture(admin, "person")
    assert complaints(admin) == []

    admin.press("Lost their keys: recover")
    admin.page.get_by_role("heading", name="joins@example.com can come back").wait_for()
    _, again = join(browser, world, link_of(admin))
    assert again != seen
    admin.goto(admin.page.url)
    text = admin.page.locator("#person").inner_text()
    assert again in text and seen not in text and "no vote counts yet" in text
    admin.press("The fingerprint is the same: let in")
    admin.page.get_by_text("Votes count.").wait_for()
    assert admin.problems == []


def test_a_second_passkey_made_on_another_device_is_switched_on_here(
    browser: Browser, world: World, admin: Person
) -> None:
    admin.goto("/dashboard/passkeys")
    admin.press("Make a link")
    admin.page.get_by_role("heading", name="Open this on the other device").wait_for()
    other, seen = join(browser, world, link_of(admin))
    assert "signs nothing yet" in other.page.locator("#joined-next").inner_text()
    admin.page.get_by_text(seen).wait_for()  # the page tells of it by itself
    admin.page.get_by_role("button", name=re.compile("^Switch on")).click()
    assert admin.said().endswith("is on.")
    picture(admin, "passkeys")
    assert complaints(admin) == []
    admin.page.locator("tr", has_text=seen).get_by_role("button", name=re.compile("^Remove")).click()
    admin.page.get_by_text(seen).wait_for(state="detached")
    assert admin.problems == []


def test_a_second_passkey_on_this_device_and_none_twice_on_the_same_key(admin: Person) -> None:
    admin.goto("/dashboard/passkeys")
    admin.press("Add a passkey")
    assert admin.said() == "This device has a passkey of yours already."
    # A security key answers while the new passkey is made, the one they have while it is signed for.
    key = admin.cdp.send("WebAuthn.addVirtualAuthenticator", {"options": {**AUTHENTICATOR, "transport": "usb"}})

    def touch(authenticator: str, answers: bool) -> None:
        told = {"authenticatorId": authenticator, "enabled": answers}
        admin.cdp.send("WebAuthn.setAutomaticPresenceSimulation", told)

    def sign(route: Route) -> None:
        touch(admin.authenticator, True)
        admin.cdp.send("WebAuthn.removeVirtualAuthenticator", key)
        route.continue_()

    touch(admin.authenticator, False)
    admin.page.route("**/auth/action/init", sign, times=1)
    admin.page.get_by_label("Name").fill("security key")
    admin.press("Add a passkey")
    admin.page.get_by_text("The passkey is added. It is on.").wait_for()
    admin.page.get_by_role("cell", name="security key", exact=True).wait_for()
    admin.problems.clear()


def test_a_service_account_gets_a_key_that_the_server_never_sees(admin: Person, world: World) -> None:
    sent: list[str] = []
    admin.page.on("request", lambda request: sent.append(request.post_data or ""))
    admin.goto("/dashboard/service-accounts")
    admin.page.get_by_label("Name").fill("ledger bot")
    admin.press("Make it")
    admin.page.get_by_role("heading", name="ledger bot is made").wait_for()
    picture(admin, "service-account-made")
    assert complaints(admin) == []
    saved = {}
    for name in ("ledger-bot.pem", "ledger-bot.token"):
        with admin.page.expect_download() as download:
            admin.page.get_by_role("link", name=f"Save as {name}").click()
        assert download.value.suggested_filename == name
        saved[name] = download.value.path().read_text()
    private = load_pem_private_key(saved["ledger-bot.pem"].encode(), None)
    assert not any("PRIVATE KEY" in body or saved["ledger-bot.pem"].split("\n")[1] in body for body in sent)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    admin.page.get_by_role("link", name="ledger bot").click()
    admin.page.get_by_text(fingerprint(public)).wait_for()
    picture(admin, "service-account")
    admin.press("Switch off")
    admin.page.get_by_role("button", name="Switch on").wait_for()
    assert saved["ledger-bot.token"] not in admin.page.content()
    admin.press("Revoke for good")
    admin.page.wait_for_url("**/dashboard/service-accounts")
    assert admin.page.get_by_role("link", name="ledger bot").count() == 0


def test_a_webhook_tells_its_secret_once_and_says_why_a_ping_failed(admin: Person, world: World) -> None:
    with world.receiver("wallet.created") as (_, made):
        admin.goto("/dashboard/webhooks")
        admin.page.get_by_label("Address").fill(made["url"] if isinstance(made, dict) else made.url)
        admin.page.get_by_label("Everything, also kinds that come later").uncheck()
        admin.page.get_by_text("wallet", exact=True).click()
        admin.page.get_by_label("wallet.created").check()
        admin.press("Make it")
        secret = link_of(admin)
        assert secret.startswith("whsec_")
        admin.page.locator("#webhooks a").first.click()
        assert secret not in admin.page.content()
        admin.press("Send a ping")
        assert admin.said() == "It took the ping: status 200."
        world.wallet("told of")
        admin.page.get_by_role("link", name="wallet.created").wait_for()  # the page tells of it by itself
        picture(admin, "webhook")
        assert complaints(admin) == []
        admin.press("Make a new secret")
        admin.page.get_by_role("heading", name="The new secret").wait_for()
        assert link_of(admin) != secret
        admin.page.get_by_role("button", name=re.compile("^Send again wallet.created")).first.click()
        assert admin.said() == "It is sent again."
    admin.press("Send a ping")
    admin.page.get_by_text("It did not take the ping").wait_for()
