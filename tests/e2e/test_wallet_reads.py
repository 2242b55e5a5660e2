"""What is read from the chain and of the past: balances, fees, history."""

from collections.abc import Iterator
from typing import Any

import pytest
from dfns_sdk import DfnsError
from dfns_sdk.generated.wallets.types import GetWalletAssetsResponse, GetWalletHistoryResponse

from tests.dfns_types import assert_conforms
from tests.door import GWEI, NETWORK, RECIPIENT, TOKEN, Door, Who, check_refusal, open_door, transfer
from tests.e2e.node_scripts import caller, run
from tests.tools import rpc
from tests.world import ETH, USDC, World

PENNY = "0x" + "d0" * 20
"""A token without a price."""

UNPRICED = f"""
[[assets]]
network = "{NETWORK}"
contract = "{PENNY}"
symbol = "PNY"
decimals = 2
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_door(tmp_path_factory.mktemp("door"), extra=UNPRICED) as opened:
        yield opened


@pytest.fixture
def door(shared: Door) -> Iterator[Door]:
    """Give a chain that answers, and leaves nothing of one test to the next."""
    usual = shared.chains.prices
    yield shared
    shared.chains.held, shared.chains.prices, shared.chains.is_dead = {}, usual, False
    shared.chains.asked.clear()


@pytest.fixture(scope="module")
def wallet(shared: Door) -> Any:
    return shared.wallet()


@pytest.fixture(scope="module")
def nobody(shared: Door) -> Who:
    return shared.service_account("a bot that may do nothing here", ["Webhooks:Read"])


# Balances


def test_assets_are_what_the_chain_says_now(door: Door, wallet: Any) -> None:
    door.chains.held = {"native": 2 * 10**18, TOKEN: 2**256 - 1}
    assert door.get(f"/wallets/{wallet['id']}/assets").ok() == {
        "walletId": wallet["id"],
        "network": NETWORK,
        "assets": [
            {
                "kind": "Native",
                "symbol": "ETH",
                "decimals": 18,
                "verified": True,
                "balance": "2000000000000000000",
                "quotes": {"USD": 3000.0},
            },
            {
                "kind": "Erc20",
                "contract": TOKEN,
                "symbol": "USDC",
                "decimals": 6,
                "verified": True,
                "balance": str(2**256 - 1),
                "quotes": {"USD": 1.0},
            },
            {"kind": "Erc20", "contract": PENNY, "symbol": "PNY", "decimals": 2, "verified": True, "balance": "0"},
        ],
    }
    assert door.chains.asked == [(wallet["address"], ["native", TOKEN, PENNY])]
    door.chains.held["native"] = 5
    again = door.get(f"/wallets/{wallet['id']}/assets").ok()
    assert again["assets"][0]["balance"] == "5"


@pytest.mark.parametrize("query", ["netWorth=true", "net_worth=true", "netWorth=True", "net_worth=TRUE"])
def test_net_worth_is_told_when_it_is_asked_for(door: Door, wallet: Any, query: str) -> None:
    door.chains.held = {"native": 15 * 10**17, TOKEN: 12_345_678}
    assert door.get(f"/wallets/{wallet['id']}/assets?{query}").ok()["netWorth"] == {"USD": 4512.345678}


def test_net_worth_is_not_told_unasked_or_half(door: Door, wallet: Any) -> None:
    path = f"/wallets/{wallet['id']}/assets"
    door.chains.held = {"native": 10**18}
    for query in ("", "?netWorth=false", "?netWorth="):
        assert "netWorth" not in door.get(path + query).ok()
    assert door.get(path + "?netWorth=true").ok()["netWorth"] == {"USD": 3000}
    door.chains.held[PENNY] = 1
    answer = door.get(path + "?netWorth=true").ok()
    assert "netWorth" not in answer  # something in it has no price: any sum would be wrong
    assert "quotes" not in answer["assets"][2]
    refused = door.get(path + "?netWorth=yes")
    check_refusal(refused)
    assert (refused.status, refused.field) == (400, "netWorth")


def test_a_token_that_is_not_there_hides_no_other_balance(door: Door, wallet: Any) -> None:
    door.chains.held = {"native": 10**18, TOKEN: None}
    answer = door.get(f"/wallets/{wallet['id']}/assets?netWorth=true").ok()
    told = [(asset["symbol"], asset["verified"], asset["balance"]) for asset in answer["assets"]]
    assert told == [("ETH", True, str(10**18)), ("USDC", False, "0"), ("PNY", True, "0")]
    assert "netWorth" not in answer


def test_a_chain_that_does_not_answer_is_no_zero(door: Door, wallet: Any) -> None:
    door.chains.is_dead = True
    for path in (f"/wallets/{wallet['id']}/assets", f"/networks/fees?network={NETWORK}"):
        answer = door.get(path)
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "chain_unavailable", "1")
        assert "assets" not in answer.body


def test_a_network_that_was_taken_out_of_the_configuration_is_no_empty_wallet(door: Door) -> None:
    gone = door.wallet()
    door.execute("UPDATE wallet SET network = 'Base' WHERE id = ?", gone["id"])
    answer = door.get(f"/wallets/{gone['id']}/assets")
    assert (answer.status, answer.code) == (503, "unavailable")
    assert "Base" in answer.message
    assert door.chains.asked == []


def test_nobody_asks_the_chain_without_leave(door: Door, wallet: Any, nobody: Who) -> None:
    for path in (f"/wallets/{wallet['id']}/assets", f"/wallets/{wallet['id']}/history"):
        answer = door.get(path, nobody)
        assert (answer.status, answer.code) == (403, "not_permitted")
        assert door.call("GET", path).status == 401
    assert door.get("/wallets/wa-00000-00000-0000000000000000/assets").status == 404
    assert door.chains.asked == []


# Fees


def test_fees_are_levels_of_what_would_be_offered(door: Door, nobody: Who) -> None:
    assert door.get(f"/networks/fees?network={NETWORK}", nobody).ok() == {
        "kind": "Eip1559",
        "network": NETWORK,
        "blockNumber": 7,
        "baseFeePerGas": "3000000000",
        "slow": {"maxPriorityFeePerGas": "1000000000", "maxFeePerGas": "7000000000", "withinFeeCap": True},
        "standard": {"maxPriorityFeePerGas": "2000000000", "maxFeePerGas": "8000000000", "withinFeeCap": True},
        "fast": {"maxPriorityFeePerGas": "5000000000", "maxFeePerGas": "11000000000", "withinFeeCap": True},
    }
    assert door.call("GET", f"/networks/fees?network={NETWORK}").status == 401


def test_fees_stay_under_the_cap_or_say_that_a_payout_would_wait(door: Door) -> None:
    """The cap is 0.05 coins: 64/81 of it over 21,000 gas are 1,881 gwei and a bit, whatever the network asks."""
    ceiling = 5 * 10**16 * 64 // (81 * 21_000)
    door.chains.prices = type(door.chains.prices)(
        block_number=9, base_fee=1800 * GWEI, tip_slow=GWEI, tip_standard=ceiling - 1800 * GWEI, tip_fast=82 * GWEI
    )
    fees = door.get(f"/networks/fees?network={NETWORK}").ok()
    assert (fees["slow"]["maxFeePerGas"], fees["slow"]["withinFeeCap"]) == (str(ceiling), True)
    assert (fees["standard"]["maxFeePerGas"], fees["standard"]["withinFeeCap"]) == (str(ceiling), True)
    assert (fees["fast"]["maxFeePerGas"], fees["fast"]["withinFeeCap"]) == (str(1882 * GWEI), False)


@pytest.mark.parametrize("query", ["", "?network=", "?network=Ethereum", "?network=ethereum-sepolia", "?Network=x"])
def test_fees_of_a_network_that_is_not_configured_name_those_that_are(door: Door, query: str) -> None:
    answer = door.get(f"/networks/fees{query}")
    check_refusal(answer)
    assert (answer.status, answer.field) == (400, "network")
    assert NETWORK in answer.message


# On a real chain


def test_fees_are_what_the_next_payout_is_sent_with(world: World) -> None:
    wallet = world.wallet("fees")
    for priority in ("Slow", "Standard", "Fast"):
        before = world.admin.sdk.networks.estimate_fees({"network": NETWORK})
        body = {"kind": "Native", "to": RECIPIENT, "amount": "5", "externalId": f"fees-{priority}"}
        paid = world.admin.sdk.wallets.transfer_asset(wallet["id"], {**body, "priority": priority})
        world.wait_for(paid, "Confirmed")
        (sent,) = world.rows(
            'SELECT * FROM "transaction" t JOIN attempt a ON a.transaction_id = t.id WHERE t.transfer_id = ?',
            paid["id"],
        )
        level = before[priority.lower()]
        assert int(sent["max_fee_per_gas"]) == int(level["maxFeePerGas"])
        assert int(sent["max_priority_fee_per_gas"]) == int(level["maxPriorityFeePerGas"])
        block = rpc(world.chain.url, "eth_getBlockByNumber", [hex(before["blockNumber"]), False])
        assert sent["block_number"] == before["blockNumber"] + 1
        assert block is not None
        mined = rpc(world.chain.url, "eth_getBlockByNumber", [hex(sent["block_number"]), False])
        assert int(mined["baseFeePerGas"], 16) == int(before["baseFeePerGas"])


def test_assets_follow_the_chain(world: World) -> None:
    wallet = world.wallet("assets", coins=3 * ETH, dollars=7 * USDC)
    sdk = world.admin.sdk.wallets
    answer = assert_conforms(sdk.get_wallet_assets(wallet["id"], {"net_worth": True}), GetWalletAssetsResponse)
    coin, dollar = answer["assets"]
    assert (coin["kind"], coin["balance"]) == ("Native", str(3 * ETH))
    assert (dollar["kind"], dollar["contract"], dollar["balance"]) == ("Erc20", world.token, str(7 * USDC))
    assert answer["netWorth"] == {"USD": 9007.0}
    world.chain.mint(world.token, wallet["address"], 5)
    # Live: no block has to be final, and no step of the engine has to have looked.
    assert sdk.get_wallet_assets(wallet["id"])["assets"][1]["balance"] == str(7 * USDC + 5)


def test_history_is_what_was_paid_page_by_page_and_filtered(world: World) -> None:
    wallet = world.wallet("history")
    sdk = world.admin.sdk.wallets
    assert sdk.get_wallet_history(wallet["id"]) == {"walletId": wallet["id"], "network": NETWORK, "items": []}
    paid = []
    for number in range(5):
        contract = world.token if number % 2 else None
        asked = world.pay(world.admin, wallet, RECIPIENT, 100 + number, f"history-{number}", contract=contract)
        paid.append(world.wait_for(asked, "Confirmed"))
    waiting = world.pay(world.admin, wallet, RECIPIENT, 10**30, "history-too-much")

    answer = assert_conforms(sdk.get_wallet_history(wallet["id"]), GetWalletHistoryResponse)
    assert [item["txHash"] for item in answer["items"]] == [each["txHash"] for each in reversed(paid)]
    for item, each in zip(answer["items"], reversed(paid), strict=True):
        receipt = rpc(world.chain.url, "eth_getTransactionReceipt", [item["txHash"]])
        is_token = each["requestBody"]["kind"] == "Erc20"
        facts = {"symbol": "USDC" if is_token else "ETH", "decimals": 6 if is_token else 18, "verified": True}
        assert item == {
            "walletId": wallet["id"],
            "direction": "Out",
            "network": NETWORK,
            "blockNumber": int(receipt["blockNumber"], 16),
            "txHash": each["txHash"],
            "timestamp": each["dateConfirmed"],
            "kind": "Erc20Transfer" if is_token else "NativeTransfer",
            **({"contract": world.token} if is_token else {}),
            "from": wallet["address"],
            "to": RECIPIENT,
            "value": each["requestBody"]["amount"],
            "fee": str(int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)),
            "metadata": {
                "asset": {**facts, "quotes": {"USD": 1.0 if is_token else 3000.0}},
                "fee": {"symbol": "ETH", "decimals": 18, "verified": True},
            },
            **facts,
        }

    def hashes(query: dict[str, Any]) -> list[str]:
        return [item["txHash"] for item in sdk.get_wallet_history(wallet["id"], query)["items"]]

    everything = [item["txHash"] for item in answer["items"]]
    coins, tokens = everything[::2], everything[1::2]
    assert hashes({"direction": "Out"}) == everything
    assert hashes({"direction": "In"}) == []
    assert hashes({"kind": "NativeTransfer"}) == coins
    assert hashes({"kind": "Erc20Transfer"}) == tokens
    assert hashes({"contract": world.token}) == tokens
    assert hashes({"contract": world.token.upper().replace("0X", "0x")}) == tokens
    assert hashes({"contract": RECIPIENT}) == hashes({"kind": "NativeTransfer", "contract": world.token}) == []
    walked: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    for _ in range(4):
        page = sdk.get_wallet_history(wallet["id"], query)
        walked += [item["txHash"] for item in page["items"]]
        if "nextPageToken" not in page:
            break
        query["pagination_token"] = page["nextPageToken"]
    assert walked == everything
    world.admin.sdk.wallets.abort_transfer(wallet["id"], waiting["id"])


def test_what_is_not_final_or_paid_nothing_is_no_history(door: Door) -> None:
    """Each of these has a transaction in a block; one of them is a payment."""
    wallet = door.wallet()
    for nonce, state in enumerate(("broadcast", "mined", "failed", "confirmed")):
        made = door.write(door.admin, "POST", f"/wallets/{wallet['id']}/transfers", transfer()).ok()
        door.execute(
            'INSERT INTO "transaction" (id, wallet_id, nonce, transfer_id, state, fee_cap, block_number, created_at)'
            " VALUES (?, ?, ?, ?, 'final', ?, ?, 1)",
            *(f"{made['id']}-t", wallet["id"], nonce, made["id"], f"{10**15:078d}", 40 + nonce),
        )
        door.execute(
            "UPDATE transfer SET state = ?, transaction_id = ?, tx_hash = ?, confirmed_at = ? WHERE id = ?",
            *(state, f"{made['id']}-t", "0x" + "ab" * 32, door.clock.now(), made["id"]),
        )
    (item,) = door.get(f"/wallets/{wallet['id']}/history").ok()["items"]
    assert (item["blockNumber"], item["value"]) == (43, "1000")
    assert "fee" not in item


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"direction": "out"}, "direction"),
        ({"kind": "Erc721Transfer"}, "kind"),
        ({"kind": "Native"}, "kind"),
        ({"contract": "0x12"}, "contract"),
        ({"limit": 0}, "limit"),
        ({"paginationToken": "x"}, "paginationToken"),
        ({"paginationToken": "x", "direction": "In"}, "paginationToken"),
    ],
)
def test_a_wrong_filter_of_the_history_is_named(door: Door, wallet: Any, query: dict[str, Any], field: str) -> None:
    text = "&".join(f"{name}={value}" for name, value in query.items())
    answer = door.get(f"/wallets/{wallet['id']}/history?{text}")
    check_refusal(answer)
    assert (answer.status, answer.field) == (400, field)


def test_both_sdks_read_the_same(world: World) -> None:
    wallet = world.wallet("read by both")
    paid = world.pay(world.admin, wallet, RECIPIENT, 25, "read-by-both", contract=world.token)
    world.wait_for(paid, "Confirmed")
    result = run(
        world, "reads.mjs", admin=caller(world.admin), network=NETWORK, token=world.token, walletId=wallet["id"]
    )
    sdk = world.admin.sdk
    assert result["assets"] == sdk.wallets.get_wallet_assets(wallet["id"], {"netWorth": "true"})
    assert result["history"] == sdk.wallets.get_wallet_history(wallet["id"])
    assert result["history"]["items"][0]["value"] == "25"
    assert result["fees"].keys() == sdk.networks.estimate_fees({"network": NETWORK}).keys()
    assert (result["unknown"]["name"], result["unknown"]["httpStatus"]) == ("DfnsError", 400)
    assert NETWORK in result["unknown"]["message"]


def test_the_sdk_shows_a_network_that_is_not_configured_as_an_error(world: World) -> None:
    with pytest.raises(DfnsError) as caught:
        world.admin.sdk.networks.estimate_fees({"network": "Solana"})
    assert caught.value.status_code == 400
    assert NETWORK in caught.value.message
