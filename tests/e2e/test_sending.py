"""From an allowed payout to its end, on real chains that reorganise, stop, lie and stall.

One server serves every test. Each test pays from wallets of its own; a wallet that is frozen stays behind.

=================  ==================================================================================================
``quick``          mines a block for each transaction; a block is final at once
``slow``           mines only when a test says so; three blocks make a block final; its endpoint can be cut off
``odd``            like ``quick``, with tokens that misbehave
``mixed``          two endpoints, the first of which serves another chain
=================  ==================================================================================================
"""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from dfns_sdk import DfnsError

from outlay.app import Application, Layout
from outlay.core.errors import Unavailable
from tests import tools
from tests.fault.proxy import Proxy
from tests.world import ETH, NETWORK, USDC, Identity, Receiver, World, until

REVERTING_CODE = "0x60006000fd"

_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Net:
    """One network of the server."""

    name: str
    url: str  #: the node itself, past every proxy
    tokens: Mapping[str, str]  #: contract by name
    blocks: int  #: that make a block final

    def mine(self, blocks: int = 1) -> None:
        """Mine blocks now."""
        tools.mine(self.url, blocks)


class Scene:
    """The server, its networks and a program that pays."""

    def __init__(self, world: World, nets: Mapping[str, Net], slow_proxy: Proxy, wrong: Proxy, wrong_url: str) -> None:
        """Take over what the fixture opened."""
        self.world, self.slow_proxy, self.wrong, self.wrong_url = world, slow_proxy, wrong, wrong_url
        self.quick, self.slow, self.odd, self.mixed = (nets[name] for name in ("quick", "slow", "odd", "mixed"))
        self.bot: Identity = world.service_account("payouts bot")

    def wallet(self, net: Net, *, coins: int = ETH, tokens: Mapping[str, int] | None = None) -> Any:
        """Create a wallet on ``net``, pay in, and wait until all of it can be spent."""
        made = self.world.admin.sdk.wallets.create_wallet({"network": net.name, "name": f"hot {next(_numbers)}"})
        self.fund(net, made, coins=coins, tokens=tokens)
        return made

    def fund(self, net: Net, wallet: Any, *, coins: int = 0, tokens: Mapping[str, int] | None = None) -> None:
        """Pay into a wallet for which no payout waits, and wait until the ledger has it all."""
        added = {net.tokens[name]: amount for name, amount in (tokens or {}).items()}
        if coins:
            added["native"] = coins
        wanted = {asset: self.held(wallet, asset)["spendable"] + amount for asset, amount in added.items()}
        self.pay_in(net, wallet, coins=coins, tokens=tokens)
        until(
            lambda: all(self.held(wallet, asset)["spendable"] >= wanted[asset] for asset in wanted),
            f"{wanted} in {wallet['id']}",
        )

    def pay_in(self, net: Net, wallet: Any, *, coins: int = 0, tokens: Mapping[str, int] | None = None) -> None:
        """Pay into a wallet; final when this returns, but the server may not have looked yet."""
        for name, amount in (tokens or {}).items():
            tools.mint(net.url, net.tokens[name], wallet["address"], amount)
        if coins:
            tools.send(net.url, to=wallet["address"], value=coins)
        net.mine(net.blocks - 1)

    def pay(
        self, wallet: Any, amount: int, *, to: str | None = None, contract: str | None = None, client: Any = None
    ) -> Any:
        """Request a payout, to somebody new unless told otherwise."""
        asset = {"kind": "Native"} if contract is None else {"kind": "Erc20", "contract": contract}
        body = {**asset, "to": to or fresh(), "amount": str(amount), "externalId": f"payout-{next(_numbers)}"}
        return (client or self.bot.sdk).wallets.transfer_asset(wallet["id"], body)

    def read(self, transfer: Any) -> Any:
        """Return the transfer as it is now."""
        return self.bot.sdk.wallets.get_transfer(transfer["walletId"], transfer["id"])

    def wait_until(self, transfer: Any, member: str, *values: Any) -> Any:
        """Return the transfer once ``member`` has one of ``values`` (any value at all if none are given)."""

        def reached() -> Any:
            now = self.read(transfer)
            return now if (now.get(member) in values if values else member in now) else None

        return until(reached, f"{member} {values} of {self.read(transfer)}")

    def confirmed(self, transfer: Any) -> Any:
        """Return the transfer once it is confirmed."""
        return self.world.wait_for(transfer, "Confirmed")

    def looks_at_slow(self) -> None:
        """Wait until the server has surely asked for all receipts on ``slow`` since the newest block."""
        self.slow_proxy.wait_for("eth_getTransactionReceipt", 6)

    def history(self, transfer: Any) -> list[str]:
        """Return every event of a transfer's life so far, in order."""
        rows = self.world.rows("SELECT event FROM transition WHERE transfer_id = ? ORDER BY seq", transfer["id"])
        return [row["event"] for row in rows]

    def wait_for_event(self, transfer: Any, event: str, times: int = 1) -> None:
        """Wait until ``event`` is in the transfer's history that often."""
        until(lambda: self.history(transfer).count(event) >= times, f"{event} x {times} in {transfer['id']}")

    def held(self, wallet: Any, asset: str) -> dict[str, int]:
        """Return what the ledger holds for a wallet: base units, ``spendable`` and ``reserved``."""
        found = {"spendable": 0, "reserved": 0}
        for row in self.world.rows("SELECT * FROM account WHERE owner = ? AND asset = ?", wallet["id"], asset):
            found[row["kind"]] = int(row["debits"]) - int(row["credits"])
        return found

    def frozen(self, wallet: Any) -> str:
        """Return why a wallet is frozen, once it is."""
        read = self.world.admin.sdk.wallets.get_wallet
        return str(until(lambda: read(wallet["id"]).get("frozenReason"), f"{wallet['id']} to be frozen"))

    def assert_ledger_equals_chain(self, net: Net, wallet: Any) -> None:
        """Compare what the ledger says a wallet holds with the newest block."""
        balances = {"native": tools.coin_balance(net.url, wallet["address"])}
        for contract in net.tokens.values():
            balances[contract] = tools.token_balance(net.url, contract, wallet["address"])
        assert {asset: sum(self.held(wallet, asset).values()) for asset in balances} == balances


