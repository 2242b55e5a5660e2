"""The same calls for asyncio; lists page by page; what answers are typed as."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from outlay.client import ApiError, AsyncClient, Client, Payout, PayoutBatch
from outlay.client.answers import ENDED, BatchRow
from outlay.core import transfer
from outlay.web.v1 import payout_shapes
from tests.door import PAYER, RECIPIENT, Door, Who, open_door_now


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """Serve an organization at the time of day."""
    with open_door_now(tmp_path, extra='\n[server]\npublic_url = "http://localhost:1"\n') as opened:
        yield opened


def client(door: Door, who: Who) -> AsyncClient:
    return AsyncClient(
        f"http://127.0.0.1:{door.port}",
        public_url="http://localhost:1",
        credential_id=who.credential_id,
        private_key=who.private,
        token=who.token,
    )


def test_payouts_are_asked_for_and_listed(door: Door) -> None:
    payer, wallet = door.service_account("payouts bot", PAYER), door.wallet()["id"]

    async def story() -> None:
        async with client(door, payer) as outlay:
            asked = await asyncio.gather(
                *(
                    outlay.pay(wallet_id=wallet, asset="native", recipient=RECIPIENT, amount=str(each + 1))
                    for each in range(5)
                )
            )
            assert len({each["id"] for each in asked}) == 5
            assert all(each["externalId"].startswith("auto-") for each in asked)
            batch = await outlay.pay_batch(
                [{"walletId": wallet, "asset": "native", "recipient": RECIPIENT, "amount": "7"}] * 2
            )
            assert [row["payout"]["amount"] for row in batch["items"]] == ["7", "7"], "each has an id of its own"
            listed = [each async for each in outlay.items("/v1/payouts", limit=2)]
            assert len(listed) == 7, "in pages of two"
            held = [each async for each in outlay.payouts(state="held")]
            assert held == []
            assert (await outlay.read(f"/v1/payouts/{asked[0]['id']}"))["id"] == asked[0]["id"]
            with pytest.raises(ApiError):
                await outlay.pay(wallet_id=wallet, asset="native", recipient=RECIPIENT, amount="-1")
            with pytest.raises(ApiError) as caught:
                await outlay.write("POST", "/wallets", {"network": "EthereumSepolia"})
            assert caught.value.status == 403

    asyncio.run(story())


def test_the_types_are_what_answers_hold() -> None:
    for kind, name in ((Payout, "Payout"), (PayoutBatch, "PayoutBatch")):
        published = payout_shapes.OBJECTS[name]
        assert set(kind.__annotations__) == set(published["properties"])
        assert kind.__required_keys__ == frozenset(published["required"])
    row = payout_shapes.OBJECTS["PayoutBatch"]["properties"]["items"]["items"]
    assert set(BatchRow.__annotations__) == set(row["properties"])
    assert ENDED == transfer.ENDS
    assert callable(Client.payouts)
