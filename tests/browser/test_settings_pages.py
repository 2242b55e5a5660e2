"""Policies, wallets, pools and schedules changed in a browser: what is signed is what was looked at."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser

from outlay.core.operation import OPERATIONS
from tests.browser.stage import Person, complaints, person, picture
from tests.world import NETWORK, World

pytestmark = pytest.mark.ci

KNOWN = "0x" + "1a" * 20


@dataclass(frozen=True)
class Scene:
    world: World
    who: Person
    wallet: str
    address: str


@pytest.fixture(scope="module")
def scene(browser: Browser, world: World) -> Iterator[Scene]:
    who = person(browser, world, "ops@example.com", OPERATIONS)
    wallet = world.wallet("payouts 1")
    yield Scene(world, who, wallet["id"], wallet["address"])


def seen(who: Person, name: str) -> None:
    """Keep a picture, and see that nothing is wrong with the page."""
    picture(who, name)
    assert complaints(who) == []
    assert who.problems == []


def test_a_policy_is_drafted_looked_at_and_signed(scene: Scene) -> None:
    who, page = scene.who, scene.who.page
    who.goto("/dashboard/policies/new")
    page.get_by_label("Name", exact=True).fill("Over $5,000: ask ops")
    page.get_by_label("Limit in dollars").fill("5000")
    page.locator("[name=who]").select_option("listed")
    page.get_by_label("ops@example.com").check()
    seen(who, "policy-form")
    who.press("See what would change")
    page.get_by_text("worth more than $5,000: it waits until ops@example.com agrees").wait_for()
    who.press("Sign it")
    page.wait_for_url("**/dashboard/policies/plc-*")
    page.get_by_role("heading", name="Over $5,000: ask ops").wait_for()
    assert "Version 1 created by ops@example.com" in page.locator("main").inner_text()
    seen(who, "policy")

    page.get_by_role("link", name="Change it").click()
    page.get_by_label("Limit in dollars").fill("4000")
    who.press("See what would change")
    page.locator("#outcome").wait_for()
    assert "At least as strict" in page.locator("#direction").inner_text()
    seen(who, "policy-change")
    page.get_by_label("Limit in dollars").fill("9000")
    assert page.locator("#outcome").is_hidden(), "what was looked at is not what would be signed"
    who.press("See what would change")
    page.get_by_text("Not proven to be as strict").wait_for()
    who.press("Sign it")
    page.wait_for_url("**/dashboard/policies/plc-*")
    page.get_by_text("worth more than $9,000").first.wait_for()
    page.get_by_text("Version 2 updated by ops@example.com").wait_for()

    policy = page.url.rpartition("/")[2]
    page.get_by_role("link", name="Change it").click()
    page.get_by_label("Limit in dollars").fill("8000")
    who.press("See what would change")
    page.locator("#outcome").wait_for()
    policies = scene.world.admin.sdk.policies
    found = policies.get_policy(policy)
    meant = {name: found[name] for name in ("activityKind", "rule", "action")}
    policies.update_policy(policy, {**meant, "name": "Changed meanwhile"})
    who.press("Sign it")
    page.get_by_text("Somebody changed this policy meanwhile").wait_for()
    assert page.locator("#outcome").is_hidden()
    assert policies.get_policy(policy)["name"] == "Changed meanwhile"


def test_what_the_form_cannot_say_is_changed_as_json(scene: Scene) -> None:
    who, page = scene.who, scene.who.page
    who.goto("/dashboard/policies/new")
    text = page.locator("#document")
    text.fill(text.input_value().replace('"walletTags"', '"walletId": {"in": ["wa-1"]}, "walletTags"'))
    text.blur()
    page.get_by_text("This policy says more than the form can").wait_for()
    assert page.locator("#simple").is_hidden()
    text.fill("{")
    who.press("See what would change")
    assert "This is no JSON" in who.said()


def test_a_wallet_tells_what_the_chain_says_now_and_is_drained(scene: Scene) -> None:
    who, page = scene.who, scene.who.page
    who.goto(f"/dashboard/wallets/{scene.wallet}")
    page.get_by_text("was asked from the network at").wait_for()
    cells = page.locator("#balances [data-asset]").all_inner_texts()
    assert cells and not any("not" in each for each in cells), cells
    page.get_by_label("Why", exact=True).fill("moving to another host")
    who.press("Drain it")
    page.get_by_text("It gets no new work: moving to another host").wait_for()
    seen(who, "wallet-drained")
    who.press("Give it work again")
    page.get_by_role("button", name="Drain it").wait_for()
    page.get_by_label("Tags, separated by commas").fill("eu, hot")
    who.press("Add them")
    page.get_by_text("eu, hot").wait_for()
    page.get_by_label("hot", exact=True).check()
    who.press("Take them off")
    page.get_by_label("hot", exact=True).wait_for(state="detached")


def test_a_pool_is_made_of_wallets_that_carry_a_tag(scene: Scene) -> None:
    who, page = scene.who, scene.who.page
    who.goto("/dashboard/pools")
    page.get_by_text("New pool").click()
    page.get_by_label("Name", exact=True).fill("main")
    page.get_by_label("Tag", exact=False).last.fill("payouts")
    who.press("Make it")
    page.wait_for_url("**/dashboard/pools/pool-*")
    page.get_by_text("takes work").wait_for()
    seen(who, "pool")


def test_a_recurring_payout_is_looked_at_and_signed(scene: Scene) -> None:
    who, page = scene.who, scene.who.page
    who.goto("/dashboard/schedules/new")
    assert page.locator("#zone").input_value() == "Europe/Berlin", "the reader's own"
    page.get_by_label("Name", exact=True).fill("rent")
    page.get_by_label("Recipient, the whole address").fill(KNOWN)
    page.locator("#asset").select_option(f"{NETWORK}/{scene.world.token.lower()}")
    page.locator("#amount").fill("1250.5")
    page.locator("#payer").select_option(scene.wallet)
    page.locator("#from").fill("2099-01-01")
    seen(who, "schedule-form")
    who.press("See when it would pay")
    page.get_by_text("2099-01-01T09:00:00+01:00 (Europe/Berlin)").wait_for()
    assert page.locator("#told-amount").inner_text().startswith("1,250.5 ")
    who.press("Sign it")
    page.wait_for_url("**/dashboard/schedules/sc-*")
    page.get_by_role("heading", name="rent").wait_for()
    seen(who, "schedule")
    page.once("dialog", lambda dialog: dialog.accept())
    who.press("Archive it")
    page.get_by_text("Archived").first.wait_for()
    who.goto("/dashboard/schedules")
    page.get_by_text("There is none").wait_for()
