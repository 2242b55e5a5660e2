"""A client of the API: reads, signed writes, payouts, retries, a queue that keeps within a rate limit.

Standard library and cryptography only::

    from outlay.client import Client

    client = Client("https://payouts.example", credential_id="cr-…", private_key=open("key.pem").read())
    client.pay(external_id="invoice-7", wallet_id="wa-…", asset="USDC", recipient="0x…", amount="5000000")
"""

from outlay.client.aio import AsyncClient
from outlay.client.answers import ENDED, Payout, PayoutBatch, State
from outlay.client.calls import ApiError, call
from outlay.client.pace import Pace
from outlay.client.people import log_in, register, write_new_key
from outlay.client.queue import PayoutQueue
from outlay.client.retry import ONCE, Retry
from outlay.client.sync import Client, new_external_id

__all__ = [
    "ENDED",
    "ONCE",
    "ApiError",
    "AsyncClient",
    "Client",
    "Pace",
    "Payout",
    "PayoutBatch",
    "PayoutQueue",
    "Retry",
    "State",
    "call",
    "log_in",
    "new_external_id",
    "register",
    "write_new_key",
]
