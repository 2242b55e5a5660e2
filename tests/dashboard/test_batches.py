"""Pages of batches: how far each is, what became of its rows, and who may do what."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any

import pytest

from outlay.evidence.canonical import canonical
from outlay.evidence.merkle import Frontier, leaf
from outlay.store import submissions
from tests.dashboard.test_shell import ask
from tests.door import NETWORK, Door, Who, open_door_now

PAGES = "/dashboard/batches"
HOSTILE = "<img src=x onerror=alert(1)>"
TO = "0xa1B2c3D4e5a1B2c3D4e5a1b2C3D4E5a1b2c3D4e5"


@dataclass(frozen=True)
class Scene:
    door: Door
    wallet: str
    payer: Who  #: may ask for payouts and read wallets
    reader: Who  #: may read payouts and nothing else

    def raw(self, path: str, who: Who | None = None) -> tuple[int, str]:
        answer, text = ask(self.door, path, token=(who or self.door.admin).token)
        return answer.status, text

    def page(self, path: str, who: Who | None = None) -> tuple[int, str]:
        status, text = self.raw(path, who)
        return status, unescape(text)

    def submit(self, name: str, items: Sequence[Any], *, upload: int | None = None) -> str:
        """Submit a file as the admin and upload some of its rows, by default all."""
        frontier = Frontier()
        for item in items:
            frontier.add(leaf(canonical(item)))
        body = {"name": name, "walletId": self.wallet, "digest": frontier.digest(), "count": len(items)}
        batch = self.door.write(self.door.admin, "POST", "/v1/batches", body).ok()["id"]
        rows = {"from": 0, "rows": items[:upload]}
        self.door.call("PUT", f"/v1/batches/{batch}/rows", rows, token=self.door.admin.token).ok()
        return str(batch)


def items(prefix: str, count: int) -> list[dict[str, str]]:
    pay = {"network": NETWORK, "asset": "native", "recipient": TO.lower(), "amount": "1500000000000000"}
    return [{**pay, "externalId": f"{prefix}-{number}", "memo": HOSTILE} for number in range(count)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with open_door_now(tmp_path_factory.mktemp("door")) as door:
        assert "No file was paid yet" in ask(door, PAGES)[1]
        assert "There is no wallet or pool" in ask(door, f"{PAGES}/new")[1]
        pay = ["Wallets:Transfers:Read", "Wallets:Transfers:Create", "Wallets:Read"]
        payer, reader = door.person("payer@example.com", pay), door.person("reader@example.com", pay[:1])
        yield Scene(door, door.wallet("payouts")["id"], payer, reader)


def test_a_file_that_is_being_admitted_tells_how_far_it_is(scene: Scene) -> None:
    batch = scene.submit("payroll", items("a", 3))
    status, text = scene.page(f"{PAGES}/{batch}")
    assert status == 200
    assert "0 of 3 rows are looked at" in text and "0.0045 ETH in 3 rows" in text
    assert TO in text, "whole, with its checksum"
    assert f"/v1/batches/{batch}/report.csv" in text and f"POST /v1/batches/{batch}/cancel" in text
    assert text.count(">waiting<") == 4, "of the file, and of each row"
    assert "payroll" in scene.page(PAGES)[1]


def test_an_upload_that_was_broken_off_goes_on_from_its_page_and_only_for_whoever_began_it(scene: Scene) -> None:
    batch = scene.submit("half", items("b", 4), upload=2)
    status, text = scene.page(f"{PAGES}/{batch}")
    assert status == 200 and "2 of 4 rows are uploaded" in text and 'id="resume"' in text
    status, text = scene.page(f"{PAGES}/{batch}", scene.payer)
    assert status == 200 and 'id="resume"' not in text and "/cancel" not in text


def test_rows_are_shown_by_pages_and_by_state(scene: Scene) -> None:
    batch = scene.submit("long", items("c", 102))
    here = f"{PAGES}/{batch}"
    first = scene.page(here)[1]
    assert "c-49<" in first and "c-50<" not in first and 'href="?from=50"' in first
    second = scene.page(f"{here}?from=100")[1]
    assert "c-100<" in second and "c-99<" not in second and "Next page" not in second
    error = {"code": "invalid_input", "message": f"no such asset {HOSTILE}"}
    scene.door.run_write(lambda unit: submissions.note(unit, batch, [(101, None, error)]))
    refused = scene.raw(f"{here}?state=refused")[1]
    assert "c-101<" in refused and "c-100<" not in refused and "no such asset &lt;img" in refused
    assert "No row is confirmed." in scene.page(f"{here}?state=confirmed")[1]
    for query in ("state=odd", "from=-1", "from=x", "from=9999999999"):
        assert scene.page(f"{here}?{query}")[0] == 400, query


def test_what_a_file_says_is_shown_as_text(scene: Scene) -> None:
    batch = scene.submit(HOSTILE, items("d", 1))
    for path in (PAGES, f"{PAGES}/{batch}"):
        status, text = scene.raw(path)
        assert status == 200 and "<img" not in text and "&lt;img src=x" in text


def test_the_page_of_a_new_file_knows_what_can_be_paid_and_from_where(scene: Scene) -> None:
    status, text = scene.page(f"{PAGES}/new", scene.payer)
    assert status == 200 and f'value="{scene.wallet}" data-member="walletId"' in text
    assets = json.loads(text.split('data-assets="', 1)[1].split('">', 1)[0])
    listed = {(each["key"], each["decimals"]) for each in assets[NETWORK]}
    assert ("native", 18) in listed and len(listed) == len(scene.door.gate.config.assets_of(NETWORK))


def test_who_may_not_see_them_does_not(scene: Scene) -> None:
    batch = scene.submit("seen", items("e", 1))
    nobody = scene.door.person("nobody@example.com")
    for path in (PAGES, f"{PAGES}/new", f"{PAGES}/{batch}"):
        assert scene.page(path, nobody)[0] == 403, path
    assert scene.page(f"{PAGES}/new", scene.reader)[0] == 403
    status, text = scene.page(f"{PAGES}/{batch}", scene.reader)
    assert status == 200 and "data-sign=" not in text
    assert f"{PAGES}/new" not in scene.page(PAGES, scene.reader)[1]
    assert scene.page(f"{PAGES}/bat-x")[0] == 404


def test_lists_are_filtered_by_state(scene: Scene) -> None:
    batch = scene.submit("taken back", items("f", 2), upload=1)
    scene.door.write(scene.door.admin, "POST", f"/v1/batches/{batch}/cancel").ok()
    shown = scene.page(f"{PAGES}?state=canceled")[1]
    assert "taken back" in shown and "payroll" not in shown
    assert "Nothing matches." in scene.page(f"{PAGES}?state=done")[1]
    assert scene.page(f"{PAGES}?state=odd")[0] == 400
