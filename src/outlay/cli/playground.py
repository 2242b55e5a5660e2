"""A whole deployment to try things on: a local chain, a test dollar, a server with some policies.

Used by ``outlay demo`` and by the tests. Everything listens on 127.0.0.1 and ends with ``close``.
"""

import contextlib
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outlay.codec.evm import erc20_balance_of
from outlay.core.errors import InvalidInput, Unavailable

NETWORK = "EthereumSepolia"
CHAIN_ID = 31337
FUNDER = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
"""The local chain's first account, funded and unlocked; its key is public knowledge."""

ETH, USDC = 10**18, 10**6
START_TIMEOUT_S = 120.0
_PROCESSORS = {"x86_64": "amd64", "aarch64": "arm64"}
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find_anvil() -> Path:
    """Return the local chain's program.

    Raises:
        Unavailable: it is not installed; says how to.
    """
    named = os.environ.get("OUTLAY_ANVIL") or shutil.which("anvil")
    if named:
        return Path(named)
    processor = _PROCESSORS.get(platform.machine(), platform.machine())
    binary = Path(f"tools/node_modules/@foundry-rs/anvil-linux-{processor}/bin/anvil").resolve()
    if not binary.is_file():
        raise Unavailable("the local chain (anvil) is not installed: run make setup, or set OUTLAY_ANVIL")
    return binary


def post_json(url: str, body: Any) -> Any:
    """POST JSON to a local address and return the JSON answer."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})  # noqa: S310
    with _OPENER.open(request, timeout=10) as answer:
        return json.load(answer)


class LocalChain:
    """anvil, on a free port."""

    def __init__(self, folder: Path, *, block_time_s: float | None = None, port: int = 0) -> None:
        """Start a chain; without ``block_time_s`` each transaction is mined at once.

        Raises:
            Unavailable: it does not start.
        """
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        timing = [] if block_time_s is None else ["--block-time", str(block_time_s)]
        with (folder / "anvil.log").open("wb") as log:
            self.process = subprocess.Popen(
                [find_anvil(), "--port", str(self.port), "--chain-id", str(CHAIN_ID), "--silent", *timing],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        _wait_until(self._answers, self.process, "the local chain")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return bool(self.rpc("eth_chainId") == hex(CHAIN_ID))
        return False

    def rpc(self, method: str, *params: Any) -> Any:
        """Make one JSON-RPC call.

        Raises:
            Unavailable: the node answers with an error.
        """
        answer = post_json(self.url, {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
        if "error" in answer:
            raise Unavailable(f"{method}: {answer['error']}")
        return answer["result"]

    def send(self, transaction: Mapping[str, str]) -> dict[str, Any]:
        """Send from the funded account and return the receipt once it is mined."""
        sent = self.rpc("eth_sendTransaction", {"from": FUNDER, **transaction})
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            receipt: dict[str, Any] | None = self.rpc("eth_getTransactionReceipt", sent)
            if receipt is not None:
                return receipt
            time.sleep(0.05)
        raise Unavailable(f"transaction {sent} was not mined")

    def deploy(self, bytecode: str) -> str:
        """Deploy a contract and return its address in lower case."""
        receipt = self.send({"data": bytecode if bytecode.startswith("0x") else "0x" + bytecode, "gas": hex(5_000_000)})
        return str(receipt["contractAddress"]).lower()

    def fund(self, address: str, amount: int) -> None:
        """Send ``amount`` wei to an address."""
        self.send({"to": address, "value": hex(amount)})

    def mint(self, token: str, address: str, amount: int) -> None:
        """Make test dollars for an address: calls mint(address,uint256)."""
        data = "0x40c10f19" + address[2:].rjust(64, "0") + f"{amount:064x}"
        self.send({"to": token, "data": data, "gas": hex(500_000)})

    def balance(self, address: str) -> int:
        """Return the balance of an address in wei."""
        return int(self.rpc("eth_getBalance", address, "latest"), 16)

    def token_balance(self, token: str, address: str) -> int:
        """Return the token balance of an address in base units."""
        data = "0x" + erc20_balance_of(address).hex()
        return int(self.rpc("eth_call", {"to": token, "data": data}, "latest"), 16)

    def close(self) -> None:
        """End the chain."""
        _end(self.process)


def read_contract(name: str) -> str:
    """Return the bytecode of a compiled test contract.

    Raises:
        Unavailable: not compiled yet.
    """
    path = Path("build/contracts.json")
    if not path.is_file():
        raise Unavailable("the test contracts are not compiled: run make setup")
    return str(json.loads(path.read_text())[name]["bytecode"])


def configuration(*, port: int, rpc_url: str, token: str, block_time_s: float = 0.2, extra: str = "") -> str:
    """Return the configuration of a deployment on the local chain."""
    return f"""\
