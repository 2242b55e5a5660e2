"""Real components for tests: a local chain, compiled contracts, and plain calls to a node.

A component that is missing fails the test and names the make target that installs it; nothing is skipped.
Calls here are synchronous and short: the node is another process, so an event loop may wait for them.
"""

import functools
import json
import os
import platform
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from eth_abi.abi import decode, encode

ROOT = Path(__file__).resolve().parents[1]
"""The repository."""

DEV_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
"""Private key of anvil's first account: public knowledge, worth nothing anywhere else."""

DEV_ADDRESS = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
"""Address of ``DEV_KEY`` in lower case; anvil funds it with 10,000 coins and signs for it."""

_DEPLOY_GAS = 5_000_000
_START_TIMEOUT_S = 60.0
_PROCESSORS = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a local node is never behind a proxy


class ToolMissing(AssertionError):
    """A component the tests need is not installed; the message says how to get it."""


class NodeError(AssertionError):
    """The node answered a call with an error, given in ``error`` as the node sent it."""

    def __init__(self, method: str, error: Any) -> None:
        super().__init__(f"{method}: {error}")
        self.error = error


@dataclass(frozen=True, kw_only=True)
class Anvil:
    """A running local chain. Only the test that started it uses it."""

    url: str  #: JSON-RPC over HTTP, on 127.0.0.1
    chain_id: int
    process: subprocess.Popen[bytes]
    log: Path  #: what the node printed

    def stop(self) -> None:
        """End the node; doing it twice is harmless."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class StartAnvil(Protocol):
    """What the ``anvil`` fixture gives: starts a fresh chain, with the arguments of ``start_anvil``."""

    def __call__(self, *, chain_id: int = 31337, block_time: float | None = None, options: Sequence[str] = ()) -> Anvil:
        """Return the running chain."""
        ...


def anvil_binary() -> Path:
    """Return the path of anvil for this machine.

    Raises:
        ToolMissing: not installed, or none exists for this processor.
    """
    processor = _PROCESSORS.get(platform.machine().lower())
    if processor is None:
        raise ToolMissing(f"no anvil is published for the processor {platform.machine()}")
    system = platform.system().lower()
    binary = ROOT / f"tools/node_modules/@foundry-rs/anvil-{system}-{processor}/bin/anvil"
    if not binary.exists():
        raise ToolMissing(f"{binary.relative_to(ROOT)} is missing: run `make setup`")
    return binary


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody used a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_anvil(
    folder: Path, *, chain_id: int = 31337, block_time: float | None = None, options: Sequence[str] = ()
) -> Anvil:
    """Start a local chain and return it once it answers.

    Args:
        folder: where its output goes.
        chain_id: what ``eth_chainId`` answers.
        block_time: seconds between blocks; None mines a block for each transaction at once.
        options: more command-line words for anvil, such as ``--no-mining``.

    Raises:
        ToolMissing: anvil is not installed.
        AssertionError: it did not start; the message carries its output.
    """
    timing = [] if block_time is None else ["--block-time", f"{block_time:g}"]
    log = folder
    for _ in range(3):  # another process may take the free port first
        port = free_port()
        log = folder / f"anvil-{port}.log"
        words = [str(anvil_binary()), "--host", "127.0.0.1", "--port", str(port), "--chain-id", str(chain_id)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*_die_with_us(), *words, "--silent", *timing, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        node = Anvil(url=f"http://127.0.0.1:{port}", chain_id=chain_id, process=process, log=log)
        if _answers(node):
            return node
        node.stop()
    raise AssertionError(f"anvil did not start: {log.read_text(errors='replace')[-2000:]}")


def _die_with_us() -> list[str]:
    """Return a prefix that ends the child when this process is killed, so that no node is left behind.

    The kernel ties it to the starting thread, so only the main thread may use it.
    """
    launcher = shutil.which("setpriv")
    if launcher is None or threading.current_thread() is not threading.main_thread():
        return []
    return [launcher, "--pdeathsig", "KILL", "--"]


def _answers(node: Anvil) -> bool:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and node.process.poll() is None:
        try:
            if rpc(node.url, "eth_chainId") == hex(node.chain_id):
                return node.process.poll() is None
        except (OSError, ValueError, NodeError):
            pass  # not listening yet
        time.sleep(0.02)
    return False


def rpc(url: str, method: str, params: Sequence[Any] = ()) -> Any:
    """Return the node's result of one JSON-RPC call.

    Raises:
        NodeError: the node refused the call.
        OSError: the node cannot be reached within 30 seconds.
    """
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with _OPENER.open(request, timeout=30) as answer:
            document = json.loads(answer.read())
    except urllib.error.HTTPError as refusal:
        raise NodeError(method, refusal.read().decode(errors="replace")) from None
    if "error" in document:
        raise NodeError(method, document["error"])
    return document["result"]


@functools.cache
def read_contracts() -> dict[str, Any]:
    """Return the compiled test contracts: name -> {"abi", "bytecode"}.

    Raises:
        ToolMissing: they are not compiled.
    """
    path = ROOT / "build" / "contracts.json"
    if not path.exists():
        raise ToolMissing("build/contracts.json is missing: run `make setup`")
    contracts: dict[str, Any] = json.loads(path.read_text())
    return contracts


def deploy(url: str, name: str, args: Sequence[Any] = ()) -> str:
    """Deploy the contract ``name`` from anvil's first account and return its address in lower case."""
    contract = read_contracts()[name]
    types = [
        parameter["type"]
        for entry in contract["abi"]
        if entry["type"] == "constructor"
        for parameter in entry["inputs"]
    ]
    receipt = send(url, to=None, data=contract["bytecode"] + encode(types, list(args)).hex())
    address: str = receipt["contractAddress"].lower()
    return address


