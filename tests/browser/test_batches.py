"""Paying a file from the dashboard: checked row by row, signed once, uploaded, gone on with after it was broken off."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route

from outlay.core.address import checksum
from outlay.core.operation import OPERATIONS
from tests.browser.stage import Person, complaints, person, picture
from tests.world import World

pytestmark = pytest.mark.ci

HEADING = "reference,recipient,network,asset,amount,memo\n"


@pytest.fixture(scope="module")
def payer(browser: Browser, world: World) -> Person:
    """Somebody who may do everything, before a wallet that can pay."""
    who = person(browser, world, "payroll@example.com", OPERATIONS)
    who.page.on("dialog", lambda dialog: dialog.accept())
    world.wallet("payroll")
    return who


def lines(prefix: str, count: int) -> str:
    rows = (
        f"{prefix}-{number},{checksum(f'0x{number + 1:040x}')},EthereumSepolia,native,0.0001,salary {number}\n"
        for number in range(count)
    )
    return HEADING + "".join(rows)


def choose(page: Page, path: Path, content: str, button: str) -> None:
    path.write_text(content)
    page.locator("input[type=file]").set_input_files(path)
    page.get_by_role("button", name=button).click()


def test_what_is_wrong_with_a_file_is_told_row_by_row_and_nothing_is_asked_for(payer: Person, tmp_path: Path) -> None:
    payer.goto("/dashboard/batches/new")
    bad = lines("bad", 250).replace(",0.0001,", ',"1,5",')
    choose(payer.page, tmp_path / "bad.csv", bad, "Check the file")
    payer.page.get_by_role("heading", name="Nothing can be paid yet").wait_for()
    assert payer.page.locator("#report-problems tbody tr").count() == 200
    first = payer.page.locator("#report-problems tbody tr").first.inner_text()
    assert first.startswith("2\tamount\tholds a comma, which means thousands to some and decimals to others")
    with payer.page.expect_download() as download:
        payer.page.get_by_role("link", name="Download all").click()
    assert download.value.path().read_text().count("\n") == 251
    assert payer.page.locator("#submit").is_hidden()
    picture(payer, "batch-wrong")
    assert complaints(payer) == []
    choose(payer.page, tmp_path / "no.csv", "hello", "Check the file")
    payer.page.get_by_text("no.csv its first line must name the columns").wait_for()


def test_a_file_is_paid_and_a_broken_upload_goes_on_with_the_same_file_only(payer: Person, tmp_path: Path) -> None:
    page, file = payer.page, tmp_path / "payroll.csv"
    payer.goto("/dashboard/batches/new")
    choose(page, file, lines("p", 2300), "Check the file")
    page.get_by_role("heading", name="The file is good").wait_for()
    assert "2,300" in page.locator("#report-lead").inner_text()
    total = page.locator("#report-totals tbody tr").inner_text()
    assert total.split("\t")[:3] == ["ETH", "2,300", "0.23 ETH"]
    picture(payer, "batch-checked")
    assert complaints(payer) == []
    passed: list[str] = []

    def once(route: Route) -> None:
        """Let the first thousand rows through and no more."""
        if route.request.method == "PUT" and passed:
            route.fulfill(status=409, json={"error": {"message": "broken off"}})
        else:
            passed.append(route.request.url)
            route.continue_()

    page.route("**/rows", once)
    page.get_by_role("button", name="Sign and submit").click()
    page.wait_for_url("**/dashboard/batches/bat-*")
    page.get_by_text("1,000 of 2,300 rows are uploaded").wait_for()
    page.unroute("**/rows")
    choose(page, file, lines("q", 2300), "Go on")
    page.get_by_role("heading", name="This is another file").wait_for()
    choose(page, file, lines("p", 2300), "Go on")
    page.locator("#batch[data-state=done]").wait_for(timeout=60_000)
    assert payer.page.locator("#rows tbody tr").count() == 50
    picture(payer, "batch")
    assert complaints(payer) == []
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the report").click()
    assert download.value.path().read_text().count("\n") == 2301
    payer.goto("/dashboard/batches/new")
    choose(page, file, lines("p", 2300), "Check the file")
    page.get_by_text("2,300 were asked for before with the same content").wait_for()