def fresh() -> str:
    """Return an address nobody has ever paid."""
    return "0x" + os.urandom(20).hex()


def network_text(net: Net, chain_id: int, urls: Sequence[str]) -> str:
    """Return the part of the configuration that describes a network."""
    assets = "".join(
        f'[[assets]]\nnetwork = "{net.name}"\ncontract = "{contract}"\nsymbol = "{name}"\ndecimals = 6\n'
        for name, contract in net.tokens.items()
    )
    return f"""
[networks.{net.name}]
chain_id = {chain_id}
rpc_urls = [{", ".join(f'"{url}"' for url in urls)}]
finality = {{ blocks = {net.blocks} }}
native = {{ symbol = "ETH", decimals = 18 }}
fee_cap = "10000000000000000"
{assets}"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, anvil: tools.StartAnvil) -> Iterator[Scene]:
    """Open the server on its four networks."""
    with ExitStack() as closing:
        slow_node = anvil(chain_id=31338, options=("--no-mining",))
        odd_node, mixed_node, wrong_node = anvil(chain_id=31339), anvil(chain_id=31340), anvil(chain_id=999)
        slow_proxy, wrong_proxy = Proxy(slow_node.url), Proxy(wrong_node.url)
        closing.callback(slow_proxy.close)
        closing.callback(wrong_proxy.close)
        odd_tokens = {name: tools.deploy(odd_node.url, name) for name in ("FeeToken", "FalseToken", "NoReturnToken")}
        dollar = {"TestDollar": tools.deploy(slow_node.url, "TestDollar")}
        nets = {
            "slow": Net(name="BaseSepolia", url=slow_node.url, tokens=dollar, blocks=3),
            "odd": Net(name="ArbitrumSepolia", url=odd_node.url, tokens=odd_tokens, blocks=1),
            "mixed": Net(name="OptimismSepolia", url=mixed_node.url, tokens={}, blocks=1),
        }
        extra = (
            network_text(nets["slow"], 31338, [slow_proxy.url])
            + network_text(nets["odd"], 31339, [odd_node.url])
            + network_text(nets["mixed"], 31340, [wrong_proxy.url, mixed_node.url])
        )
        folder = tmp_path_factory.mktemp("sending")
        world = closing.enter_context(World.open(folder, preset="none", extra=extra))
        nets["quick"] = Net(name=NETWORK, url=world.chain.url, tokens={"TestDollar": world.token}, blocks=1)
        yield Scene(world, nets, slow_proxy, wrong_proxy, wrong_node.url)


@pytest.fixture
def receiver(scene: Scene) -> Iterator[Receiver]:
    """Receive every event for one test."""
    with scene.world.receiver() as (receiver, _):
        yield receiver


# Finality and reorganisations


def test_a_payout_is_confirmed_only_when_three_blocks_stand(scene: Scene) -> None:
    wallet = scene.wallet(scene.slow)
    paid = scene.wait_until(scene.pay(wallet, 10**15), "status", "Broadcasted")
    for _ in range(2):
        scene.slow.mine()
        scene.wait_for_event(paid, "mined")
        scene.looks_at_slow()
        assert scene.read(paid)["status"] == "Broadcasted"
    scene.slow.mine()
    done = scene.confirmed(paid)
    receipt = tools.rpc(scene.slow.url, "eth_getTransactionReceipt", [done["txHash"]])
    assert int(tools.rpc(scene.slow.url, "eth_blockNumber"), 16) == int(receipt["blockNumber"], 16) + 2
    scene.assert_ledger_equals_chain(scene.slow, wallet)


def test_after_a_reorganisation_the_same_bytes_are_sent_again_and_pay_once(scene: Scene, receiver: Receiver) -> None:
    wallet, recipient = scene.wallet(scene.slow), fresh()
    paid = scene.wait_until(scene.pay(wallet, 10**15, to=recipient), "status", "Broadcasted")
    scene.slow.mine()
    scene.wait_for_event(paid, "mined")
    before = scene.world.rows('SELECT * FROM "transaction" WHERE transfer_id = ?', paid["id"])

    tools.rpc(scene.slow.url, "anvil_reorg", [1, []])
    scene.wait_for_event(paid, "reorged")
    assert scene.read(paid)["status"] == "Broadcasted"
    assert tools.coin_balance(scene.slow.url, recipient) == 0, "the payment was in the block that is gone"
    until(lambda: in_pool(scene.slow, paid["txHash"]), "the transaction to be sent again")
    scene.slow.mine(3)

    done = scene.confirmed(paid)
    after = scene.world.rows('SELECT * FROM "transaction" WHERE transfer_id = ?', paid["id"])
    assert [(row["raw"], row["nonce"], row["hash"]) for row in after] == [
        (row["raw"], row["nonce"], row["hash"]) for row in before
    ]
    assert done["txHash"] == paid["txHash"]
    assert tools.coin_balance(scene.slow.url, recipient) == 10**15
    assert scene.history(paid) == ["allowed", "assigned", "signed", "sent", "mined", "reorged", "mined", "paid"]
    receiver.wait_for("wallet.transfer.confirmed", lambda data: data["transferRequest"]["id"] == paid["id"])
    told = [event for event in receiver.events() if event["data"].get("transferRequest", {}).get("id") == paid["id"]]
    assert [event["kind"].rpartition(".")[2] for event in told] == ["requested", "broadcasted", "confirmed"]
    scene.assert_ledger_equals_chain(scene.slow, wallet)


def in_pool(net: Net, tx_hash: str) -> bool:
    """Tell whether the node knows the transaction and has it in no block."""
    found = tools.rpc(net.url, "eth_getTransactionByHash", [tx_hash])
    return found is not None and found["blockNumber"] is None


def test_a_revert_is_failed_only_when_final_and_its_fee_is_posted_and_velocity_corrected(
    scene: Scene, receiver: Receiver
) -> None:
    wallet, recipient = scene.wallet(scene.slow, coins=3 * ETH), fresh()
    cap = {"limit": 4000, "currency": "USD", "timeframe": 60}  # one coin is 3,000
    scene.world.admin.sdk.policies.create_policy(
        {
            "name": "one coin an hour",
            "activityKind": "Wallets:Sign",
            "rule": {"kind": "TransactionAmountVelocity", "configuration": cap},
            "action": {"kind": "Block"},
            "filters": {"walletId": {"in": [wallet["id"]]}},
        }
    )
    paid = scene.wait_until(scene.pay(wallet, ETH, to=recipient), "status", "Broadcasted")
    # A plain address when the payout was estimated becomes a contract that takes nothing.
    tools.rpc(scene.slow.url, "anvil_setCode", [recipient, REVERTING_CODE])
    for _ in range(2):
        scene.slow.mine()
        scene.wait_for_event(paid, "mined")
        scene.looks_at_slow()
        assert scene.read(paid)["status"] == "Broadcasted"
        assert scene.pay(wallet, ETH)["status"] == "Rejected", "the first payout still counts"
    scene.slow.mine()

    done = scene.world.wait_for(paid, "Failed")
    receipt = tools.rpc(scene.slow.url, "eth_getTransactionReceipt", [done["txHash"]])
    fee = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
    assert receipt["status"] == "0x0"
    assert int(done["fee"]) == fee
    assert "reverted" in done["reason"]
    assert scene.held(wallet, "native") == {"spendable": 3 * ETH - fee, "reserved": 0}
    scene.assert_ledger_equals_chain(scene.slow, wallet)
    event = receiver.wait_for("wallet.transfer.failed", lambda data: data["transferRequest"]["id"] == paid["id"])
    assert event["data"]["transferRequest"]["txHash"] == done["txHash"]

    again = scene.wait_until(scene.pay(wallet, ETH), "status", "Broadcasted")
    scene.slow.mine(3)
    scene.confirmed(again)
    assert scene.pay(wallet, ETH)["status"] == "Rejected"


# The effect on the token's own word


@pytest.mark.parametrize(("token", "left"), [("FeeToken", 5 * USDC), ("FalseToken", 0)])
def test_another_effect_than_asked_stops_asset_and_wallet_and_gives_nothing_back(
    scene: Scene, receiver: Receiver, token: str, left: int
) -> None:
    contract, amount, funds = scene.odd.tokens[token], 5 * USDC, 50 * USDC
    wallet, other = (scene.wallet(scene.odd, tokens={token: funds, "NoReturnToken": funds}) for _ in range(2))
    paid = scene.wait_until(scene.pay(wallet, amount, contract=contract), "flag", "effect_mismatch")

    assert scene.frozen(wallet).startswith(f"transfer {paid['id']} had another effect than asked")
    for stopped in ((wallet, contract), (other, contract), (wallet, None)):
        with pytest.raises(DfnsError, match="frozen"):
            scene.pay(stopped[0], 1, contract=stopped[1])
    # The other wallet's other payouts go on; by then the first was looked at again and again.
    for _ in range(3):
        scene.confirmed(scene.pay(other, USDC, contract=scene.odd.tokens["NoReturnToken"]))
    now = scene.read(paid)
    assert (now["status"], now["flag"]) == ("Broadcasted", "effect_mismatch")
    assert "asked: 5000000" in now["reason"]

    # The true outflow is posted; what did not leave stays reserved until a person has looked.
    assert scene.held(wallet, contract) == {"spendable": funds - amount, "reserved": amount - left}
    assert scene.held(wallet, "native") == {"spendable": ETH - int(now["fee"]), "reserved": 0}
    scene.assert_ledger_equals_chain(scene.odd, wallet)
    (entry,) = scene.world.rows("SELECT state FROM velocity_entry WHERE transfer_id = ?", paid["id"])
    assert entry["state"] == "signed", "what may have left keeps counting"
    kinds = {e["kind"] for e in receiver.events() if e["data"].get("transferRequest", {}).get("id") == paid["id"]}
    assert kinds == {"wallet.transfer.requested", "wallet.transfer.broadcasted"}


def test_a_token_that_answers_nothing_is_paid_by_its_log(scene: Scene) -> None:
    contract, recipient = scene.odd.tokens["NoReturnToken"], fresh()
    wallet = scene.wallet(scene.odd, tokens={"NoReturnToken": 10 * USDC})
    scene.confirmed(scene.pay(wallet, 7 * USDC, to=recipient, contract=contract))
    assert tools.token_balance(scene.odd.url, contract, recipient) == 7 * USDC
    scene.assert_ledger_equals_chain(scene.odd, wallet)


# Funds


@pytest.mark.parametrize("token", [None, "TestDollar"])
def test_a_payout_without_funds_waits_and_flows_when_they_come(
    scene: Scene, receiver: Receiver, token: str | None
) -> None:
    contract = scene.quick.tokens[token] if token else None
    wallet = scene.wallet(scene.quick, coins=ETH if token else 10**15)
    scene.world.admin.sdk.policies.create_policy(
        {
            "name": "watch",
            "activityKind": "Wallets:Sign",
            "rule": {"kind": "AlwaysTrigger", "configuration": {}},
            "action": {"kind": "NoAction"},
            "filters": {"walletId": {"in": [wallet["id"]]}},
        }
    )
    amount = 5 * USDC if token else ETH
    waiting = scene.wait_until(scene.pay(wallet, amount, contract=contract), "waitingReason")
    assert waiting["status"] == "Executing"
    assert "spendable" in waiting["waitingReason"]
    assert scene.history(waiting) == ["allowed"]
    small = scene.confirmed(scene.pay(scene.wallet(scene.quick), 1))  # other wallets do not wait for this one
    assert scene.history(waiting) == ["allowed"]

    scene.pay_in(scene.quick, wallet, **({"tokens": {token: amount}} if token else {"coins": 2 * ETH}))
    done = scene.confirmed(waiting)
    assert "waitingReason" not in done
    event = receiver.wait_for(
        "wallet.blockchainevent.detected",
        lambda data: (
            data["blockchainEvent"]["walletId"] == wallet["id"]
            and data["blockchainEvent"]["value"] == str(amount if token else 2 * ETH)
        ),
    )["data"]["blockchainEvent"]
    assert (event["direction"], event["kind"]) == ("In", "Erc20Transfer" if token else "NativeTransfer")
    assert event.get("contract") == contract
    judged = scene.world.rows(
        "SELECT moment FROM evaluation WHERE transfer_id = ? AND moment = 'binding'", waiting["id"]
    )
    assert len(judged) == 1, "it is judged again once, not at every look at the funds"
    assert small["status"] == "Confirmed"
    scene.assert_ledger_equals_chain(scene.quick, wallet)


def test_many_payouts_that_wait_hold_up_none_that_can_go(scene: Scene) -> None:
    wallet = scene.wallet(scene.quick)
    for _ in range(20):
        scene.pay(wallet, 100 * ETH)
    scene.confirmed(scene.pay(wallet, 10**15))


def test_a_payout_that_would_revert_waits_and_flows_when_it_no_longer_does(scene: Scene) -> None:
    wallet, recipient = scene.wallet(scene.quick), fresh()
    tools.rpc(scene.quick.url, "anvil_setCode", [recipient, REVERTING_CODE])
    waiting = scene.wait_until(scene.pay(wallet, 10**15, to=recipient), "waitingReason")
    assert "revert" in waiting["waitingReason"]
    scene.confirmed(scene.pay(wallet, 10**15))
    tools.rpc(scene.quick.url, "anvil_setCode", [recipient, "0x"])
    scene.confirmed(waiting)
    assert tools.coin_balance(scene.quick.url, recipient) == 10**15


def test_dust_is_posted_as_inflow(scene: Scene, receiver: Receiver) -> None:
    wallet = scene.wallet(scene.quick)
    scene.fund(scene.quick, wallet, coins=1)
    event = receiver.wait_for("wallet.blockchainevent.detected", lambda data: data["blockchainEvent"]["value"] == "1")[
        "data"
    ]["blockchainEvent"]
    assert (event["walletId"], event["to"], event["direction"]) == (wallet["id"], wallet["address"], "In")
    scene.assert_ledger_equals_chain(scene.quick, wallet)


# Somebody else has the key


@pytest.mark.parametrize("paid_before", [False, True])
def test_foreign_use_of_a_wallets_key_freezes_it_and_no_other(scene: Scene, paid_before: bool) -> None:
    wallet, other = scene.wallet(scene.quick), scene.wallet(scene.quick)
    if paid_before:
        scene.confirmed(scene.pay(wallet, 10**15))
    spend_as(scene.quick, wallet)
    assert "somebody else used this wallet's key" in scene.frozen(wallet)
    with pytest.raises(DfnsError, match="frozen"):
        scene.pay(wallet, 1)
    scene.confirmed(scene.pay(other, 10**15))


def test_a_nonce_taken_by_somebody_else_freezes_the_wallet_and_decides_nothing(scene: Scene) -> None:
    wallet = scene.wallet(scene.slow)
    scene.slow_proxy.refused = ["eth_sendRawTransaction"]
    try:
        paid = scene.wait_until(scene.pay(wallet, 10**15), "status", "Broadcasted")
        spend_as(scene.slow, wallet)
    finally:
        scene.slow_proxy.refused = ()
    scene.slow.mine(3)
    assert "nonce 0 is not our transaction" in scene.frozen(wallet)
    now = scene.read(paid)
    assert now["status"] == "Broadcasted", "bytes were signed: that they are on no chain we see proves nothing"
    assert scene.held(wallet, "native")["reserved"] > 10**15


def spend_as(net: Net, wallet: Any) -> None:
    """Spend one wei with the wallet's key, past the server."""
    tools.rpc(net.url, "anvil_impersonateAccount", [wallet["address"]])
    tools.send(net.url, to=fresh(), value=1, sender=wallet["address"])
    tools.rpc(net.url, "anvil_stopImpersonatingAccount", [wallet["address"]])


