"""Every page, with something on it: no complaint of the browser, none that is serious of axe, and a picture to keep."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser

from outlay.core.operation import OPERATIONS
from outlay.web.dashboard.desk import NAVIGATION
from tests.browser.stage import Person, complaints, newcomer, person, picture
from tests.world import USDC, World

pytestmark = pytest.mark.ci

KNOWN, STRANGER = "0x" + "1a" * 20, "0x" + "5e" * 20


@dataclass(frozen=True)
class Scene:
    """A house in which something goes on, and somebody who may see all of it."""

    world: World
    who: Person
    places: dict[str, str]  #: page of one thing: its name -> its path


@pytest.fixture(scope="module")
def scene(browser: Browser, world: World) -> Iterator[Scene]:
    wallet, bot = world.wallet("payouts 1"), world.service_account("payouts bot")
    world.fill_groups([world.admin])
    know(world, KNOWN)
    amounts = (125, 2_400, 860, 1_999, 4_250)
    flowing = [
        world.pay(bot, wallet, KNOWN, amount * USDC, f"invoice-{1000 + at}", contract=world.token)
        for at, amount in enumerate(amounts)
    ]
    for each in flowing:
        world.wait_for(each, "Confirmed")
    sent = flowing[0]
    # Now, because what was paid lately is added up anew only every 15 seconds.
    who = person(browser, world, "approver@example.com", OPERATIONS)
    world.fill_groups([who])
    held = world.pay(bot, wallet, STRANGER, 12_000 * USDC, "invoice-2001", contract=world.token)
    places = {
        "payout": f"/dashboard/payouts/{sent['id']}",
        "payout-held": f"/dashboard/payouts/{held['id']}",
        "wallet": f"/dashboard/wallets/{wallet['id']}",
    }
    yield Scene(world, who, places)


def know(world: World, recipient: str) -> None:
    """Put a recipient on the list of those that nobody has to look at."""
    for policy in world.admin.sdk.policies.list_policies({"status": "Active"})["items"]:
        if policy["rule"]["kind"] == "TransactionRecipientWhitelist":
            body = {name: policy[name] for name in ("name", "activityKind", "rule", "action", "filters")}
            body["rule"]["configuration"]["addresses"] = [recipient]
            world.admin.sdk.policies.update_policy(policy["id"], body)


def look_at(who: Person, path: str, name: str) -> None:
    """Look at a page as the browser, as somebody with a screen reader, and as somebody with a phone."""
    who.problems.clear()
    who.goto(path)
    who.page.get_by_role("heading", level=1).wait_for()
    who.page.wait_for_timeout(200)
    picture(who, name)
    assert complaints(who) == []
    who.page.emulate_media(color_scheme="dark")
    assert complaints(who) == [], "in the dark"
    picture(who, f"{name}-dark")
    who.page.emulate_media(color_scheme="light")
    assert who.problems == []


@pytest.mark.parametrize("path", [each.path for each in NAVIGATION] + ["/dashboard/passkeys"])
def test_each_page_of_the_menu(scene: Scene, path: str) -> None:
    look_at(scene.who, path, path.rpartition("/")[2] if path != "/dashboard" else "home")


@pytest.mark.parametrize("place", ["payout", "payout-held", "wallet"])
def test_each_page_of_one_thing(scene: Scene, place: str) -> None:
    look_at(scene.who, scene.places[place], place)


@pytest.mark.parametrize("path", ["/dashboard/sign-in", "/dashboard/join"])
def test_each_page_of_nobody(browser: Browser, world: World, path: str) -> None:
    look_at(newcomer(browser, world, "nobody@example.com"), path, path.rpartition("/")[2])
