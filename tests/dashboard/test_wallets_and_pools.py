"""Pages of wallets and pools: whole addresses, balances with their height, why one stands still, who may do what."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape

import pytest

from outlay.core.address import checksum
from outlay.core.ledger import inflow
from outlay.store import ledger, wallets
from outlay.store.database import Unit
from tests.dashboard.test_shell import ask
from tests.door import NETWORK, TOKEN, Door, Who, open_door_now, transfer

HOSTILE = '"><script>alert(1)</script>'


@dataclass(frozen=True)
class Scene:
    door: Door
    wallet: dict[str, str]
    drained: dict[str, str]
    pool: str
    reader: Who  #: may read wallets and pools, and change nothing
    nobody: Who

    def page(self, path: str, who: Who | None = None) -> tuple[int, str]:
        answer, text = ask(self.door, path, token=(who or self.door.admin).token)
        return answer.status, text


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with open_door_now(tmp_path_factory.mktemp("door")) as door:
        assert "There is no wallet yet" in ask(door, "/dashboard/wallets")[1]
        assert "There is no pool" in ask(door, "/dashboard/pools")[1]
        wallet, drained = door.wallet("payouts"), door.wallet("payouts")
        door.write(door.admin, "PUT", f"/wallets/{wallet['id']}", {"name": HOSTILE}).ok()
        door.write(door.admin, "POST", f"/v1/wallets/{drained['id']}/drain", {"reason": HOSTILE}).ok()
        pool = {"name": HOSTILE, "network": NETWORK, "tag": "payouts"}
        made = door.write(door.admin, "POST", "/v1/pools", pool).ok()
        door.write(door.admin, "POST", "/v1/pools", {**pool, "name": "empty", "tag": "nobody"}).ok()

        def fill(unit: Unit) -> None:
            for asset, amount in (("native", 2 * 10**18), (TOKEN, 1_234_500_000)):
                lines = inflow(wallet=wallet["id"], network=NETWORK, asset=asset, amount=amount)
                ledger.post(unit, lines, transfer_id=None, now=door.clock.now(), entropy=door.gate.entropy)
            wallets.update(unit, wallet["id"], compared_block=1_234_567)

        door.run_write(fill)
        for _ in range(2):
            door.write(door.admin, "POST", f"/wallets/{wallet['id']}/transfers", transfer()).ok()
        reader = door.person("reader@example.com", ["Wallets:Read", "Pools:Read"])
        yield Scene(door, wallet, drained, made["id"], reader, door.person("nobody@example.com"))


@pytest.mark.parametrize("place", ["/dashboard/wallets", "/dashboard/wallets/{}"])
def test_an_address_is_whole_and_a_balance_has_its_height(scene: Scene, place: str) -> None:
    status, text = scene.page(place.format(scene.wallet["id"]))
    assert status == 200
    assert f'<code class="address">{checksum(scene.wallet["address"])}</code>' in text
    assert "1,234.5 USDC" in text and "2 ETH" in text
    assert "compared with the chain up to block 1,234,567" in text
    assert "2 waiting" in text or "2 payouts wait" in text


def test_one_that_was_never_compared_says_so(scene: Scene) -> None:
    assert "never compared with the chain yet" in scene.page(f"/dashboard/wallets/{scene.drained['id']}")[1]


@pytest.mark.parametrize(
    "place", ["/dashboard/wallets", "/dashboard/wallets/{wallet}", "/dashboard/pools", "/dashboard/pools/{pool}"]
)
def test_what_people_wrote_is_text(scene: Scene, place: str) -> None:
    text = scene.page(place.format(wallet=scene.wallet["id"], pool=scene.pool))[1]
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)" in text


def test_a_drained_wallet_says_why_and_can_be_given_work(scene: Scene) -> None:
    text = scene.page(f"/dashboard/wallets/{scene.drained['id']}")[1]
    assert "Draining" in text and "It gets no new work" in text
    assert f'data-sign="POST /v1/wallets/{scene.drained["id"]}/resume"' in text
    assert f"/v1/wallets/{scene.wallet['id']}/drain" in scene.page(f"/dashboard/wallets/{scene.wallet['id']}")[1]


def test_a_frozen_wallet_says_why_and_how_it_is_let_go(scene: Scene) -> None:
    made = scene.door.wallet()
    path = f"/dashboard/wallets/{made['id']}"
    assert "unfreeze" not in scene.page(path)[1]
    assert f"outlay freeze --dir DIR --wallet {made['id']} --reason" in scene.page(path)[1]
    scene.door.run_write(lambda unit: wallets.freeze(unit, made["id"], "the chain shows less"))
    text = scene.page(path)[1]
    assert "Frozen: the chain shows less" in text
    assert f'data-send="PUT /v1/wallets/{made["id"]}/unfreeze"' in text
    assert "Frozen" in scene.page("/dashboard/wallets")[1]
    assert "unfreeze" not in scene.page(path, scene.reader)[1].replace("may unfreeze wallets", "")


def test_what_the_signer_was_told_to_stop_is_shown_and_lifted(scene: Scene) -> None:
    made = scene.door.wallet()
    scene.door.execute(
        "INSERT INTO stop (id, scope, subject, reason, at) VALUES (?, ?, ?, ?, ?)",
        "fz-1",
        "wallet",
        made["id"],
        "odd",
        1,
    )
    try:
        text = scene.page(f"/dashboard/wallets/{made['id']}")[1]
        assert 'data-send="PUT /v1/freezes/fz-1/lift"' in text and "is frozen: odd" in text
        other = scene.page(f"/dashboard/wallets/{scene.wallet['id']}")[1]
        assert "fz-1" not in other
    finally:
        scene.door.execute("DELETE FROM stop")


def test_a_pool_tells_of_its_queue_and_each_wallet(scene: Scene) -> None:
    scene.door.write(
        scene.door.admin,
        "POST",
        "/v1/payouts",
        {"poolId": scene.pool, "asset": "native", "recipient": "0x" + "2b" * 20, "amount": "5", "externalId": "p-1"},
    ).ok()
    text = scene.page(f"/dashboard/pools/{scene.pool}")[1]
    assert "<dt>Waiting for a wallet</dt><dd>1" in text
    assert "takes work" in text and "gets nothing new" in text and "drained:" in text
    assert "the fees of 40 payouts" in text, "2 ETH at a fee cap of 0.05"
    assert checksum(scene.wallet["address"]) in text
    listed = unescape(scene.page("/dashboard/pools")[1])
    assert "1 of 2 wallets take work" in listed and "0 of 0 wallets take work" in listed


def test_an_empty_pool_says_what_to_do(scene: Scene) -> None:
    empty = next(each for each in scene.door.get("/v1/pools").ok()["items"] if each["name"] == "empty")
    assert "No wallet of EthereumSepolia carries the tag nobody" in scene.page(f"/dashboard/pools/{empty['id']}")[1]
    scene.door.write(scene.door.admin, "POST", f"/v1/pools/{empty['id']}/archive").ok()
    assert "archive" not in scene.page(f"/dashboard/pools/{empty['id']}")[1]


@pytest.mark.parametrize(
    "place", ["/dashboard/wallets", "/dashboard/wallets/{wallet}", "/dashboard/pools", "/dashboard/pools/{pool}"]
)
def test_who_may_only_read_is_offered_nothing_and_who_may_not_is_told_so(scene: Scene, place: str) -> None:
    path = place.format(wallet=scene.wallet["id"], pool=scene.pool)
    status, text = scene.page(path, scene.reader)
    assert status == 200
    assert "data-send" not in text and "data-sign=" not in text
    status, text = scene.page(path, scene.nobody)
    assert status == 403 and "lacks the permission" in text


def test_who_may_read_pools_alone_is_told_nothing_more_of_its_wallets(scene: Scene) -> None:
    who = scene.door.person("pools@example.com", ["Pools:Read"])
    status, text = scene.page(f"/dashboard/pools/{scene.pool}", who)
    assert status == 200 and scene.wallet["id"] in text
    assert checksum(scene.wallet["address"]) not in text and "compared with the chain" not in text


def test_there_is_no_page_of_what_there_is_not(scene: Scene) -> None:
    for path in (
        "/dashboard/wallets/wa-xxxxx-xxxxx-xxxxxxxxxxxxxxxx",
        "/dashboard/pools/pool-xxxxx-xxxxx-xxxxxxxxxxxxxxxx",
    ):
        assert scene.page(path)[0] == 404


def test_wallets_come_in_pages(scene: Scene) -> None:
    text = unescape(scene.page("/dashboard/wallets?limit=1")[1])
    assert text.count('<article class="sheet">') == 1
    after = text.partition("?paginationToken=")[2].partition('"')[0]
    assert after and scene.page(f"/dashboard/wallets?limit=1&paginationToken={after}")[0] == 200
    assert scene.page("/dashboard/wallets?paginationToken=nonsense")[0] == 400
