"""A pool on a real chain, as the page about it says: two wallets pay, one is drained, and it tells how it stands."""

import functools
import re
from typing import Any

import pytest

from outlay.client import ApiError, Client, Payout
from tests import tools
from tests.world import ETH, USDC, World, until

PAGE = tools.ROOT / "docs/how-to/pool-hot-wallets.md"
RECIPIENT = "0x" + "7e" * 20


def as_written(client: Client, hot: list[str], token: str) -> dict[str, Any]:
    """Run the code of the page, and return the names it made."""
    found = re.search(r"```python runnable\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    code = found[1].replace('hot = ["wa-...", "wa-..."]  # wallets of one network', "")
    names: dict[str, Any] = {"client": client, "token": token, "hot": hot, "recipient": RECIPIENT}
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def is_confirmed(client: Client, paid: Any) -> bool:
    return bool(_read(client, paid)["state"] == "confirmed")


def test_a_pool_pays_and_tells_how_it_stands(tmp_path: Any) -> None:
    with World.open(tmp_path, preset="none") as world:
        who = world.admin
        client = Client(world.url, token=who.token, credential_id=who.credential_id, private_key=who.private_key)
        hot = [world.wallet(f"hot {number}", coins=ETH, dollars=100 * USDC)["id"] for number in range(2)]
        made = as_written(client, hot, world.token)
        pool = made["pool"]
        assert (made["paid"]["poolId"], made["paid"]["walletId"] in hot) == (pool["id"], True)
        assert {each["walletId"]: each["takesWork"] for each in made["health"]["wallets"]} == dict.fromkeys(hot, True)
        client.write("POST", f"/v1/wallets/{hot[0]}/drain", {"reason": "moves to another machine"})
        later = [_pay(world, client, pool["id"], f"later-{number}") for number in range(3)]
        for each in (made["paid"], *later):
            until(functools.partial(is_confirmed, client, each), "the payout to be confirmed")
        assert {_read(client, each)["walletId"] for each in later} == {hot[1]}
        stands = {each["walletId"]: each for each in client.read(f"/v1/pools/{pool['id']}")["wallets"]}
        assert stands[hot[0]]["reason"] == "drained: moves to another machine"
        assert (stands[hot[1]]["takesWork"], stands[hot[1]]["pending"]) == (True, 0)
        assert stands[hot[1]]["feeHeadroom"] >= 1
        with pytest.raises(ApiError, match="is drained"):
            client.pay(wallet_id=hot[0], asset="native", recipient=RECIPIENT, amount="1", external_id="named")
        assert client.write("POST", f"/v1/wallets/{hot[0]}/resume", {}).get("drainedReason") is None
        assert client.write("POST", f"/v1/pools/{pool['id']}/archive", {})["status"] == "Archived"
        with pytest.raises(ApiError, match="was archived"):
            _pay(world, client, pool["id"], "too-late")
        assert [each["id"] for each in client.read("/v1/pools")["items"]] == [pool["id"]]


def _pay(world: World, client: Client, pool_id: str, name: str) -> Payout:
    return client.pay(pool_id=pool_id, asset=world.token, recipient=RECIPIENT, amount=str(USDC), external_id=name)


def _read(client: Client, payout: Payout) -> dict[str, Any]:
    return client.read(f"/v1/payouts/{payout['id']}")