# Endpoints that fail


def test_payouts_wait_while_the_chain_is_down_and_flow_when_it_is_back(scene: Scene) -> None:
    wallet, other = scene.wallet(scene.slow), scene.wallet(scene.quick)
    scene.slow_proxy.down = True
    try:
        waiting = [scene.wait_until(scene.pay(wallet, 10**15), "waitingReason") for _ in range(2)]
        assert {each["status"] for each in waiting} == {"Executing"}
        assert "does not answer" in waiting[0]["waitingReason"]
        scene.confirmed(scene.pay(other, 10**15))  # another network is not disturbed
    finally:
        scene.slow_proxy.down = False
    for each in waiting:
        scene.wait_until(each, "status", "Broadcasted")
    scene.slow.mine(3)
    for each in waiting:
        scene.confirmed(each)
    scene.assert_ledger_equals_chain(scene.slow, wallet)


def test_a_send_without_answer_is_repeated_with_the_same_bytes(scene: Scene) -> None:
    wallet, recipient = scene.wallet(scene.slow), fresh()
    scene.slow_proxy.refused = ["eth_sendRawTransaction"]
    try:
        paid = scene.wait_until(scene.pay(wallet, 10**15, to=recipient), "status", "Broadcasted")
        scene.slow_proxy.wait_for("eth_sendRawTransaction", 1)
    finally:
        scene.slow_proxy.refused = ()
    until(lambda: in_pool(scene.slow, paid["txHash"]), "the transaction to arrive")
    scene.slow.mine(3)
    assert scene.confirmed(paid)["txHash"] == paid["txHash"]
    assert tools.coin_balance(scene.slow.url, recipient) == 10**15