def send(url: str, *, to: str | None, data: str = "0x", value: int = 0, sender: str = DEV_ADDRESS) -> dict[str, Any]:
    """Send a transaction the node signs, mine it if nothing else does, and return its receipt.

    Raises:
        NodeError: the node refused it.
        AssertionError: it was mined and reverted, or was not mined within 30 seconds.
    """
    transaction = {"from": sender, "data": data, "value": hex(value), "gas": hex(_DEPLOY_GAS)}
    if to is not None:
        transaction["to"] = to
    tx_hash = rpc(url, "eth_sendTransaction", [transaction])
    deadline = time.monotonic() + 30
    receipt = None
    while receipt is None:
        if time.monotonic() > deadline:
            raise AssertionError(f"transaction {tx_hash} was not mined")
        receipt = rpc(url, "eth_getTransactionReceipt", [tx_hash])
        if receipt is None:
            rpc(url, "evm_mine")
    if receipt["status"] != "0x1":
        raise AssertionError(f"transaction {tx_hash} reverted")
    answer: dict[str, Any] = receipt
    return answer


def call_contract(url: str, address: str, name: str, function: str, args: Sequence[Any] = ()) -> Any:
    """Return what the view ``function`` of the contract ``name`` at ``address`` answers (one value)."""
    entry = _function(name, function)
    data = _calldata(url, entry, args)
    answer = rpc(url, "eth_call", [{"to": address, "data": data}, "latest"])
    types = [output["type"] for output in entry["outputs"]]
    return decode(types, bytes.fromhex(answer[2:]))[0]


def send_contract(
    url: str, address: str, name: str, function: str, args: Sequence[Any] = (), *, sender: str = DEV_ADDRESS
) -> dict[str, Any]:
    """Send a call of ``function`` of the contract ``name`` at ``address`` and return the receipt."""
    data = _calldata(url, _function(name, function), args)
    return send(url, to=address, data=data, sender=sender)


def mint(url: str, token: str, to: str, amount: int) -> dict[str, Any]:
    """Give ``amount`` base units of a test token to ``to`` and return the receipt."""
    return send_contract(url, token, "TestDollar", "mint", [to, amount])


def token_balance(url: str, token: str, owner: str) -> int:
    """Return ``owner``'s balance of a test token in base units, at the newest block."""
    balance: int = call_contract(url, token, "TestDollar", "balanceOf", [owner])
    return balance


def coin_balance(url: str, owner: str) -> int:
    """Return ``owner``'s balance of the native coin in base units, at the newest block."""
    return int(rpc(url, "eth_getBalance", [owner, "latest"]), 16)


def set_coin_balance(url: str, owner: str, amount: int) -> None:
    """Make ``owner``'s balance of the native coin ``amount`` base units, from the next block on."""
    rpc(url, "anvil_setBalance", [owner, hex(amount)])
    mine(url)


def mine(url: str, blocks: int = 1) -> None:
    """Mine ``blocks`` blocks now."""
    rpc(url, "anvil_mine", [hex(blocks)])


def _function(name: str, function: str) -> dict[str, Any]:
    for entry in read_contracts()[name]["abi"]:
        if entry["type"] == "function" and entry["name"] == function:
            found: dict[str, Any] = entry
            return found
    raise AssertionError(f"{name} has no function {function}")


def _calldata(url: str, entry: dict[str, Any], args: Sequence[Any]) -> str:
    """Return selector and arguments. The node hashes the signature: no code of ours is trusted here."""
    types = [parameter["type"] for parameter in entry["inputs"]]
    signature = f"{entry['name']}({','.join(types)})"
    selector: str = rpc(url, "web3_sha3", ["0x" + signature.encode().hex()])[:10]
    encoded = encode(types, list(args))
    return selector + bytes(encoded).hex()


def examples(default: int) -> int:
    """Return how many random cases to try: ``default`` times the environment's OUTLAY_SEEDS (1 if unset)."""
    return default * int(os.environ.get("OUTLAY_SEEDS", "1"))