[server]
host = "127.0.0.1"
port = {port}
public_url = "http://127.0.0.1:{port}"
rp_id = "localhost"  # passkeys belong to names, never to numbers
allowed_origins = ["http://localhost:{port}"]

[networks.{NETWORK}]
chain_id = {CHAIN_ID}
rpc_urls = ["{rpc_url}"]
finality = {{ blocks = 1 }}
native = {{ symbol = "ETH", decimals = 18 }}
fee_cap = "10000000000000000"

[[assets]]
network = "{NETWORK}"
kind = "Erc20"
contract = "{token}"
symbol = "USDC"
decimals = 6

[prices.static]
ETH = "3000"
USDC = "1"

[webhooks]
allow_private_addresses = true
retry_schedule_s = [1, 3, 10, 30]

[sending]
poll_s = {block_time_s}
unseen_max_s = 2

{extra}"""


class Deployment:
    """One ``outlay serve`` process over one directory."""

    def __init__(self, directory: Path, port: int, log: Path) -> None:
        """Describe it; ``start`` runs it."""
        self.directory, self.port, self.log = directory, port, log
        self.url = f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def initialize(cls, directory: Path, config_text: str, port: int, *, preset: str) -> tuple["Deployment", Any]:
        """Run ``outlay init`` and return the deployment and what init printed."""
        directory.mkdir(parents=True, exist_ok=True)
        config = directory.parent / f"{directory.name}.toml"
        config.write_text(config_text)
        command = [sys.executable, "-m", "outlay", "init", "--dir", str(directory), "--preset", preset]
        ran = subprocess.run(
            [*command, "--config", str(config), "--json"], capture_output=True, text=True, check=False, timeout=60
        )
        if ran.returncode != 0:
            raise InvalidInput(f"outlay init failed: {ran.stderr.strip()}")
        return cls(directory, port, directory.parent / f"{directory.name}.log"), json.loads(ran.stdout)

    def start(self, environment: Mapping[str, str] | None = None, *, wait: bool = True) -> None:
        """Start the server and wait until it answers.

        Raises:
            Unavailable: it ended or did not answer.
        """
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "outlay", "serve", "--dir", str(self.directory), "--port", str(self.port)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})},
            )
        if wait:
            _wait_until(self._answers, self.process, f"the server (see {self.log})")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, ValueError), _OPENER.open(f"{self.url}/v1/health", timeout=2) as answer:
            return bool(json.load(answer)["status"] == "ok")
        return False

    def stop(self) -> None:
        """End the server politely."""
        if self.process is not None:
            _end(self.process)
            self.process = None

    def kill(self) -> None:
        """End the server as a power cut would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


def _wait_until(ready: Any, process: subprocess.Popen[bytes], what: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Unavailable(f"{what} ended with code {process.returncode}")
        if ready():
            return
        time.sleep(0.05)
    _end(process)
    raise Unavailable(f"{what} did not answer within {START_TIMEOUT_S:.0f} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
