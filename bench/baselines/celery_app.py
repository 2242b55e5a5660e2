"""A payout service as it is commonly put together: FastAPI, PostgreSQL, Celery on Redis, web3.py.

A request is stored after a look at the last 24 hours; a task signs it with the next nonce, which Redis counts, sends
it, waits for the receipt, marks the row and posts a signed webhook. Settings come by environment:
BENCH_DATABASE, BENCH_REDIS, BENCH_NODE, BENCH_KEY, BENCH_HOOK, BENCH_SECRET, BENCH_FEE.
"""

import hashlib
import hmac
import json
import os
import threading
from typing import Any

import httpx
import psycopg
import psycopg_pool
import redis
from celery import Celery
from eth_account import Account
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from web3 import HTTPProvider, Web3

CHAIN_ID, GAS = 31337, 21_000
LIMIT, DAILY_LIMIT = 10**18, 10**24
POLL_S = 0.1
TABLE = """
CREATE TABLE IF NOT EXISTS payout(id bigserial PRIMARY KEY, external_id text UNIQUE, recipient text, amount numeric,
                                  status text, tx text, created timestamptz DEFAULT now())
"""
celery = Celery("payouts", broker=os.environ["BENCH_REDIS"], backend=None)
celery.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, task_ignore_result=True)

_opening = threading.Lock()
_local = threading.local()
_shared: dict[str, Any] = {}


def _tools() -> Any:
    """Return a thread's own connections; what may be shared is made once."""
    with _opening:  # without this, threads race on first use and lose payouts
        if not _shared:
            _shared["account"] = Account.from_key(os.environ["BENCH_KEY"])
            _shared["redis"] = redis.Redis.from_url(os.environ["BENCH_REDIS"])
            _shared["http"] = httpx.Client()
    if not hasattr(_local, "node"):
        _local.node = Web3(HTTPProvider(os.environ["BENCH_NODE"]))
        _local.database = psycopg.connect(os.environ["BENCH_DATABASE"], autocommit=True)
    return _local


@celery.task(bind=True, max_retries=3)
def pay(self: Any, payout_id: int, recipient: str, amount: int) -> None:
    """Send one payout and see it through."""
    tools, account = _tools(), _shared["account"]
    nonce = _shared["redis"].incr("nonce") - 1
    signed = account.sign_transaction(
        {
            "type": 2,
            "chainId": CHAIN_ID,
            "nonce": nonce,
            "maxPriorityFeePerGas": 1,
            "maxFeePerGas": int(os.environ["BENCH_FEE"]),
            "gas": GAS,
            "to": Web3.to_checksum_address(recipient),
            "value": amount,
            "data": b"",
        }
    )
    sent = tools.node.eth.send_raw_transaction(signed.raw_transaction)
    tx = "0x" + sent.hex().removeprefix("0x")
    tools.database.execute("UPDATE payout SET status='sent', tx=%s WHERE id=%s", (tx, payout_id))
    receipt = tools.node.eth.wait_for_transaction_receipt(sent, timeout=120, poll_latency=POLL_S)
    state = "confirmed" if receipt["status"] == 1 else "failed"
    tools.database.execute("UPDATE payout SET status=%s WHERE id=%s", (state, payout_id))
    body = json.dumps({"id": payout_id, "status": state, "tx": tx}).encode()
    signature = hmac.new(os.environ["BENCH_SECRET"].encode(), body, hashlib.sha256).hexdigest()
    headers = {"x-dfns-webhook-signature": f"sha256={signature}", "content-type": "application/json"}
    _shared["http"].post(os.environ["BENCH_HOOK"], content=body, headers=headers).raise_for_status()


class Request(BaseModel):
    """What a client asks for."""

    external_id: str
    to: str
    amount: int


def api() -> FastAPI:
    """Return the service; a factory for uvicorn."""
    pool = psycopg_pool.ConnectionPool(os.environ["BENCH_DATABASE"], min_size=8, max_size=8, open=True)
    with pool.connection() as connection:
        connection.execute(TABLE)
    app = FastAPI()

    @app.post("/payouts")
    def request(asked: Request) -> dict[str, Any]:
        with pool.connection() as connection:
            known = connection.execute("SELECT 1 FROM payout WHERE external_id=%s", (asked.external_id,)).fetchone()
            if known:
                raise HTTPException(409)
            recent = connection.execute(
                "SELECT coalesce(sum(amount), 0) FROM payout WHERE created > now() - interval '24 hours'"
            ).fetchone()
            if asked.amount > LIMIT or recent is None or recent[0] + asked.amount > DAILY_LIMIT:
                raise HTTPException(403)
            made = connection.execute(
                "INSERT INTO payout(external_id, recipient, amount, status) VALUES(%s,%s,%s,'queued') RETURNING id",
                (asked.external_id, asked.to, asked.amount),
            ).fetchone()
        assert made is not None
        pay.delay(made[0], asked.to, asked.amount)
        return {"id": made[0], "status": "queued"}

    return app
