"""A real browser before a real server: people with passkeys, pictures of pages, and a judge of how usable they are.

Passkeys come from Chromium's own virtual authenticator; the server checks them as it checks any.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Browser, BrowserContext, CDPSession, ConsoleMessage, Page, sync_playwright

from tests import tools
from tests.world import VOTER, World

PICTURES = Path("build/screenshots")
DESKTOP, PHONE = (1280, 900), (390, 844)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}
ADMIN = "admin"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Debian's Chromium until the block ends."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program is not None, "the browser is missing: apt install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def address_of(world: World) -> str:
    """Return where the dashboard of a world is: by name, because passkeys belong to names."""
    return f"http://localhost:{world.deployment.port}"


@dataclass
class Person:
    """Somebody before a browser of their own, with an authenticator of their own."""

    email: str
    user_id: str
    context: BrowserContext
    page: Page
    cdp: CDPSession
    authenticator: str
    problems: list[str]
    """What the browser complained of: scripts that failed, resources that were refused."""

    def goto(self, path: str) -> None:
        """Open a page of the dashboard."""
        self.page.goto(path)

    def press(self, name: str) -> None:
        """Press the one button of this name, once the page's scripts have run."""
        button = self.page.get_by_role("button", name=name, exact=True)
        button.wait_for()
        self.page.wait_for_load_state()
        button.click()

    def said(self) -> str:
        """Return what the page says about what was done last, once it says anything."""
        self.page.locator("#say:not(:empty)").wait_for()
        return str(self.page.locator("#say").inner_text())

    def verifies(self, verified: bool) -> None:
        """Have the authenticator verify its user from now on, or not."""
        told = {"authenticatorId": self.authenticator, "isUserVerified": verified}
        self.cdp.send("WebAuthn.setUserVerified", told)

    def sign_in(self) -> None:
        """Sign in with the passkey."""
        self.goto("/dashboard/sign-in")
        self.page.get_by_label("E-mail address").fill(self.email)
        self.press("Sign in with a passkey")
        self.page.wait_for_url("**/dashboard")


def newcomer(browser: Browser, world: World, email: str, *, size: tuple[int, int] = DESKTOP) -> Person:
    """Return somebody who has opened no page yet and has no passkey."""
    return newcomer_at(browser, address_of(world), email, size=size)


def newcomer_at(browser: Browser, url: str, email: str, *, size: tuple[int, int] = DESKTOP) -> Person:
    """Return somebody new before the dashboard at ``url``."""
    context = browser.new_context(
        base_url=url, viewport={"width": size[0], "height": size[1]}, timezone_id="Europe/Berlin"
    )
    context.set_default_timeout(15_000)
    page = context.new_page()
    problems: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            problems.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: problems.append(str(error)))
    cdp = context.new_cdp_session(page)
    cdp.send("WebAuthn.enable")
    made = cdp.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
    return Person(email, "", context, page, cdp, made["authenticatorId"], problems)


def person(
    browser: Browser,
    world: World,
    email: str,
    operations: Sequence[str] = VOTER,
    *,
    vouched: bool = True,
    size: tuple[int, int] = DESKTOP,
) -> Person:
    """Invite somebody, and have them register a passkey by the page of the invitation, and sign in.

    Args:
        browser: theirs is a window of its own in it.
        world: the server.
        email: their name.
        operations: what they are permitted.
        vouched: whether an admin lets the passkey in, so that votes count.
        size: of the window.
    """
    invited = world.invite(email)
    who = newcomer(browser, world, email, size=size)
    who.user_id = invited.user_id
    who.goto("/dashboard/join#" + urlencode({"username": email, "code": invited.code}))
    who.press("Register a passkey")
    who.page.get_by_role("heading", name="The passkey is registered").wait_for()
    if operations:
        permission = world.permission(f"{email} permission", operations)
        world.admin.sdk.permissions.assign_permission(permission, {"identityId": who.user_id})
    if vouched:
        world.admin.sdk.auth.activate_user(who.user_id)
    who.sign_in()
    return who


def picture(who: Person, name: str) -> None:
    """Keep a picture of the page as it is, wide and narrow, and see that a narrow one does not scroll sideways."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    before = who.page.viewport_size
    for width, (across, down) in {"desktop": DESKTOP, "phone": PHONE}.items():
        who.page.set_viewport_size({"width": across, "height": down})
        who.page.screenshot(path=PICTURES / f"{name}-{width}.png", full_page=True)
        wide = who.page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{name} is {wide} pixels wider than a {width}"
    if before is not None:
        who.page.set_viewport_size(before)


def complaints(who: Person) -> list[str]:
    """Return what axe finds wrong with the page that is serious or worse: rule, and where."""
    source = (tools.ROOT / "tools/node_modules/axe-core/axe.min.js").read_text()
    # Put in by the debugger: the page's own policy lets no script in that it does not name.
    who.cdp.send("Runtime.evaluate", {"expression": source})
    asked = "axe.run(document, {resultTypes: ['violations']}).then((found) => JSON.stringify(found.violations))"
    answer = who.cdp.send("Runtime.evaluate", {"expression": asked, "awaitPromise": True, "returnByValue": True})
    found: list[dict[str, Any]] = json.loads(answer["result"]["value"])
    return [
        f"{each['id']}: {each['help']}: {node['html'][:200]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
