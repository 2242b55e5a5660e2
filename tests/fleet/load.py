"""Programs that ask the fleet for payouts: carefully, so that each happens once whatever becomes of its answers."""

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from outlay.client import ApiError, Client
from outlay.core.errors import OutcomeUnknown
from tests.fleet.fleet import Fleet
from tests.world import Identity

PATIENCE_S = 90.0
"""How long a program asks for one payout before it gives up, which is a failure."""

PAUSE_S = (0.05, 0.4)
"""Between two tries."""

AGAIN = (429, 500, 502, 503, 504)
"""Answers after which a program asks again; any other 4xx is final."""


@dataclass(kw_only=True)
class Asked:
    """One payout somebody wants, and what the fleet said to it."""

    external_id: str
    by: Identity
    wallet: Any
    to: str
    amount: int
    contract: str
    id: str | None = None
    status: str | None = None  #: of the first answer that told one
    refused: int | None = None  #: the HTTP status of a final refusal
    tries: int = 0
    answered_at: float = 0.0
    said: str = ""  #: the reason that came with it

    @property
    def is_accepted(self) -> bool:
        """Whether it was let go."""
        return self.id is not None and self.status != "Rejected"


@dataclass
class Load:
    """Threads that ask, each payout over one API after the other until there is an answer."""

    fleet: Fleet
    chance: random.Random
    threads: int = 6
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start the threads."""
        self._pool = ThreadPoolExecutor(self.threads)
        self._turn = threading.Lock()

    def ask(self, wanted: Sequence[Asked], *, over_s: float = 0.0) -> "list[Future[None]]":
        """Ask for payouts, spread by chance over ``over_s`` seconds; return what ends with each answer."""
        self.asked += wanted
        begin = time.monotonic()
        plan = sorted((begin + self.chance.uniform(0, over_s), self.chance.random(), each) for each in wanted)
        return [self._pool.submit(self._ask, each, at, random.Random(number)) for at, number, each in plan]

    def close(self) -> None:
        """Wait for whoever still asks."""
        self._pool.shutdown()

    def _ask(self, wanted: Asked, at: float, chance: random.Random) -> None:
        time.sleep(max(0.0, at - time.monotonic()))
        body = {"kind": "Erc20", "contract": wanted.contract, "to": wanted.to, "amount": str(wanted.amount)}
        body["externalId"] = wanted.external_id
        deadline = time.monotonic() + PATIENCE_S
        while True:
            client = self._client(chance.choice(self.fleet.of("api")).url, wanted.by)
            wanted.tries += 1
            try:
                # Signed anew each time: only the externalId says that it is the same payout.
                answer = client.write("POST", f"/wallets/{wanted.wallet['id']}/transfers", body)
            except (OutcomeUnknown, ApiError) as error:
                if isinstance(error, ApiError) and error.status not in AGAIN:
                    wanted.refused, wanted.said = error.status, str(error)
                    return
                if time.monotonic() > deadline:
                    raise
            else:
                wanted.id, wanted.status = answer["id"], answer["status"]
                wanted.said = str(answer.get("reason") or "")
                wanted.answered_at = time.time()
                return
            time.sleep(chance.uniform(*PAUSE_S))

    def _client(self, url: str, by: Identity) -> Client:
        return Client(url, token=by.token, credential_id=by.credential_id, private_key=by.private_key)


def recipient(chance: random.Random) -> str:
    """Return an address that nobody else is paid at."""
    return "0x" + chance.randbytes(20).hex()
