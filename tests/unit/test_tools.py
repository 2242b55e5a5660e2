"""The components other tests stand on really are what they claim."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from tests import tools

PAYEE = "0x" + "11" * 20


def test_the_development_key_belongs_to_the_development_address() -> None:
    assert Account.from_key(tools.DEV_KEY).address.lower() == tools.DEV_ADDRESS


def test_a_chain_answers_with_the_id_it_was_given(anvil: tools.StartAnvil) -> None:
    node = anvil(chain_id=4242)

    assert tools.rpc(node.url, "eth_chainId") == hex(4242)

    node.stop()
    assert node.process.poll() is not None


def test_each_chain_is_fresh(anvil: tools.StartAnvil) -> None:
    first, second = anvil(), anvil()
    tools.mine(first.url, 3)

    assert tools.rpc(first.url, "eth_blockNumber") == "0x3"
    assert tools.rpc(second.url, "eth_blockNumber") == "0x0"


def test_blocks_come_by_themselves_only_when_asked_for(anvil: tools.StartAnvil) -> None:
    node = anvil(options=("--no-mining",))
    payment = {"from": tools.DEV_ADDRESS, "to": PAYEE, "value": "0x1"}
    waiting = tools.rpc(node.url, "eth_sendTransaction", [payment])

    assert tools.rpc(node.url, "eth_getTransactionReceipt", [waiting]) is None


def test_the_test_dollar_moves_exactly_what_was_sent(chain: tools.Anvil) -> None:
    token = tools.deploy(chain.url, "TestDollar")
    tools.mint(chain.url, token, tools.DEV_ADDRESS, 1_000_000)

    receipt = tools.send_contract(chain.url, token, "TestDollar", "transfer", [PAYEE, 999_999])

    assert tools.token_balance(chain.url, token, PAYEE) == 999_999
    assert tools.token_balance(chain.url, token, tools.DEV_ADDRESS) == 1
    assert [int(log["data"], 16) for log in receipt["logs"]] == [999_999]
    assert tools.call_contract(chain.url, token, "TestDollar", "decimals") == 6
    assert tools.call_contract(chain.url, token, "TestDollar", "name") == "Test Dollar"
    assert tools.call_contract(chain.url, token, "TestDollar", "symbol") == "USDC"


def test_the_test_dollar_reverts_rather_than_overdraw(chain: tools.Anvil) -> None:
    token = tools.deploy(chain.url, "TestDollar")

    with pytest.raises((tools.NodeError, AssertionError), match="revert"):
        tools.send_contract(chain.url, token, "TestDollar", "transfer", [PAYEE, 1])


@pytest.mark.parametrize(
    ("name", "received", "logged"),
    [("FeeToken", 990, [990, 10]), ("FalseToken", 0, []), ("NoReturnToken", 1000, [1000])],
)
def test_odd_tokens_succeed_and_misbehave(chain: tools.Anvil, name: str, received: int, logged: list[int]) -> None:
    token = tools.deploy(chain.url, name)
    tools.mint(chain.url, token, tools.DEV_ADDRESS, 5000)

    receipt = tools.send_contract(chain.url, token, name, "transfer", [PAYEE, 1000])

    assert receipt["status"] == "0x1"
    assert tools.token_balance(chain.url, token, PAYEE) == received
    assert [int(log["data"], 16) for log in receipt["logs"]] == logged


def test_a_missing_tool_names_the_target_that_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tools, "ROOT", tmp_path)
    tools.read_contracts.cache_clear()

    with pytest.raises(tools.ToolMissing, match="make setup"):
        tools.anvil_binary()
    with pytest.raises(tools.ToolMissing, match="make setup"):
        tools.read_contracts()


def test_every_contract_has_code(contracts: dict[str, Any]) -> None:
    assert set(contracts) >= {"TestDollar", "FeeToken", "FalseToken", "NoReturnToken"}
    for contract in contracts.values():
        assert re.fullmatch(r"0x[0-9a-f]{100,}", contract["bytecode"])


def test_the_lock_serves_every_linux_and_names_no_registry() -> None:
    text = (tools.ROOT / "tools" / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]

    for processor in ("amd64", "arm64"):
        entry = packages[f"node_modules/@foundry-rs/anvil-linux-{processor}"]
        # npm 9 leaves an optional package out without a word if its wish for a newer Node.js is kept.
        assert "engines" not in entry
    assert '"resolved"' not in text