def test_an_endpoint_of_another_chain_is_asked_for_its_id_and_nothing_else(scene: Scene) -> None:
    wallet, recipient = scene.wallet(scene.mixed), fresh()
    scene.confirmed(scene.pay(wallet, 10**15, to=recipient))
    assert tools.coin_balance(scene.mixed.url, recipient) == 10**15
    assert set(scene.wrong.methods) == {"eth_chainId"}
    assert tools.rpc(scene.wrong_url, "eth_blockNumber") == "0x0"
    assert tools.rpc(scene.wrong_url, "txpool_status") == {"pending": "0x0", "queued": "0x0"}


# Many at once


def test_twenty_payouts_at_once_take_every_nonce_in_order(scene: Scene) -> None:
    wallet = scene.wallet(scene.quick, tokens={"TestDollar": 100 * USDC})
    before = chain_nonce(scene.quick, wallet)

    def pay(number: int) -> Any:
        contract = scene.world.token if number % 2 else None
        return scene.pay(wallet, number + 1, contract=contract)

    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(pay, range(20)))
    done = [scene.confirmed(each) for each in asked]
    found = [tools.rpc(scene.quick.url, "eth_getTransactionByHash", [each["txHash"]]) for each in done]
    by_nonce = sorted((int(each["nonce"], 16), int(each["blockNumber"], 16)) for each in found)
    assert [nonce for nonce, _ in by_nonce] == list(range(before, before + 20))
    assert [block for _, block in by_nonce] == sorted(block for _, block in by_nonce)
    assert chain_nonce(scene.quick, wallet) == before + 20
    when = {int(each["nonce"], 16): paid["dateConfirmed"] for each, paid in zip(found, done, strict=True)}
    assert [when[nonce] for nonce in sorted(when)] == sorted(when.values())
    scene.assert_ledger_equals_chain(scene.quick, wallet)


