"""Refills on a real chain, as the page about them says: gas, two wallets of a kind, an empty treasury."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from outlay.client import Client
from tests import tools
from tests.world import ETH, USDC, Identity, World, until

PAGE = tools.ROOT / "docs/how-to/keep-hot-wallets-filled.md"
RECIPIENT = "0x" + "7e" * 20


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Open a server of its own: a mandate is about wallets, not about tests."""
    with World.open(tmp_path_factory.mktemp("refills"), preset="none") as world:
        yield world


def client_of(world: World, who: Identity) -> Client:
    return Client(world.url, token=who.token, credential_id=who.credential_id, private_key=who.private_key)


def as_written(world: World, client: Client, treasury: str, hot: list[str]) -> dict[str, Any]:
    """Run the code of the page, and return the names it made."""
    found = re.search(r"```python runnable\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    code = found[1].replace('treasury, hot = "wa-...", ["wa-...", "wa-..."]  # their ids', "")
    names: dict[str, Any] = {"client": client, "token": world.token, "treasury": treasury, "hot": hot}
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def balances(client: Client, mandate: Any) -> dict[str, Any]:
    """Return how the wallets of a mandate stand, by wallet."""
    return {each["walletId"]: each for each in client.read(f"/v1/mandates/{mandate['id']}")["balances"]}


def test_wallets_are_filled_with_dollars_and_gas_and_pay(own: World) -> None:
    client = client_of(own, own.admin)
    treasury = own.wallet("treasury", coins=100 * ETH, dollars=5000 * USDC)
    hot = [own.wallet(f"hot {number}", coins=0, dollars=dollars) for number, dollars in enumerate((50 * USDC, 0))]
    payers = [each["id"] for each in hot]
    first = own.pay(own.admin, hot[0], RECIPIENT, 5 * USDC, "waits-for-gas", contract=own.token)
    with own.receiver("wallet.balance.low") as (receiver, _):
        made = as_written(own, client, treasury["id"], payers)
        told = receiver.wait_for("wallet.balance.low", lambda each: each["balance"]["walletId"] == payers[1])
        assert told["data"]["balance"]["spendable"] == "0"
    own.wait_for(first, "Confirmed")
    until(lambda: all(own.spendable(each, own.token) >= 100 * USDC for each in payers), "dollars")
    until(lambda: all(own.spendable(each, "native") > 0 for each in payers), "gas")
    until(lambda: not any(each["low"] for each in balances(client, made["dollars"]).values()), "nobody low")
    refills = own.rows(
        "SELECT external_id FROM transfer WHERE mandate_id = ? ORDER BY external_id", made["dollars"]["id"]
    )
    assert [row["external_id"] for row in refills] == [f"refill/{made['dollars']['id']}/{n}" for n in (1, 2)]
    (shown,) = [
        each
        for each in own.admin.sdk.wallets.list_transfers(treasury["id"])["items"]
        if each["externalId"] == refills[0]["external_id"]
    ]
    assert (shown["requester"], shown["mandateId"]) == ({"userId": made["dollars"]["id"]}, made["dollars"]["id"])
    second = own.pay(own.admin, hot[1], RECIPIENT, 5 * USDC, "pays-by-itself", contract=own.token)
    own.wait_for(second, "Confirmed")
    assert [each["id"] for each in client.read("/v1/mandates?status=Active")["items"]] == [
        made["gas"]["id"],
        made["dollars"]["id"],
    ]
    until(lambda: client.read("/v1/reconciliation")["agrees"], "books that agree")
    for each in ("dollars", "gas"):
        assert client.write("POST", f"/v1/mandates/{made[each]['id']}/archive", {})["status"] == "Archived"


def test_an_empty_treasury_waits_with_a_reason_and_an_outside_one_is_asked(own: World) -> None:
    client = client_of(own, own.admin)
    treasury = own.wallet("empty treasury", coins=1 * ETH, dollars=1 * USDC)
    hot = own.wallet("poor", coins=1 * ETH, dollars=0)
    body = {
        "name": "dollars",
        "kind": "Refill",
        "network": hot["network"],
        "asset": own.token,
        "treasury": {"walletId": treasury["id"]},
        "wallets": {"walletIds": [hot["id"]]},
        "min": "100000000",
        "target": "100000000",
        "max": "100000000",
        "perRefillMax": "100000000",
        "window": {"amount": "100000000", "count": 1, "minutes": 60},
    }
    made = client.write("POST", "/v1/mandates", body)
    waits = until(lambda: balances(client, made)[hot["id"]].get("waitingReason"), "a reason")
    assert waits == "the treasury can give 1000000 base units, and 100000000 are needed"
    client.write("POST", f"/v1/mandates/{made['id']}/archive", {})
    safe = client.write("POST", "/v1/mandates", {**body, "treasury": {"external": RECIPIENT}})
    path = f"/v1/mandates/{safe['id']}/proposals"
    (proposal,) = until(lambda: client.read(path)["items"], "a proposal")
    assert (proposal["status"], proposal["to"], proposal["amount"]) == ("Open", hot["address"], "100000000")
    assert proposal["transaction"]["to"] == own.token
    own.fund(hot, dollars=100 * USDC)
    until(lambda: client.read(path + "?status=Fulfilled")["items"], "the money to be seen")
    assert client.read(path + "?status=Open")["items"] == []
