"""What is measured: a wallet under the preset *standard*, its whitelist filled, and a service account that may pay."""

import asyncio
import contextlib
import itertools
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from bench.wire import Payer
from outlay.cli.playground import NETWORK
from outlay.client import Client
from outlay.core.errors import Unavailable
from outlay.evidence.attestation import new_key_pair
from outlay.evidence.keys import load_private_key
from outlay.store.database import Database, Unit

T = TypeVar("T")

RECIPIENTS = tuple(f"0x{number:040x}" for number in range(0xBE0000, 0xBE0000 + 100))
"""Who is paid: all of them are whitelisted."""

LEAST = 10**12
"""Wei of the first payout. Every payout of a run has an amount of its own, so one that was paid twice shows."""

_START_S = 30.0


def prepare(url: str, made: Any) -> tuple[Payer, str]:
    """Set up who pays and from what; return the payer and its public key.

    Args:
        url: a running server.
        made: what ``outlay init`` printed.
    """
    admin = made["admin"]
    client = Client(
        url,
        token=admin["token"],
        credential_id=admin["credentialId"],
        private_key=Path(admin["privateKeyFile"]).read_text(),
    )
    operations = ["Wallets:Read", "Wallets:Transfers:Create", "Wallets:Transfers:Read"]
    permission = client.write("POST", "/permissions", {"name": "pay", "operations": operations})
    private, public = new_key_pair()
    account = client.write(
        "POST",
        "/auth/service-accounts",
        {"name": "payouts", "publicKey": public, "permissionId": permission["id"], "daysValid": 1},
    )["accessTokens"][0]
    wallet = client.write("POST", "/wallets", {"network": NETWORK, "name": "hot", "tags": ["payouts"]})
    for policy in client.read("/v2/policies")["items"]:
        if policy["rule"]["kind"] != "TransactionRecipientWhitelist":
            continue
        document = {name: policy[name] for name in ("name", "activityKind", "rule", "action", "filters")}
        document["rule"]["configuration"]["addresses"] = list(RECIPIENTS)
        for group in document["action"]["approvalGroups"]:
            group["approvers"] = {"userId": {"in": [admin["userId"]]}}
        client.write("PUT", f"/v2/policies/{policy['id']}", document)
    payer = Payer(
        url=url,
        token=account["accessToken"],
        credential_id=account["credId"],
        key=load_private_key(private),
        wallet_id=wallet["id"],
        address=wallet["address"],
    )
    return payer, public


def payouts(run: str) -> Iterator[tuple[str, int, bytes]]:
    """Yield payouts without end: recipient, amount in wei, and the body that asks for it."""
    for number, recipient in zip(itertools.count(), itertools.cycle(RECIPIENTS), strict=False):
        amount = LEAST + number
        body = {"kind": "Native", "to": recipient, "amount": str(amount), "externalId": f"{run}-{number}"}
        yield recipient, amount, json.dumps(body, separators=(",", ":")).encode()


def look(path: Path, function: Callable[[Unit], T]) -> T:
    """Read a server's database from outside."""
    database = Database(path)
    try:
        return asyncio.run(database.read(function))
    finally:
        database.close()


@contextlib.contextmanager
def served(which: str, directory: Path, port: int) -> Iterator[tuple[str, int]]:
    """Run a server of ``bench.servers`` and give its URL and process id.

    Raises:
        Unavailable: it did not start.
    """
    path = directory.parent / f"{which}.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.servers", which, str(directory), str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=Path(__file__).resolve().parents[1],
        )
    try:
        _wait(process, port, path)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise Unavailable(f"a server did not start: {log.read_text(errors='replace')[-2000:]}")