def chain_nonce(net: Net, wallet: Any) -> int:
    """Return how many transactions of a wallet are in blocks."""
    return int(tools.rpc(net.url, "eth_getTransactionCount", [wallet["address"], "latest"]), 16)


def test_two_wallets_send_in_parallel(scene: Scene) -> None:
    wallets = [scene.wallet(scene.slow) for _ in range(2)]
    paid = [scene.wait_until(scene.pay(wallet, 10**15), "status", "Broadcasted") for wallet in wallets]
    assert all(in_pool(scene.slow, each["txHash"]) for each in paid), "neither waits for the other's block"
    scene.slow.mine(3)
    for each in paid:
        scene.confirmed(each)


# Restarts


def test_after_a_kill_the_next_server_waits_for_nobodys_lease(scene: Scene) -> None:
    wallet = scene.wallet(scene.quick)
    scene.confirmed(scene.pay(wallet, 10**15))
    (lane,) = scene.world.rows("SELECT leased_until FROM lane WHERE wallet_id = ?", wallet["id"])
    assert lane["leased_until"] is not None
    with pytest.raises(Unavailable, match="another server is running"):
        Application(Layout(scene.world.deployment.directory))
    scene.world.kill()
    scene.world.start()
    (lane,) = scene.world.rows("SELECT leased_until FROM lane WHERE wallet_id = ?", wallet["id"])
    assert lane["leased_until"] is None, "its holder is dead, and only one server may run on a directory"
    scene.confirmed(scene.pay(wallet, 10**15))
