"""A source of live prices that goes wrong, before a running server: nothing flows that should be looked at."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.world import USDC, World, until

RECIPIENT = "0x" + "1a" * 20


class Source:
    """Tells a price over HTTP, or nothing."""

    def __init__(self) -> None:
        source, self.answer, self.delay_s = self, b'{"usd": 1.0004}', 0.0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                time.sleep(source.delay_s)
                self.send_response(200 if source.answer else 500)
                self.send_header("content-length", str(len(source.answer)))
                self.end_headers()
                self.wfile.write(source.answer)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/usdc"


@pytest.fixture
def source() -> Iterator[Source]:
    made = Source()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_payouts_wait_for_people_while_a_price_cannot_be_checked(source: Source, tmp_path: Path) -> None:
    live = f'[prices.live.USDC]\nurl = "{source.url}"\npointer = "/usd"\nevery_s = 1\nmax_age_s = 4\nband = "0.01"\n'
    with World.open(tmp_path, preset="none", extra=live) as world, world.receiver("price.stale") as (receiver, _):
        approver = world.person("approver@example.com")
        world.admin.sdk.policies.create_policy(
            {
                "name": "large",
                "activityKind": "Wallets:Sign",
                "rule": {"kind": "TransactionAmountLimit", "configuration": {"limit": 10_000, "currency": "USD"}},
                "action": {
                    "kind": "RequestApproval",
                    "approvalGroups": [{"quorum": 1, "approvers": {"userId": {"in": [approver.user_id]}}}],
                },
            }
        )
        wallet, bot = world.wallet("payouts"), world.service_account("payouts bot")
        numbers = iter(range(1000))

        def pay() -> Any:
            external_id = f"invoice-{next(numbers)}"
            return world.pay(bot, wallet, RECIPIENT, 5 * USDC, external_id, contract=world.token)

        def flows() -> bool:
            return bool(pay()["status"] != "Pending")

        until(flows, "a price that was checked")
        world.wait_for(pay(), "Confirmed")

        source.answer = b'{"usd": "0.91"}'
        off = receiver.wait_for("price.stale")["data"]["price"]
        assert (off["symbol"], off["reason"], off["fixed"], off["live"]) == ("USDC", "off", "1", "0.91")
        assert pay()["status"] == "Pending"

        source.answer = b'{"usd": 0.999}'
        until(flows, "the price to be good again")

        source.answer = b""
        receiver.wait_for("price.stale", lambda data: data["price"]["reason"] == "stale")
        assert pay()["status"] == "Pending"
        assert world.log.count("price_not_told") >= 3 and source.url not in world.log
        assert len(receiver.events()) == 2, "each is told once"

        source.answer, source.delay_s = b'{"usd": 1.0004}', 2.5
        world.restart()
        assert pay()["status"] != "Pending", "judged before the first answer"
